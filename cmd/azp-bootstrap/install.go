package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/kardianos/service"
	"github.com/spf13/cobra"

	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/systemd"
)

const serviceName = "azp-bootstrap"

// ownService describes the daemon to the OS's service manager. Under systemd it is the project's own
// unit, with the path of this binary and the global flags that were given.
func (a *app) ownService(cmd *cobra.Command) (service.Service, error) {
	exe, err := os.Executable()
	if err == nil {
		exe, err = filepath.EvalSymlinks(exe)
	}
	if err != nil {
		return nil, fault.New(fault.Service, "the path of this program").Because(err)
	}
	args := append([]string{"run"}, givenFlags(cmd)...)
	var start []string
	for _, arg := range append([]string{exe}, args...) {
		start = append(start, systemdQuote(arg))
	}
	unit := strings.Replace(systemd.Unit, "ExecStart=/usr/bin/azp-bootstrap run", "ExecStart="+strings.Join(start, " "), 1)
	s, err := service.New(nil, &service.Config{
		Name: serviceName, DisplayName: "azp-bootstrap", Description: "Join this VM to Azure Pipelines",
		Executable: exe, Arguments: args,
		Option: service.KeyValue{"SystemdScript": unit, "OnFailure": "restart"},
	})
	if err != nil {
		return nil, fault.New(fault.Service, "the service manager of this system").Because(err).Hint("systemd, launchd and Windows services are supported.")
	}
	return s, nil
}

func systemdQuote(s string) string {
	s = strings.ReplaceAll(s, "%", "%%")
	if strings.ContainsAny(s, " \t\"'\\$;") {
		return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "$", "$$").Replace(s) + `"`
	}
	return s
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
At image time that is all; --now starts it on this machine as well. If it is asked again, it brings the
service up to date. Where a package (.deb, .rpm) brought the service, it only enables that.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := needRoot("install"); err != nil {
				return err
			}
			if unit := packagedUnit(); unit != "" {
				return enablePackaged(cmd, unit, now)
			}
			s, err := a.ownService(cmd)
			if err != nil {
				return err
			}
			running := false
			if st, err := s.Status(); err == nil {
				running = st == service.StatusRunning
				if err := s.Uninstall(); err != nil {
					return fault.New(fault.Service, "the service %s cannot be replaced", serviceName).Because(err).Hint("Look at: systemctl status %s.", serviceName)
				}
			}
			if err := s.Install(); err != nil {
				return fault.New(fault.Service, "the service %s cannot be installed", serviceName).Because(err).Hint("Look at: systemctl status %s.", serviceName)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "Installed %s: it starts at boot.\n", serviceName)
			if !running && !now {
				return nil
			}
			err = s.Start() // replacing it stopped it
			if err != nil {
				return fault.New(fault.Service, "the service %s does not start", serviceName).Because(err).Hint("Look at: systemctl status %s; journalctl -u %s.", serviceName, serviceName)
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
				return fault.New(fault.Service, "the service %s cannot be removed", serviceName).Because(err).Hint("Look at: systemctl status %s.", serviceName)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "Removed %s.\n", serviceName)
			return nil
		},
	}
}
