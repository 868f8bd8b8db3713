package agent

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/svc"
	"golang.org/x/sys/windows/svc/mgr"

	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/scm"
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
	// config.cmd has named it; by which rule, the agent's version says. It is the one that starts this folder's
	// agent: whose program a service starts, administrators alone can say.
	if own := r.services(); len(own) == 1 {
		name = own[0]
	}
	state, _, err := scm.State(name)
	if err != nil {
		return name, serviceFault(name, "cannot be managed", err)
	}
	if err := onWord(name, s.Marks.InstanceID); err != nil {
		return name, err
	}
	if state == svc.Running {
		return name, nil
	}
	if err := r.tell(s); err != nil {
		return name, err
	}
	err = scm.With(name, windows.SERVICE_START, func(s *mgr.Service) error { return s.Start() })
	if err != nil && !errors.Is(err, windows.ERROR_SERVICE_ALREADY_RUNNING) {
		return name, serviceFault(name, "does not start", err)
	}
	return name, nil
}

// serviceWords are a service's states as systemd calls them.
var serviceWords = map[svc.State]string{
	svc.Stopped: "inactive", svc.StartPending: "activating", svc.StopPending: "deactivating", svc.Running: "active",
	svc.ContinuePending: "active", svc.PausePending: "active", svc.Paused: "active",
}

// Running reports whether the agent runs, and its state.
func (r Runner) Running(name string) (bool, string) {
	if !agentService(name) {
		return false, "unknown"
	}
	state, _, err := scm.State(name)
	word := serviceWords[state]
	switch {
	case errors.Is(err, scm.ErrNone):
		word = "inactive"
	case err != nil || word == "":
		word = "unknown"
	}
	return word == "active", word
}

// Stop ends nothing: the service outlives the daemon.
func (r Runner) Stop(context.Context) error { return nil }

// Times of the agent's service: how long it may take to stop, as its unit has on Linux, and how long before
// a deadline it is ended.
const stopPatience, killedBefore = 5 * time.Minute, 10 * time.Second

// Remove stops and removes the agent's service: the journal's, and what else starts this folder's
// agent, if the journal was lost. An agent that runs on would take jobs that nobody knows of.
func (r Runner) Remove(ctx context.Context, name string) error {
	all := r.services()
	if !slices.ContainsFunc(all, func(n string) bool { return strings.EqualFold(n, name) }) {
		all = append(all, name)
	}
	for _, n := range all {
		if !agentService(n) {
			continue
		}
		if err := scm.Stop(ctx, n, stopPatience, killedBefore); err != nil {
			return serviceFault(n, "cannot be stopped", err)
		}
		if err := scm.Delete(ctx, n); err != nil {
			return serviceFault(n, "cannot be removed", err)
		}
	}
	return nil
}

// services are the names of the services that start this folder's agent.
func (h Home) services() []string {
	begin, _, _ := strings.Cut(servicePattern, "{")
	names, _ := scm.Starting(begin, h.path(`bin\AgentService.exe`)) // else the journal's word counts alone
	return names
}

func serviceFault(name, what string, err error) error {
	return fault.New(fault.Service, "the agent's service %s %s", name, what).
		Because(err).
		Hint("Look at: sc query %s; the event log.", name)
}
