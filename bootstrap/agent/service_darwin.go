package agent

import (
	"context"
	"os"

	"github.com/kardianos/service"

	"azp-bootstrap/bootstrap/fault"
)

const servicePattern = "vsts.agent.{0}.{1}.{2}"

func (h Home) launchDaemon(name string) (service.Service, error) {
	s, err := service.New(nil, h.LaunchDaemon(name))
	if err != nil {
		return nil, serviceFault(name, "cannot be managed", err)
	}
	return s, nil
}

func (h Home) installService(ctx context.Context, s Service) (string, error) {
	if err := s.Check(); err != nil {
		return "", err
	}
	name, err := s.name(servicePattern)
	plist := func(name string) string { return name + ".plist" }
	if err == nil && len(plist(name)) > longestFile {
		name, err = s.short(servicePattern, plist, longestFile)
	}
	if err != nil {
		return "", err
	}
	if agentService(s.Unit) {
		name = s.Unit
	}
	if os.Geteuid() != 0 {
		return name, fault.New(fault.Service, "only root can install the agent's service").
			Hint("Run as root, or set agent.service: process.")
	}
	svc, err := h.launchDaemon(name)
	if err != nil {
		return name, err
	}
	if st, err := svc.Status(); err == nil && st == service.StatusRunning {
		return name, nil
	}
	if err := h.uninstallService(ctx, name); err != nil {
		return name, err
	}
	if err := svc.Install(); err != nil {
		return name, serviceFault(name, "cannot be installed", err)
	}
	if err := h.putOwn(".service", name+"\n", 0o644); err != nil {
		return name, err
	}
	if err := svc.Start(); err != nil {
		return name, serviceFault(name, "does not start", err)
	}
	return name, nil
}

func (h Home) uninstallService(_ context.Context, name string) error {
	if !agentService(name) || os.Geteuid() != 0 {
		return nil
	}
	svc, err := h.launchDaemon(name)
	if err != nil {
		return err
	}
	if _, err := svc.Status(); err == service.ErrNotInstalled {
		return nil
	}
	_ = svc.Stop() // it may not be running
	if err := svc.Uninstall(); err != nil {
		return serviceFault(name, "cannot be removed", err)
	}
	return nil
}

// serviceState is the state in systemd's words, which the rest of the house speaks.
func serviceState(name string) string {
	svc, err := Home{}.launchDaemon(name)
	if err != nil {
		return "unknown"
	}
	return stateOf(svc)
}

func serviceFault(name, what string, err error) error {
	return fault.New(fault.Service, "the agent's service %s %s", name, what).
		Because(err).
		Hint("Look at: launchctl print system/%s.", name)
}
