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

// cleanFolder is a folder clean.d with files.
func cleanFolder(t *testing.T, files map[string]string) (folder string) {
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
	r := Runner{Home: Home{Dir: "/opt/azp-agent", User: "nobody"}, State: t.TempDir(), Process: true}
	err = r.Clean(ctx, folder, "/mnt/work", &secret.Redactor{}, func(script, line string) {
		said = append(said, filepath.Base(script)+" "+line)
	})
	left, _ := os.ReadDir(r.State)
	for _, e := range left {
		if pid, _ := written(r.programRecord(CleanKind)); e.Name() != CleanKind+".pid" || pid != 0 {
			t.Errorf("it leaves %v, and process %d", e, pid)
		}
	}
	return said, err
}

// Scripts run as root: only those that nobody else could have written, one after the other.
func TestCleanRunsRootsScriptsAlone(t *testing.T) {
	t.Setenv("AZP_BOOTSTRAP_SECRET_OF_OURS", "in the daemon's environment")
	folder := cleanFolder(t, map[string]string{
		"20-second":  `echo "$AGENT_FOLDER $WORK_FOLDER"; env | grep -c AZP_; cat`,
		"10-first":   `echo one; echo two >&2`,
		"30-fails":   `exit 3`,
		"README":     `echo no script`,
		"10-first~":  `echo an editor's`,
		"10-b.bak":   `echo a package's`,
		".10-a.swp":  `echo hidden`,
		"50-windows": "exit 0\r",
		"60-floods":  `i=0; while [ $i -lt 1000 ]; do echo $i; i=$((i+1)); done`,
		"70-secrets": `echo abcdefghijklmnopqrstuvwxyz234567abcdefghijklmnopqrst`,
	})
	if err := errors.Join(
		os.Chmod(filepath.Join(folder, "README"), 0o644),
		os.WriteFile(filepath.Join(folder, "50-windows"), []byte("#!/bin/sh\r\nexit 0\r\n"), 0o600), // its mode stays
		os.Symlink("10-first", filepath.Join(folder, "80-link")),
		os.Mkdir(filepath.Join(folder, "90-folder"), 0o755),
	); err != nil {
		t.Fatal(err)
	}
	said, err := cleaned(t.Context(), t, folder)
	want := []string{
		".10-a.swp not run: its name has other characters than letters, digits, _ and -",
		"10-b.bak not run: its name has other characters than letters, digits, _ and -",
		"10-first~ not run: its name has other characters than letters, digits, _ and -",
		"80-link not run: it is no regular file", "90-folder not run: it is no regular file",
		"README not run: it is not executable (chmod +x)",
		"10-first one", "10-first two", "20-second /opt/azp-agent /mnt/work", "20-second 0",
	}
	if len(said) != len(want)+1+cleanOutput+1 || strings.Join(said[:len(want)], "\n") != strings.Join(want, "\n") {
		t.Errorf("%d lines: %q", len(said), said[:min(len(said), 12)])
	}
	if last := said[len(said)-1]; !strings.HasPrefix(last, "70-secrets") || strings.Contains(last, "abcdef") {
		t.Errorf("the last line is %q", last)
	}
	for _, name := range []string{"30-fails ended with exit code 3", "50-windows ended with exit code 127; its first line ends with CR LF"} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%q is not said: %v", name, err)
		}
	}
	for refused, spoil := range map[string]func() error{
		"10-first: others may write it":   func() error { return os.Chmod(filepath.Join(folder, "10-first"), 0o757) },
		"clean.d: others may write it":    func() error { return os.Chmod(folder, 0o777) },
		"others may write it (mode 0757)": func() error { return os.Chmod(filepath.Dir(folder), 0o757) },
		"10-first is empty":               func() error { return os.Truncate(filepath.Join(folder, "10-first"), 0) },
	} {
		folder = cleanFolder(t, map[string]string{"10-first": "echo run", "20-b": "echo run"})
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		if said, err := cleaned(t.Context(), t, folder); len(said) > 0 || err == nil || !strings.Contains(err.Error(), refused) {
			t.Errorf("%s: %q, %v", refused, said, err)
		}
	}
	if said, err := cleaned(t.Context(), t, filepath.Join(t.TempDir(), "none")); len(said) > 0 || err != nil {
		t.Errorf("no folder: %q, %v", said, err)
	}
}

// When the time is over, or the VM goes, nothing of a script runs on.
func TestCleanEndsAllOfAScript(t *testing.T) {
	dir := t.TempDir()
	folder := cleanFolder(t, map[string]string{
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
	folder := cleanFolder(t, map[string]string{"10-leaves": `sleep 300 & echo $!`})
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

// A job can put a link in the work folder's place: root's scripts must not empty what it leads to.
func TestCleanIsNotLedElsewhere(t *testing.T) {
	h, uid := asRoot(t)
	r := Runner{Home: h, Process: true, State: t.TempDir()}
	folder := cleanFolder(t, map[string]string{"10-empties": `find "$WORK_FOLDER"/ -mindepth 1 -delete`})
	victim := filepath.Join(t.TempDir(), "victim")
	kept, link := filepath.Join(victim, "kept"), r.folder("_work")
	if err := errors.Join(os.MkdirAll(kept, 0o755), os.RemoveAll(link), os.MkdirAll(filepath.Dir(link), 0o755),
		os.Symlink(victim, link), os.Lchown(link, uid, uid)); err != nil {
		t.Fatal(err)
	}
	err := r.Clean(t.Context(), folder, "_work", &secret.Redactor{}, func(string, string) {})
	if _, e := os.Stat(kept); e != nil || err == nil {
		t.Errorf("%v; then %v", err, e)
	}
}
