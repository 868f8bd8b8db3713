//go:build linux

package bootstrap_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"azp-bootstrap/bootstrap"
	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/secret"
)

// hooked writes a hook of an event, and the configuration that names it.
func (m *machine) hooked(t *testing.T, event, script string) (said func() string) {
	t.Helper()
	dir, file := filepath.Join(t.TempDir(), "hooks.d"), filepath.Join(t.TempDir(), "said")
	if err := os.MkdirAll(filepath.Join(dir, event), 0o755); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("#!/bin/sh\nsaid=%s\n%s\n", file, script)
	if err := os.WriteFile(filepath.Join(dir, event, "10-a"), []byte(text), 0o755); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	m.set = []string{"hooks.run=" + dir, "hooks.timeout=2s"}
	m.program = func(ctx context.Context, p agent.Program) int { // as a daemon without units runs it
		exit, err := agent.Runner{State: m.state, Process: true}.RunProgram(ctx, p, &secret.Redactor{}, func(string) {})
		if err != nil {
			t.Error(err)
		}
		return exit
	}
	return func() string {
		text, _ := os.ReadFile(file)
		return string(text)
	}
}

// A pause has one run of its hooks, whatever the daemon does meanwhile, and the next pause another.
func TestEachPauseHasOneRun(t *testing.T) {
	fewVMs(t, 1, nil, func(ctx context.Context, t *testing.T, all []*machine) {
		m := all[0]
		said := m.hooked(t, "paused", `echo "$AZP_BOOTSTRAP_REASON by $AZP_BOOTSTRAP_BY" >>$said`)
		paused(ctx, t, m)
		for range 3 {
			end := m.watches(ctx)
			time.Sleep(5 * time.Minute)
			end()
		}
		if got := said(); got != "patches by alice\n" {
			t.Errorf("one pause: %q", got)
		}
		end := m.watches(ctx)
		defer end()
		if _, f := m.resumes(ctx); f != nil {
			t.Error(f)
		}
		time.Sleep(5 * time.Minute)
		if _, f := m.pauses(ctx, bootstrap.Pausing{Reason: "again"}); f != nil {
			t.Error(f)
		}
		time.Sleep(5 * time.Minute)
		if got := said(); got != "patches by alice\nagain by alice\n" {
			t.Errorf("two pauses: %q", got)
		}
	})
}
