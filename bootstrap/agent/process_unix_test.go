//go:build unix

package agent

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// A program whose record cannot be written never begins: after a crash nobody would find it.
func TestNothingRunsUnrecorded(t *testing.T) {
	dir := t.TempDir()
	reached(filepath.Dir(dir))
	if err := os.Chmod(dir, 0o777); err != nil { //nolint:gosec // for another user
		t.Fatal(err)
	}
	ran := filepath.Join(dir, "ran")
	p := process{Dir: dir, User: home(t).User, Env: os.Environ(), Record: filepath.Join(dir, "missing", "agent.pid"),
		Argv: []string{"/bin/sh", "-c", "echo >" + ran}}
	out, err := os.Create(filepath.Join(dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close() //nolint:errcheck // only written
	if _, err := p.start(t.Context(), out, false); err == nil {
		t.Error("it says that it began")
	}
	if _, err := os.Stat(ran); err == nil {
		t.Error("it ran")
	}
	p.Record = filepath.Join(dir, "agent.pid")
	cmd, err := p.start(t.Context(), out, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(ran); err != nil {
		t.Errorf("it does not run with a record either: %v", err)
	}
}

// A number that another process has by now is nobody's to end.
func TestStopEndsTheRecordedProcessAlone(t *testing.T) {
	other := exec.Command("/bin/sleep", "100")
	other.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = other.Process.Kill()
		_ = other.Wait()
	}()
	r := Runner{State: t.TempDir(), Process: true}
	for _, record := range []string{"%d 1\n", "%d\n", "-%d 1\n", "x%d 1\n"} {
		if err := os.WriteFile(r.record(), fmt.Appendf(nil, record, other.Process.Pid), 0o600); err != nil {
			t.Fatal(err)
		}
		if running, _ := r.Running(""); running {
			t.Errorf("%q counts as the agent", record)
		}
		if err := r.Stop(t.Context()); err != nil {
			t.Errorf("%q: %v", record, err)
		}
		if startTime(other.Process.Pid) == "" {
			t.Fatalf("%q: another process was ended", record)
		}
	}
}

// Others must not write the log that root appends to.
func TestTheAgentsLogIsNotForOthers(t *testing.T) {
	r := Runner{Home: home(t), Process: true, State: t.TempDir()}
	if err := os.Mkdir(r.Dir, 0o755); err != nil { //nolint:gosec // for another user
		t.Fatal(err)
	}
	reached(r.Dir)
	if err := os.WriteFile(r.path("run.sh"), []byte("#!/bin/sh\n"), 0o755); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	defer syscall.Umask(syscall.Umask(0))
	if _, err := r.Start(t.Context(), Service{}, ""); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); recorded(r.record()) != 0 && time.Now().Before(end); {
		<-time.After(5 * time.Millisecond)
	}
	if fi, err := os.Stat(filepath.Join(r.State, "agent.log")); err != nil || fi.Mode().Perm() != 0o640 {
		t.Errorf("%v, %v", fi, err)
	}
}
