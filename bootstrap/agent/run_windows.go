package agent

import (
	"context"
	"path/filepath"
	"strings"

	"github.com/kardianos/service"
	"golang.org/x/sys/windows/svc/mgr"

	"azp-bootstrap/bootstrap/fault"
)

// A Runner keeps the configured agent running, as the Windows service that config.cmd made.
type Runner struct {
	Home
	Process bool   // agent.service: process, which is not for Windows
	State   string // the state folder
}

const servicePattern = "vstsagent.{0}.{1}.{2}"

// configureRecord is unused here: a job object ends config.cmd with the daemon.
func (r Runner) configureRecord() string { return filepath.Join(r.State, "configure.pid") }

func manage(name string) (service.Service, error) {
	s, err := service.New(nil, &service.Config{Name: name})
	if err != nil {
		return nil, serviceFault(name, "cannot be managed", err)
	}
	return s, nil
}

// Start starts the agent's service and returns its name.
func (r Runner) Start(_ context.Context, s Service, _ string) (string, error) {
	if r.Process {
		return "", fault.New(fault.Config, "agent.service: process is for Linux and macOS").
			Hint("Set agent.service: auto.")
	}
	if err := s.Check(); err != nil {
		return "", err
	}
	name, err := s.name(servicePattern) // by which config.cmd made it
	if err != nil {
		return "", err
	}
	if agentService(s.Unit) {
		name = s.Unit
	}
	svc, err := manage(name)
	if err != nil {
		return name, err
	}
	if stateOf(svc) == "active" {
		return name, nil
	}
	if err := r.tell(s); err != nil {
		return name, err
	}
	if err := svc.Start(); err != nil {
		return name, serviceFault(name, "does not start", err)
	}
	return name, nil
}

// Running reports whether the agent runs, and its state.
func (r Runner) Running(name string) (bool, string) {
	svc, err := manage(name)
	if err != nil {
		return false, "unknown"
	}
	state := stateOf(svc)
	return state == "active", state
}

// Stop ends nothing: the service outlives the daemon.
func (r Runner) Stop(context.Context) error { return nil }

// Remove stops and removes the agent's service: the journal's, and what else starts this folder's
// agent, if the journal was lost.
func (r Runner) Remove(_ context.Context, name string) error {
	for _, n := range append(r.services(), name) {
		if !agentService(n) {
			continue
		}
		svc, err := manage(n)
		if err != nil {
			return err
		}
		if _, err := svc.Status(); err == service.ErrNotInstalled {
			continue
		}
		_ = svc.Stop() // it may not be running
		if err := svc.Uninstall(); err != nil {
			return serviceFault(n, "cannot be removed", err)
		}
	}
	return nil
}

// services are the names of the services that start this folder's agent.
func (h Home) services() (names []string) {
	m, err := mgr.Connect()
	if err != nil {
		return nil
	}
	defer m.Disconnect() //nolint:errcheck // nothing pending
	all, _ := m.ListServices()
	for _, n := range all {
		if !agentService(n) {
			continue
		}
		s, err := m.OpenService(n)
		if err != nil {
			continue
		}
		if c, err := s.Config(); err == nil &&
			strings.EqualFold(strings.Trim(c.BinaryPathName, `"`), h.path(`bin\AgentService.exe`)) {
			names = append(names, n)
		}
		_ = s.Close()
	}
	return names
}

func serviceFault(name, what string, err error) error {
	return fault.New(fault.Service, "the agent's service %s %s", name, what).
		Because(err).
		Hint("Look at: sc query %s; the event log.", name)
}
