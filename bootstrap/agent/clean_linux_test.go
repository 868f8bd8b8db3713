package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"azp-bootstrap/bootstrap/secret"
)

// scripts are files of a folder clean.d, with their modes.
func scripts(t *testing.T, files map[string]string) (folder string) {
	t.Helper()
	folder = filepath.Join(t.TempDir(), "clean.d")
	if err := os.Mkdir(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		file := filepath.Join(folder, name)
		if err := os.WriteFile(file, []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

// cleaned runs the scripts of a folder.
func cleaned(ctx context.Context, t *testing.T, folder string) (said []string, err error) {
	t.Helper()
	r := Runner{Home: Home{Dir: "/opt/azp-agent", User: "nobody"}, State: t.TempDir()}
	err = r.Clean(ctx, folder, "/mnt/work", &secret.Redactor{}, func(script, line string) {
		said = append(said, filepath.Base(script)+" "+line)
	})
	left, _ := os.ReadDir(r.State)
	for _, e := range left {
		if pid, _ := written(r.cleanRecord()); e.Name() != CleanRecord || pid != 0 {
			t.Errorf("it leaves %v, and process %d", e, pid)
		}
	}
	return said, err
}

// Scripts run as root: only those that nobody else could have written, one after the other.
func TestCleanRunsRootsScriptsAlone(t *testing.T) {
	t.Setenv("AZP_BOOTSTRAP_SECRET_OF_OURS", "in the daemon's environment")
	folder := scripts(t, map[string]string{
		"20-second":  `echo "$AGENT_FOLDER $WORK_FOLDER"; env | grep -c AZP_; cat`,
		"10-first":   `echo one; echo two >&2`,
		"30-fails":   `exit 3`,
		"40-others":  `echo of others`,
		"50-group":   `echo of a group`,
		"README":     `echo no script`,
		"60-floods":  `i=0; while [ $i -lt 1000 ]; do echo $i; i=$((i+1)); done`,
		"70-secrets": `echo abcdefghijklmnopqrstuvwxyz234567abcdefghijklmnopqrst`,
	})
	for name, mode := range map[string]os.FileMode{"40-others": 0o757, "50-group": 0o775, "README": 0o644} {
		if err := os.Chmod(filepath.Join(folder, name), mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(
		os.Symlink("10-first", filepath.Join(folder, "80-link")),
		os.Mkdir(filepath.Join(folder, "90-folder"), 0o755),
	); err != nil {
		t.Fatal(err)
	}
	said, err := cleaned(t.Context(), t, folder)
	want := []string{"10-first one", "10-first two", "20-second /opt/azp-agent /mnt/work", "20-second 0"}
	if len(said) != len(want)+cleanOutput+1 || strings.Join(said[:len(want)], "\n") != strings.Join(want, "\n") {
		t.Errorf("%d lines: %q", len(said), said[:min(len(said), 6)])
	}
	if last := said[len(said)-1]; !strings.HasPrefix(last, "70-secrets") || strings.Contains(last, "abcdef") {
		t.Errorf("the last line is %q", last)
	}
	for _, name := range []string{"30-fails ended with exit code 3", "40-others was not run", "50-group was not run",
		"80-link was not run", "90-folder was not run"} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%q is not said: %v", name, err)
		}
	}
	if err := os.Chmod(folder, 0o777); err != nil {
		t.Fatal(err)
	}
	if said, err := cleaned(t.Context(), t, folder); len(said) > 0 || err == nil {
		t.Errorf("a folder where others may write: %q, %v", said, err)
	}
	if said, err := cleaned(t.Context(), t, filepath.Join(t.TempDir(), "none")); len(said) > 0 || err != nil {
		t.Errorf("no folder: %q, %v", said, err)
	}
}

// When the time is over, or the VM goes, nothing of a script runs on.
func TestCleanEndsAllOfAScript(t *testing.T) {
	dir := t.TempDir()
	folder := scripts(t, map[string]string{
		"10-hangs": fmt.Sprintf(`sleep 300 & echo $! >%[1]s/pid.new; mv %[1]s/pid.new %[1]s/pid; wait`, dir),
		"20-next":  `echo next`,
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	begun := make(chan string, 1)
	go func() {
		for ctx.Err() == nil {
			if pid, err := os.ReadFile(filepath.Join(dir, "pid")); err == nil {
				begun <- strings.TrimSpace(string(pid))
				cancel()
				return
			}
			time.Sleep(time.Millisecond)
		}
	}()
	said, err := cleaned(ctx, t, folder)
	if len(said) > 0 || err == nil || !strings.Contains(err.Error(), "10-hangs did not end in time") ||
		!strings.Contains(err.Error(), "20-next was not run") {
		t.Errorf("%q, %v", said, err)
	}
	pid := 0
	if _, err := fmt.Sscan(<-begun, &pid); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); startTime(pid) != ""; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the script's child %d runs on", pid)
		}
	}
}

// What a script leaves behind ends with it.
func TestCleanLeavesNothingRunning(t *testing.T) {
	folder := scripts(t, map[string]string{"10-leaves": `sleep 300 & echo $!`})
	said, err := cleaned(t.Context(), t, folder)
	pid := 0
	if err != nil || len(said) != 1 {
		t.Fatal(said, err)
	}
	if _, err := fmt.Sscan(strings.TrimPrefix(said[0], "10-leaves "), &pid); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); startTime(pid) != ""; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d runs on", pid)
		}
	}
}
