package image

import (
	"path"
	"regexp"
	"strings"

	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/tree"
)

const daemonUnit = "azp-bootstrap.service"

// unitFolders are where the daemon's unit may lie, the strongest first: install's, and the
// package's as distributions with and without a merged /usr have it.
var unitFolders = []string{unitFolder, "/usr/lib/systemd/system", "/lib/systemd/system"}

const enableIt = "Enable it: azp-bootstrap install."

// HasSystemd reports whether a system boots with systemd.
func HasSystemd(t tree.Tree) bool {
	for _, name := range []string{"/usr/lib/systemd/systemd", "/lib/systemd/systemd"} {
		if _, err := t.Stat(t.Name(name)); err == nil {
			return true
		}
	}
	return false
}

// notEnabled says why the daemon does not start at boot, from the files that systemctl enable
// makes: they are all there is in an image. "" if it does start.
func notEnabled(t tree.Tree) string {
	unit := ""
	for _, dir := range unitFolders {
		if _, err := t.Lstat(t.Name(path.Join(dir, daemonUnit))); err == nil {
			unit = t.Name(path.Join(dir, daemonUnit))
			break
		}
	}
	if unit == "" {
		return "there is no " + daemonUnit
	}
	if to, err := t.Real(unit); err == nil && to == t.Name("/dev/null") {
		return daemonUnit + " is masked (systemctl unmask " + daemonUnit + ")"
	}
	for _, dir := range unitFolders {
		for _, kind := range []string{"wants", "requires", "upholds"} {
			if links, _ := t.Glob(t.Name(path.Join(dir, "*."+kind, daemonUnit))); len(links) > 0 {
				return ""
			}
		}
	}
	return daemonUnit + " is not enabled"
}

// StartsAtBoot looks whether systemd starts the daemon at boot, and notes what may end a job there.
// Where systemd does not run, somebody else starts it.
func StartsAtBoot(t tree.Tree) (notes string, err error) {
	if _, err := t.Stat(t.Name("/run/systemd/system")); err != nil {
		return "", nil
	}
	if why := notEnabled(t); why != "" {
		return "", fault.New(fault.Service, "the daemon does not start at boot: %s", why).Hint(enableIt)
	}
	for _, d := range disturbances(t) {
		notes += "; note: " + d.What + ". " + d.Fix
	}
	return notes, nil
}

// A disturbance is something on a system that may end a job: it restarts services or the machine by
// itself.
type disturbance struct{ What, Fix string }

var (
	aptComment    = regexp.MustCompile(`(?m)/\*(?s:.*?)\*/|^\s*#.*$|(^|\s)//.*$`)
	aptReboot     = regexp.MustCompile(`\bAutomatic-Reboot\s+"?([^";\s]*)"?\s*;`)
	aptTrue       = regexp.MustCompile(`(?i)^(true|yes|with|on|enable|[1-9][0-9]*)$`) // apt's StringToBool
	dnfReboot     = regexp.MustCompile(`(?m)^\s*reboot\s*=\s*(when-needed|when-changed)\s*$`)
	agentsSpared  = regexp.MustCompile(`(?m)^[^#\n]*vsts`)
	dnfAutomatics = []string{"/etc/dnf/automatic.conf", "/etc/dnf/dnf5-plugins/automatic.conf"}
)

// disturbances looks for what restarts services or reboots by itself. needrestart runs after each
// upgrade and, in its automatic mode, restarts whatever uses a library that was replaced.
func disturbances(t tree.Tree) (found []disturbance) {
	installed := func(name string) bool {
		_, err := t.Stat(t.Name(name))
		return err == nil
	}
	read := func(patterns ...string) string {
		var text strings.Builder
		for _, p := range patterns {
			names, _ := t.Glob(t.Name(p))
			for _, name := range names {
				if fi, err := t.Stat(name); err != nil || !fi.Mode().IsRegular() {
					continue
				}
				data, _ := t.ReadFile(name) // what cannot be read says nothing
				text.Write(data)
				text.WriteByte('\n')
			}
		}
		return text.String()
	}
	conf := read("/etc/needrestart/needrestart.conf", "/etc/needrestart/conf.d/*.conf")
	if installed("/usr/sbin/needrestart") && !agentsSpared.MatchString(conf) {
		found = append(found, disturbance{"needrestart may restart the agent while a job runs",
			"Write to /etc/needrestart/conf.d/azp-bootstrap.conf, as the package does: " +
				`$nrconf{override_rc}{qr(^vsts\.agent\.)} = 0;`})
	}
	if installed("/usr/bin/unattended-upgrade") {
		text := aptComment.ReplaceAllString(read("/etc/apt/apt.conf.d/*", "/etc/apt/apt.conf"), "")
		if set := aptReboot.FindAllStringSubmatch(text, -1); len(set) > 0 && aptTrue.MatchString(set[len(set)-1][1]) {
			found = append(
				found,
				disturbance{"unattended-upgrades may reboot the VM while a job runs (Automatic-Reboot)",
					`Write to /etc/apt/apt.conf.d/99azp-bootstrap: Unattended-Upgrade::Automatic-Reboot "false";`},
			)
		}
	}
	for _, name := range dnfAutomatics {
		if m := dnfReboot.FindStringSubmatch(read(name)); m != nil {
			found = append(
				found,
				disturbance{"dnf-automatic may reboot the VM while a job runs (reboot = " + m[1] + ")",
					"Write reboot = never to " + name + "."},
			)
		}
	}
	return found
}
