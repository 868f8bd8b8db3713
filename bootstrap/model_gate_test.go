//go:build linux

package bootstrap_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/gate"
	"azp-bootstrap/bootstrap/secret"
)

// gateTime is the start.timeout of simulated VMs.
const gateTime = 3 * time.Minute

// startScript gives a VM a start script, which does what do says, and returns its exit code. It looks each time whether the
// script may run: in each boot until it has ended well, and never beside the agent.
func (m *machine) startScript(do func(ctx context.Context) int) {
	dir := filepath.Join(m.dir, "start-of-"+m.name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "10-disk"), []byte("#!/bin/sh\n"), 0o755); err != nil { //nolint:gosec // a script
		m.t.Fatal(err)
	}
	m.gated = fmt.Sprintf("{run: %q, timeout: %s}", dir, gateTime)
	m.program = func(ctx context.Context, p agent.Program) int {
		if p.Kind != "" { // a hook
			return 0
		}
		if m.isRunning() {
			m.t.Errorf("%s: a start script runs beside the agent", m.name)
		}
		if m.hasPassed() {
			m.t.Errorf("%s: a start script runs again in the same boot", m.name)
		}
		exit := do(ctx)
		if exit == 0 && ctx.Err() == nil {
			m.passes()
		}
		return exit
	}
}

func (m *machine) hasPassed() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.passed
}

// passes notes that the gate is passed in this boot, as it also is where an agent runs.
func (m *machine) passes() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.passed = true
}

// reboots makes a boot before of what the gate has recorded.
func (m *machine) reboots() {
	m.mu.Lock()
	m.passed = false
	m.mu.Unlock()
	file := filepath.Join(m.state, gate.RecordName)
	text, err := os.ReadFile(file)
	if err != nil {
		return
	}
	if err := os.WriteFile(file, append([]byte("before."), text...), 0o600); err != nil {
		m.t.Error(err)
	}
}

// boots starts what the service manager starts: an agent whose VM has a gate waits for the daemon's word.
func (m *machine) boots() {
	if m.disk.service && m.gated == "" {
		m.start()
	}
}

// RunProgram is an effect before a script runs, and after it has ended.
func (m *mortal) RunProgram(
	ctx context.Context, p agent.Program, redactor *secret.Redactor, said func(string),
) (exit int, err error) {
	err = m.to(func() error { exit, err = m.machine.RunProgram(ctx, p, redactor, said); return err })
	return exit, err
}

// hasAGate gives a VM a start script that ends well, asks to be run again, fails, is ended by a signal or hangs.
func (p *play) hasAGate(m *mortal) {
	r := rand.New(rand.NewPCG(p.r.Uint64(), 18))
	m.startScript(func(ctx context.Context) int {
		takes, exit := time.Duration(r.IntN(40))*time.Second, 0
		switch r.IntN(8) {
		case 0:
			takes = time.Hour
		case 1, 2:
			exit = 75
		case 3:
			exit = []int{1, 127, -1}[r.IntN(3)]
		}
		if m.gateOpens {
			exit, takes = 0, time.Second
		}
		select {
		case <-time.After(takes):
			return exit
		case <-ctx.Done():
			return -1
		}
	})
}

// refusedByGate reports whether err is a gate's.
func (m *mortal) refusedByGate(err error) bool {
	return m.gated != "" && fault.From(err).Class == fault.Start
}
