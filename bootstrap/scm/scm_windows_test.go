package scm

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/svc"
	"golang.org/x/sys/windows/svc/mgr"
)

// This program is also the service of these tests, and what it starts.
func TestMain(m *testing.M) {
	switch {
	case len(os.Args) > 1 && os.Args[1] == "child":
		<-time.After(time.Minute)
	case len(os.Args) > 1 && os.Args[1] == "deaf":
		_ = svc.Run("", deaf{})
	default:
		os.Exit(m.Run())
	}
}

// deaf is a service that does not hear that it is to stop.
type deaf struct{}

func (deaf) Execute(_ []string, asked <-chan svc.ChangeRequest, state chan<- svc.Status) (bool, uint32) {
	child := exec.Command(os.Args[0], "child")
	if child.Start() != nil {
		return true, 1
	}
	state <- svc.Status{State: svc.Running, Accepts: svc.AcceptStop}
	for c := range asked {
		if c.Cmd == svc.Interrogate {
			state <- c.CurrentStatus
		}
	}
	return true, 1
}

// TestStopAndDelete: a service that does not stop is ended in time, with what it has started; one that somebody looks at
// is marked for deletion, which is as good as gone and is not waited for long.
func TestStopAndDelete(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	m, err := mgr.Connect()
	if err != nil {
		t.Skip("it takes an administrator: ", err)
	}
	defer m.Disconnect()
	const name = "azp-bootstrap-test-deaf"
	s, err := m.CreateService(name, exe, mgr.Config{StartType: mgr.StartManual}, "deaf")
	if err != nil {
		t.Fatal(err)
	}
	closed := false
	defer func() {
		if !closed {
			_ = s.Delete()
			_ = s.Close()
		}
	}()
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	await(t, "runs", func() bool { state, _, err := State(name); return err == nil && state == svc.Running })
	_, pid, err := State(name)
	if err != nil || pid == 0 {
		t.Fatal(pid, err)
	}
	var family []uint32
	await(t, "has a child", func() bool {
		all, err := Processes()
		family = []uint32{pid}
		for _, p := range all {
			if p.Parent == pid {
				family = append(family, p.PID)
			}
		}
		return err == nil && len(family) > 1
	})
	ctx, cancel := context.WithTimeout(context.Background(), 12*time.Second)
	defer cancel()
	begun := time.Now()
	if err := Stop(ctx, name, time.Hour, 10*time.Second); err != nil { // two seconds of patience
		t.Fatalf("after %s: %v", time.Since(begun), err)
	}
	for _, pid := range family {
		await(t, "has ended", func() bool { return !lives(pid) })
	}
	begun = time.Now()
	if err := Delete(ctx, name); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("it was waited for %s while there is little time", took)
	}
	// Looked at by s, it is there still, and cannot be made anew.
	again, err := m.CreateService(name, exe, mgr.Config{StartType: mgr.StartManual})
	if !errors.Is(err, windows.ERROR_SERVICE_MARKED_FOR_DELETE) && !errors.Is(err, windows.ERROR_SERVICE_EXISTS) {
		if err == nil {
			_ = again.Close()
		}
		t.Errorf("made anew: %v", err)
	}
	closed = true
	_ = s.Close()
	await(t, "is gone", func() bool { _, _, err := State(name); return errors.Is(err, ErrNone) })
	if err := Stop(context.Background(), name, time.Second, 0); err != nil {
		t.Errorf("none to stop: %v", err)
	}
	if err := Delete(context.Background(), name); err != nil {
		t.Errorf("none to delete: %v", err)
	}
}

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); <-time.After(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}
