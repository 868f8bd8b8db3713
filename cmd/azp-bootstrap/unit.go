package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/whole"
	"azp-bootstrap/systemd"
)

// The lines of the unit that start this program.
const (
	packagedStart  = "ExecStart=/usr/bin/azp-bootstrap run\n"
	packagedReload = "ExecReload=/usr/bin/azp-bootstrap config check\n"
)

// unitText is the project's own unit, with the path of this program and the flags that were given.
func unitText(exe string, flags []string) (string, error) {
	given := make([]string, 0, len(flags))
	for _, word := range append([]string{exe}, flags...) {
		if strings.ContainsFunc(word, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return "", fault.New(fault.Usage, "%q holds a control character: it can be no part of a unit", word).
				Hint("Name it without line breaks and tabs.")
		}
		given = append(given, systemdQuote(word))
	}
	line := func(what string, command ...string) string {
		return what + "=" + strings.Join(slices.Concat(given[:1], command, given[1:]), " ") + "\n"
	}
	return strings.NewReplacer(
		packagedStart, line("ExecStart", "run"), packagedReload, line("ExecReload", "config", "check"),
	).Replace(systemd.Unit), nil
}

func systemdQuote(s string) string {
	s = strings.ReplaceAll(s, "%", "%%")
	if s == "" || strings.ContainsAny(s, " \t\"'\\$;") {
		return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "$", "$$").Replace(s) + `"`
	}
	return s
}

// enableOwn is install under systemd where no package brought the unit: it writes the unit in place
// and enables it, which works in a chroot as well. If it fails, the service is as it was.
func enableOwn(cmd *cobra.Command, now bool) error {
	exe, err := ownPath()
	if err != nil {
		return err
	}
	text, err := unitText(exe, givenFlags(cmd))
	if err != nil {
		return err
	}
	booted := systemdRuns()
	if now && !booted {
		return fault.New(fault.Service, "systemd does not run here: the service can be enabled, not started").
			Hint("Leave --now out: it starts at boot.")
	}
	old, err := ownText()
	if err != nil {
		return err
	}
	if err := whole.Write(ownUnit, []byte(text), 0o644); err != nil {
		return fault.New(fault.Service, "the service %s cannot be installed", serviceName).Because(err).
			Hint("Run it where %s can be written.", ownUnit)
	}
	if said, err := systemctl(
		"enable",
		unitName,
	); err != nil { // where systemd runs, this lets it read all units again
		return systemctlFault("enabled", said, errors.Join(err, restore(old)))
	}
	out := cmd.OutOrStdout()
	fmt.Fprintf(out, "Installed %s: it starts at boot.\n", serviceName)
	if !booted {
		return nil
	}
	if _, inactive := systemctl("is-active", "--quiet", unitName); inactive != nil && !now {
		return nil
	}
	if said, err := systemctl("restart", unitName); err != nil {
		return fault.New(fault.Service, "the service %s does not start: %s", serviceName, said).Because(err).
			Hint("Look at: systemctl status %s; journalctl -u %s.", serviceName, serviceName)
	}
	fmt.Fprintf(out, "Started. Watch it: azp-bootstrap status --wait\n")
	return nil
}

func systemdRuns() bool {
	_, err := os.Stat("/run/systemd/system")
	return err == nil
}

// ownText is what an earlier install wrote; nil if there was none. What somebody else put in its
// place is refused.
func ownText() ([]byte, error) {
	if to, err := os.Readlink(ownUnit); err == nil && to == "/dev/null" {
		return nil, fault.New(fault.Service, "the service %s is masked: nothing may start it", serviceName).
			Hint("If it may start: systemctl unmask %s, then install again. (A .deb that was removed leaves it so.)",
				serviceName)
	}
	fi, err := os.Lstat(ownUnit)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil && !fi.Mode().IsRegular() {
		err = errors.New("it is no file")
	}
	var old []byte
	if err == nil {
		old, err = os.ReadFile(ownUnit)
	}
	if err != nil {
		return nil, fault.New(fault.Service, "the unit %s is not one of install's", ownUnit).Because(err).
			Hint("Move it away, then install again.")
	}
	return old, nil
}

// restore puts back what an install that failed had replaced.
func restore(old []byte) error {
	var err error
	if old == nil {
		_, _ = systemctl("disable", unitName) // its link may be there already
		err = os.Remove(ownUnit)
	} else {
		err = whole.Write(ownUnit, old, 0o644)
	}
	if systemdRuns() {
		_, _ = systemctl("daemon-reload") // the fault before this one is told
	}
	return err
}

// removeOwn is uninstall under systemd where no package brought the unit.
func removeOwn(cmd *cobra.Command) error {
	out := cmd.OutOrStdout()
	if !regularFile(ownUnit) {
		fmt.Fprintf(out, "%s is not installed.\n", serviceName)
		return nil
	}
	if systemdRuns() {
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
	if err := os.Remove(ownUnit); err != nil {
		return systemctlFault("removed", err.Error(), err)
	}
	if systemdRuns() {
		_, _ = systemctl("daemon-reload") // the unit is stopped and disabled: what it goes on knowing does nothing
	}
	fmt.Fprintf(out, "Removed %s.\n", serviceName)
	return nil
}
