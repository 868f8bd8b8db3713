package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/kardianos/service"
	"github.com/spf13/cobra"

	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/image"
	"azp-bootstrap/bootstrap/tree"
)

const serviceName = "azp-bootstrap"

// ownService describes the daemon to the service manager of an OS without systemd.
func (a *app) ownService(cmd *cobra.Command) (service.Service, error) {
	exe, err := ownPath()
	if err != nil {
		return nil, err
	}
	s, err := service.New(nil, ownConfig(exe, givenFlags(cmd)))
	if err != nil {
		return nil, fault.New(fault.Service, "the service manager of this system").Because(err).
			Hint("systemd, launchd and Windows services are supported.")
	}
	return s, nil
}

// ownConfig is the daemon's service: started at boot, and again whenever it ends.
func ownConfig(exe string, flags []string) *service.Config {
	return &service.Config{
		Name: serviceName, DisplayName: "azp-bootstrap", Description: "Join this VM to Azure Pipelines",
		Executable: exe, Arguments: append([]string{"run"}, flags...),
		Option: service.KeyValue{"OnFailure": "restart", "KeepAlive": true, "RunAtLoad": true},
	}
}

func ownPath() (string, error) {
	exe, err := os.Executable()
	if err == nil {
		exe, err = filepath.EvalSymlinks(exe)
	}
	if err != nil {
		return "", fault.New(fault.Service, "the path of this program").Because(err).Hint("In a chroot, mount /proc.")
	}
	return exe, nil
}

// givenFlags are the global flags that the service must be started with, from whichever folder.
func givenFlags(cmd *cobra.Command) (args []string) {
	for _, name := range []string{"config", "state-dir", "log-level", "log-format"} {
		f := cmd.Flags().Lookup(name)
		if !f.Changed {
			continue
		}
		value := f.Value.String()
		if name == "config" || name == "state-dir" {
			if abs, err := filepath.Abs(value); err == nil {
				value = abs
			}
		}
		args = append(args, "--"+name, value)
	}
	return args
}

func managerFault(what string, err error) error {
	return fault.New(fault.Service, "the service %s %s", serviceName, what).Because(err).
		Hint("Look at what the service manager of this system says of it.")
}

func needRoot(what string) error {
	if runtime.GOOS != "windows" && os.Geteuid() != 0 {
		return fault.New(fault.Service, "only root can %s the service", what).Hint("Run it with sudo.")
	}
	return nil
}

func (a *app) installCommand() *cobra.Command {
	var now bool
	c := &cobra.Command{
		Use:   "install",
		Short: "Install the daemon as a service of this OS, enabled",
		Long: `install makes the daemon a service of this OS (systemd, launchd, Windows services) that starts at boot.
At image time that is all; --now starts it on this machine as well. If it runs again, it updates the
service. Where a package (.deb, .rpm) brought the service, it only enables that.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := needRoot("install"); err != nil {
				return err
			}
			if unit := packagedUnit(); unit != "" {
				return enablePackaged(cmd, unit, now)
			}
			if image.HasSystemd(tree.Tree{}) {
				return enableOwn(cmd, now)
			}
			if done, err := a.installNative(cmd, now); done {
				return err
			}
			s, err := a.ownService(cmd)
			if err != nil {
				return err
			}
			running := false
			if st, err := s.Status(); err == nil {
				running = st == service.StatusRunning
				if err := s.Uninstall(); err != nil {
					return managerFault("cannot be replaced", err)
				}
			}
			if err := s.Install(); err != nil {
				return managerFault("cannot be installed", err)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "Installed %s: it starts at boot.\n", serviceName)
			if !running && !now {
				return nil
			}
			if err := s.Start(); err != nil { // replacing it stopped it
				return managerFault("does not start", err)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "Started. Watch it: azp-bootstrap status --wait\n")
			return nil
		},
	}
	c.Flags().BoolVar(&now, "now", false, "start it as well")
	return c
}

func (a *app) uninstallCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "uninstall",
		Short: "Remove the daemon's service; the agent stays as it is",
		Long: `uninstall stops the daemon and removes its service; the agent stays as it is. A service that a package
(.deb, .rpm) brought is stopped and disabled: the package manager removes it.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := needRoot("uninstall"); err != nil {
				return err
			}
			if unit := packagedUnit(); unit != "" {
				return disablePackaged(cmd, unit)
			}
			if image.HasSystemd(tree.Tree{}) {
				return removeOwn(cmd)
			}
			if done, err := a.uninstallNative(cmd); done {
				return err
			}
			s, err := a.ownService(cmd)
			if err != nil {
				return err
			}
			if _, err := s.Status(); err == service.ErrNotInstalled {
				fmt.Fprintf(cmd.OutOrStdout(), "%s is not installed.\n", serviceName)
				return nil
			}
			_ = s.Stop() // it may not be running
			if err := s.Uninstall(); err != nil {
				return managerFault("cannot be removed", err)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "Removed %s.\n", serviceName)
			return nil
		},
	}
}
