//go:build unix

package agent

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// stubborn is an agent's process that does not end when it is asked to.
func stubborn(t *testing.T) Runner {
	t.Helper()
	user := ""
	if os.Geteuid() == 0 {
		user = "nobody"
	}
	r := Runner{Home: Home{Dir: "/", User: user}, Process: true, State: t.TempDir()}
	ready := filepath.Join(r.State, "out")
	p := process{Dir: r.Dir, User: user, Env: os.Environ(), Record: r.record(),
		Argv: []string{"/bin/sh", "-c", `trap '' INT; echo ready; while :; do sleep 1; done`}}
	out, err := os.Create(ready)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close() //nolint:errcheck // the child has its own
	cmd, err := p.start(t.Context(), out, true)
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = cmd.Wait() }()
	t.Cleanup(func() { _ = endRecorded(context.Background(), r.record(), 9, 0) })
	for begin := time.Now(); ; <-time.After(10 * time.Millisecond) {
		if text, _ := os.ReadFile(ready); len(text) > 0 {
			return r
		}
		if time.Since(begin) > 20*time.Second {
			t.Fatal("it does not start")
		}
	}
}

// A VM that goes in half a minute cannot let its agent take 20 s to end: the server must be told as
// well.
func TestStopLeavesTimeForWhatComesAfter(t *testing.T) {
	r := stubborn(t)
	begin := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), killedBefore+time.Second)
	defer cancel()
	if err := r.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took > killedBefore {
		t.Errorf("it took %s", took)
	}
	if running, _ := r.Running(""); running {
		t.Error("it runs on")
	}
}

// Whoever stops the daemon is not kept waiting by an agent.
func TestStopHearsItsContext(t *testing.T) {
	r := stubborn(t)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, cancel)
	begin := time.Now()
	if err := r.Stop(ctx); !errors.Is(err, context.Canceled) || time.Since(begin) > 5*time.Second {
		t.Errorf("%v after %s", err, time.Since(begin))
	}
}
