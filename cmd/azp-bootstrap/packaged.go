package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/fault"
)

const (
	unitName = serviceName + ".service"
	ownUnit  = "/etc/systemd/system/" + unitName // what install writes; it stands in front of the package's
	asideExt = ".before-package"
)

// packagedUnit is the unit that a package (.deb, .rpm) brought; "" if none did. It is the
// package's: it is enabled and disabled, never written or deleted.
func packagedUnit() string {
	for _, dir := range []string{"/usr/lib/systemd/system", "/lib/systemd/system"} {
		if name := filepath.Join(dir, unitName); regularFile(name) {
			return name
		}
	}
	return ""
}

func regularFile(name string) bool {
	fi, err := os.Lstat(name)
	return err == nil && fi.Mode().IsRegular()
}

func systemctl(args ...string) (string, error) {
	out, err := exec.Command("systemctl", args...).CombinedOutput() //nolint:gosec // our own words
	return strings.TrimSpace(string(out)), err
}

func systemctlFault(what, said string, err error) error {
	return fault.New(fault.Service, "the service %s cannot be %s: %s", serviceName, what, said).Because(err).
		Hint("Look at: systemctl status %s.", serviceName)
}

// enablePackaged is install where a package brought the unit: it enables that, which works in a
// chroot as well, and with now starts it. If it fails, the service is as it was.
func enablePackaged(cmd *cobra.Command, unit string, now bool) error {
	if flags := givenFlags(cmd); len(flags) > 0 {
		var line strings.Builder
		for _, f := range append([]string{"/usr/bin/azp-bootstrap", "run"}, flags...) {
			line.WriteString(" " + systemdQuote(f))
		}
		return fault.New(fault.Usage, "%s is the package's, and knows nothing of %s", unit, flags[0]).
			Hint("Write a drop-in, then install without it: systemctl edit %s, with these lines: "+
				"[Service], ExecStart=, ExecStart=%s.", serviceName, line.String()[1:])
	}
	_, err := os.Stat("/run/systemd/system")
	booted := err == nil
	if now && !booted {
		return fault.New(fault.Service, "systemd does not run here: the service can be enabled, not started").
			Hint("Leave --now out: it starts at boot.")
	}
	before, _ := systemctl("is-enabled", unitName) // says it of any state, also with an exit code
	if strings.HasPrefix(before, "masked") {
		return fault.New(fault.Service, "the service %s is masked: somebody wants that nothing starts it", serviceName).
			Hint("If it may start: systemctl unmask %s, then install again.", serviceName)
	}
	out := cmd.OutOrStdout()
	aside := false
	if regularFile(ownUnit) {
		if err := os.Rename(ownUnit, ownUnit+asideExt); err != nil {
			return fault.New(fault.Service, "%s stands in front of the package's unit", ownUnit).Because(err).
				Hint("Move it away, then install again.")
		}
		aside = true
	}
	if said, err := systemctl("enable", unitName); err != nil {
		if aside {
			err = errors.Join(err, os.Rename(ownUnit+asideExt, ownUnit))
		}
		return systemctlFault("enabled", said, err)
	}
	if aside {
		fmt.Fprintf(out, "Set aside %s, which an earlier install wrote: it is %s now.\n", ownUnit, ownUnit+asideExt)
	}
	fmt.Fprintf(out, "Enabled %s, which the package brings: it starts at boot.\n", unit)
	_, inactive := systemctl("is-active", "--quiet", unitName)
	if !booted || !now && inactive != nil {
		return nil
	}
	if said, err := systemctl("restart", unitName); err != nil {
		return fault.New(fault.Service, "the service %s does not start: %s", serviceName, said).Because(err).
			Hint("Look at: systemctl status %s; journalctl -u %s.", serviceName, serviceName)
	}
	fmt.Fprintf(out, "Started. Watch it: azp-bootstrap status --wait\n")
	return nil
}

// disablePackaged is uninstall where a package brought the unit.
func disablePackaged(cmd *cobra.Command, unit string) error {
	if _, err := os.Stat("/run/systemd/system"); err == nil {
		if said, err := systemctl("stop", unitName); err != nil {
			return systemctlFault("stopped", said, err)
		}
	}
	if said, err := systemctl("disable", unitName); err != nil {
		return systemctlFault("disabled", said, err)
	}
	if err := (agent.Runner{}).LowerWall(cmd.Context()); err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	if err := os.Remove(ownUnit + asideExt); err == nil {
		fmt.Fprintf(out, "Removed %s.\n", ownUnit+asideExt)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return systemctlFault("removed", err.Error(), err)
	}
	if regularFile(ownUnit) {
		fmt.Fprintf(
			out,
			"Disabled. %s stays, which stands in front of the package's unit: delete it if nobody needs it.\n",
			ownUnit,
		)
		return nil
	}
	fmt.Fprintf(out, "Disabled %s. It is the package's: apt remove azp-bootstrap, or dnf remove azp-bootstrap, "+
		"removes it.\n", unit)
	return nil
}
