//go:build unix

package image

import (
	"os"
	"os/exec"
	"slices"
	"strings"
)

// hostName is the name of the host that the image was built on, where it tells one host from
// another.
func (i *image) hostName() string {
	name := ""
	if i.live() {
		name, _ = os.Hostname()
	} else if data, err := i.tree.ReadPlain(i.at("/etc/hostname"), maxText); err == nil {
		name = strings.TrimSpace(string(data))
	}
	name, _, _ = strings.Cut(name, ".")
	if len(name) < 4 || slices.Contains([]string{"localhost", "debian", "ubuntu"}, name) {
		return ""
	}
	return name
}

// cleanLogs removes the journal and empties logs that name the host.
func (i *image) cleanLogs() error {
	i.Say("logs that name this host are emptied")
	if i.live() {
		// From here on the journal is kept in memory (journalctl(1)): what the shutdown says of
		// this host must not be on the disk either. Without systemd there is none.
		_ = exec.Command("journalctl", "--relinquish-var").Run()
	}
	return i.logs(func(name, _ string) error {
		i.removed++
		if strings.Contains(name, ".journal") || strings.HasSuffix(name, ".gz") || strings.HasSuffix(name, ".xz") {
			return i.tree.Remove(name)
		}
		return i.tree.Empty(name)
	})
}

// deep are traces of the host that waagent -deprovision would remove, and cloud-init's of its first
// boot.
var deep = []string{
	"/etc/ssh/ssh_host_*", "/var/lib/systemd/random-seed", "/var/lib/systemd/credential.secret",
	"/var/lib/dhcp/*.lease*", "/var/lib/NetworkManager/*.lease",
	"/var/lib/cloud/instance", "/var/lib/cloud/instances/*", "/var/lib/cloud/data/*", "/var/lib/cloud/sem/*",
	"/var/lib/waagent/*.xml",
}

const (
	machineID     = "/etc/machine-id"
	dbusMachineID = "/var/lib/dbus/machine-id"
)

func (i *image) cleanDeep() error {
	i.Say("SSH host keys, the machine's ID and cloud-init's traces are removed")
	if i.live() {
		// It writes a seed when it stops: now, rather than at the shutdown that follows.
		_ = exec.Command("systemctl", "stop", "systemd-random-seed.service").Run()
	}
	for _, name := range i.matching(deep) {
		if err := i.remove(name); err != nil {
			return err
		}
	}
	// An empty machine-id is filled in by the first boot (machine-id(5)); a missing one would not
	// be where /etc is read-only at that time.
	if fi, err := i.tree.Stat(i.at(machineID)); err == nil && fi.Mode().IsRegular() && fi.Size() > 0 {
		i.removed++
		if err := i.tree.Empty(i.at(machineID)); err != nil {
			return err
		}
	}
	if fi, err := i.tree.Lstat(i.at(dbusMachineID)); err == nil && fi.Mode().IsRegular() {
		return i.remove(i.at(dbusMachineID))
	}
	return nil
}

func (i *image) lintDeep() {
	for _, name := range i.matching(deep) {
		i.remains(name, "belongs to the host that the image was built on",
			"azp-bootstrap seal --deep removes it, or waagent -deprovision.")
	}
	fi, err := i.tree.Stat(i.at(machineID))
	if err != nil {
		return
	}
	if !fi.Mode().IsRegular() {
		i.note(i.at(machineID), "neither a file nor a link to one", "Make it an empty file.")
		return
	}
	data, err := i.tree.ReadPlain(i.at(machineID), maxText)
	if id := strings.TrimSpace(string(data)); err == nil && id != "" && id != "uninitialized" {
		i.note(
			i.at(machineID),
			"every clone would have the same machine's ID",
			"azp-bootstrap seal --deep empties it.",
		)
	}
}

// textFiles are where people leave tokens: configuration, environment, histories.
var textFiles = []string{
	"/etc/environment", "/etc/profile.d/*", "/etc/default/*", unitFolder + "/*.service", unitFolder + "/*.d/*.conf",
	"/root/.*history", "/home/*/.*history", "/root/.netrc", "/home/*/.netrc",
	"/root/.git-credentials", "/home/*/.git-credentials", "/root/.azure/*", "/home/*/.azure/*", "/tmp/*", "/var/tmp/*",
}

// ownRoot is where this machine's own system lies.
func ownRoot() string { return "/" }
