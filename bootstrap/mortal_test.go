//go:build linux

package bootstrap_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing/synctest"
	"time"

	"azp-bootstrap/bootstrap"
	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/secret"
)

// A mortal machine can lose its power at each of its effects: before and after every request that
// reaches Azure, and before and after everything that it does to its agent.
type mortal struct {
	*machine
	cutAt     int // the number of the effect; 0 = none
	effects   int
	dead      bool
	cancel    context.CancelFunc
	kept      disk
	files     map[string][]byte // of the state folder
	gone      bool              // was terminated
	mayCut    bool              // its job, as an operator said --now
	gateOpens bool              // from now on its start script ends well
	free      atomic.Uint64     // bytes on its work disk
}

var errDead = errors.New("the power is off")

// effect counts; it reports false if there is no power.
func (m *mortal) effect() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dead {
		return false
	}
	if m.effects++; m.effects != m.cutAt {
		return true
	}
	m.dead = true
	m.kept = m.disk
	m.files = map[string][]byte{}
	names, _ := filepath.Glob(filepath.Join(m.state, "*"))
	for _, n := range names {
		m.files[n], _ = os.ReadFile(n)
	}
	m.cancel()
	return false
}

// to does something that has an effect, if there is power before, and says whether there still is
// after.
func (m *mortal) to(do func() error) error {
	if !m.effect() {
		return errDead
	}
	err := do()
	if !m.effect() {
		return errDead
	}
	return err
}

func (m *mortal) Configure(
	ctx context.Context,
	r agent.Registration,
	pat secret.PAT,
	redactor *secret.Redactor,
	line func(string),
) (id int, err error) {
	err = m.to(func() error { id, err = m.machine.Configure(ctx, r, pat, redactor, line); return err })
	return id, err
}

// Enrol is an effect before the server is asked, and after the disk is written; what lies between are
// requests, which are effects themselves.
func (m *mortal) Enrol(
	ctx context.Context,
	r agent.Registration,
	add func(context.Context, agent.Newcomer) (agent.Enrolment, error),
) (id int, err error) {
	err = m.to(func() error { id, err = m.machine.Enrol(ctx, r, add); return err })
	return id, err
}

func (m *mortal) Start(ctx context.Context, s agent.Service, ca string) (name string, err error) {
	if m.gated != "" && !m.hasPassed() {
		m.t.Errorf("%s: the agent starts before the gate of this boot is passed", m.name)
	}
	return "", m.to(func() error { _, err := m.machine.Start(ctx, s, ca); return err })
}

func (m *mortal) Remove(ctx context.Context, service string) error {
	return m.to(func() error {
		m.endsJob("its agent's service is removed")
		return m.machine.Remove(ctx, service)
	})
}

// endsJob: the product stops the agent. A job that runs then is cut, which only an operator may
// want.
func (m *mortal) endsJob(why string) {
	if m.Working("") && !m.mayCut {
		m.t.Errorf("%s: a job that has %s left is cut: %s", m.name, time.Until(m.busyUntil), why)
	}
	m.busyUntil = time.Time{}
}
func (m *mortal) Wipe() error { return m.to(m.machine.Wipe) }

// lives runs do with power until the effect of this number (0 = for good), then puts back what was
// on the disk at that instant.
func (m *mortal) lives(
	ctx context.Context,
	cutAt int,
	do func(ctx context.Context, o bootstrap.Options) error,
) (cut bool, err error) {
	ctx, m.cancel = context.WithCancel(ctx)
	defer m.cancel()
	m.power(true)
	m.cutAt, m.effects = cutAt, 0
	if m.isRunning() {
		m.passes()
	}
	o := m.options(30 * time.Minute)
	o.Agent = m
	err = do(ctx, o)
	synctest.Wait() // what the product began beside, and what the servers still do of it
	if m.powered() {
		return false, err
	}
	m.stop() // with the registration that it runs by, which may be newer than the disk's
	m.disk = m.kept
	names, _ := filepath.Glob(filepath.Join(m.state, "*"))
	for _, n := range names {
		_ = os.Remove(n)
	}
	for n, data := range m.files {
		if err := os.WriteFile(n, data, 0o600); err != nil {
			m.t.Fatal(err)
		}
	}
	m.reboots()
	m.power(true)
	return true, nil
}

func (m *mortal) power(on bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dead = !on
}

func (m *mortal) powered() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return !m.dead
}

// clone copies a disk.
func (m *mortal) clone(from *mortal) {
	m.disk = from.disk
	_ = os.RemoveAll(m.state)
	if err := os.CopyFS(m.state, os.DirFS(from.state)); err != nil && !errors.Is(err, os.ErrNotExist) {
		m.t.Fatal(err)
	}
}

// off ends the VM's processes.
func (m *machine) off() {
	m.stop()
	m.busyUntil = time.Time{}
	m.reboots()
}

// instance is the VM's ID.
func (m *machine) instance() string {
	var i int
	_, _ = fmt.Sscanf(m.name, "web_%d", &i)
	return fmt.Sprintf("5c7a1b1e-0000-4d3a-9a00-%012d", i)
}

// agentName is the name under which this VM registers.
func (m *machine) agentName() string {
	if m.called != "" {
		return m.called
	}
	var i int
	_, _ = fmt.Sscanf(m.name, "web_%d", &i)
	return fmt.Sprintf("web-%06d", i)
}

func (f *fleet) online(instance string) (n int) {
	for _, a := range f.azure.Agents() {
		if a.InstanceID == instance && a.Status == "online" {
			n++
		}
	}
	return n
}
