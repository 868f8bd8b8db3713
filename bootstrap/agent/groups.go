package agent

import "strings"

// opens says what the members of well-known groups may do beyond their own account.
var opens = map[string]string{
	"docker":          "is root on this VM (it mounts / into a container, by /var/run/docker.sock)",
	"lxd":             "is root on this VM (by LXD's socket)",
	"incus":           "is root on this VM (by Incus's socket)",
	"sudo":            "may become root, as /etc/sudoers says",
	"wheel":           "may become root, as /etc/sudoers says",
	"admin":           "may become root, as /etc/sudoers says",
	"disk":            "reads and writes all disks, and so is root on this VM",
	"shadow":          "reads the accounts' password hashes",
	"libvirt":         "manages virtual machines as root does, and so is root on this VM",
	"adm":             "reads the system's logs",
	"systemd-journal": "reads the system's logs",
}

// Opens says what whoever is in a group may do; "" if that is not known.
func Opens(group string) string { return opens[group] }

// OpensRoot reports whether whoever is in a group is root, or may become it.
func OpensRoot(group string) bool { return strings.Contains(opens[group], "root") }
