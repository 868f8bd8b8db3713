package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/svc"
	"golang.org/x/sys/windows/svc/eventlog"
	"golang.org/x/sys/windows/svc/mgr"

	"azp-bootstrap/bootstrap/acl"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/scm"
)

// stopsWithin is how long the daemon may take to stop before its process is ended.
const stopsWithin = time.Minute

// installNative makes the daemon a service of Windows, or changes the one that is there in place: one that
// is removed may stay until whoever looks at it has looked away.
func (a *app) installNative(cmd *cobra.Command, now bool) (done bool, err error) {
	exe, err := ownPath()
	if err != nil {
		return true, err
	}
	if err := protectOwn(); err != nil {
		return true, err
	}
	line := windows.ComposeCommandLine(append([]string{exe, "run", "--service"}, givenFlags(cmd)...))
	state, _, err := scm.State(serviceName)
	there := err == nil
	if err != nil && !errors.Is(err, scm.ErrNone) {
		return true, managerFault("cannot be looked at", err)
	}
	running := there && state != svc.Stopped
	if running {
		if err := scm.Stop(cmd.Context(), serviceName, stopsWithin, 0); err != nil {
			return true, managerFault("cannot be stopped", err)
		}
	}
	if there {
		err = changeService(line)
	} else {
		err = createService(line)
	}
	switch {
	case errors.Is(err, windows.ERROR_SERVICE_MARKED_FOR_DELETE):
		return true, fault.New(fault.Service, "the service %s is being removed", serviceName).Because(err).
			Hint("Close what looks at services (services.msc, Task Manager), then install again.")
	case errors.Is(err, windows.ERROR_ACCESS_DENIED):
		return true, fault.New(fault.Service, "only an administrator can install the service").Because(err).
			Hint("Run it in an elevated prompt.")
	case err != nil:
		return true, managerFault("cannot be installed", err)
	}
	if err := scm.With(serviceName, windows.SERVICE_ALL_ACCESS, furnish); err != nil {
		fmt.Fprintf(cmd.ErrOrStderr(), "The service is installed, but not all of it is as it should be: %v\n", err)
	}
	fmt.Fprintf(cmd.OutOrStdout(), "Installed %s: it starts at boot.\n", serviceName)
	if !running && !now {
		return true, nil
	}
	if err := scm.With(serviceName, windows.SERVICE_START, func(s *mgr.Service) error { return s.Start() }); err != nil {
		return true, managerFault("does not start", err)
	}
	fmt.Fprintf(cmd.OutOrStdout(), "Started. Watch it: azp-bootstrap status --wait\n")
	return true, nil
}

// protectOwn keeps others from configuration and state where they usually are, before anything is believed of them:
// whoever prepares an image or installs the service is an administrator, and answers for what is there.
func protectOwn() error {
	if err := acl.ProtectOwn(); err != nil {
		return fault.New(fault.State, "the folder %s cannot be kept from others", acl.OwnFolder()).Because(err).
			Hint("Run it as an administrator.")
	}
	return nil
}

const displayName, description = "azp-bootstrap", "Joins this VM to Azure Pipelines, and takes it out when the VM goes"

func createService(line string) error {
	m, err := mgr.Connect()
	if err != nil {
		return err
	}
	defer m.Disconnect() //nolint:errcheck // nothing pending
	name, err := windows.UTF16PtrFromString(serviceName)
	if err != nil {
		return err
	}
	display, err := windows.UTF16PtrFromString(displayName)
	if err != nil {
		return err
	}
	program, err := windows.UTF16PtrFromString(line)
	if err != nil {
		return err
	}
	h, err := windows.CreateService(m.Handle, name, display, windows.SERVICE_ALL_ACCESS, windows.SERVICE_WIN32_OWN_PROCESS,
		windows.SERVICE_AUTO_START, windows.SERVICE_ERROR_NORMAL, program, nil, nil, nil, nil, nil)
	if err != nil {
		return err
	}
	return windows.CloseServiceHandle(h)
}

// changeService gives the service that is there this command line, and lets it start at boot.
func changeService(line string) error {
	program, err := windows.UTF16PtrFromString(line)
	if err != nil {
		return err
	}
	return scm.With(serviceName, windows.SERVICE_CHANGE_CONFIG, func(s *mgr.Service) error {
		return windows.ChangeServiceConfig(s.Handle, windows.SERVICE_NO_CHANGE, windows.SERVICE_AUTO_START,
			windows.SERVICE_NO_CHANGE, program, nil, nil, nil, nil, nil, nil)
	})
}

// furnish is what makes the service one to rely on: it is started again when it fails, also when it ends in
// good order with an exit code; Windows waits for it before it shuts down; the event log knows it.
func furnish(s *mgr.Service) error {
	again := []mgr.RecoveryAction{
		{Type: mgr.ServiceRestart, Delay: 5 * time.Second},
		{Type: mgr.ServiceRestart, Delay: 30 * time.Second},
		{Type: mgr.ServiceRestart, Delay: time.Minute},
	}
	named := func(what string, err error) error {
		if err == nil {
			return nil
		}
		return fmt.Errorf("%s: %w", what, err)
	}
	what, err := windows.UTF16PtrFromString(description)
	if err != nil {
		return err
	}
	about := windows.SERVICE_DESCRIPTION{Description: what}
	return errors.Join(
		named("description", changeDescription(s, &about)),
		named("recovery", s.SetRecoveryActions(again, uint32((10*time.Minute).Seconds()))),
		named("recovery from exit codes", s.SetRecoveryActionsOnNonCrashFailures(true)),
		named("time before shutdown", setBeforeShutdown(s.Handle)),
		named("event log", registerEvents()),
	)
}

// uninstallNative stops and removes the daemon's service.
func (a *app) uninstallNative(cmd *cobra.Command) (done bool, err error) {
	ctx, cancel := context.WithTimeout(cmd.Context(), 2*stopsWithin)
	defer cancel()
	if _, _, err := scm.State(serviceName); errors.Is(err, scm.ErrNone) {
		fmt.Fprintf(cmd.OutOrStdout(), "%s is not installed.\n", serviceName)
		return true, nil
	}
	if err := scm.Stop(ctx, serviceName, stopsWithin, 10*time.Second); err != nil {
		return true, managerFault("cannot be stopped", err)
	}
	if err := scm.Delete(ctx, serviceName); err != nil {
		return true, managerFault("cannot be removed", err)
	}
	_ = eventlog.Remove(serviceName) // the events stay, and can be read
	fmt.Fprintf(cmd.OutOrStdout(), "Removed %s.\n", serviceName)
	return true, nil
}
