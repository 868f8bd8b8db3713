//go:build unix

package bootstrap

import (
	"os"
	"os/exec"
	"strings"
)

// shuttingDown reports whether the whole system goes, for good as far as it can be told. A restart of
// the service is no shutdown, and a reboot is no end. Where there is no systemd (a container), the end
// of the daemon is the end of the machine.
func shuttingDown() bool {
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		return true
	}
	state, _ := exec.Command("systemctl", "is-system-running").Output() // exits with 1 for all but "running"
	jobs, _ := exec.Command("systemctl", "list-jobs", "--no-legend", "--plain").Output()
	for _, again := range []string{"reboot.target", "kexec.target", "soft-reboot.target"} {
		if strings.Contains(string(jobs), again) {
			return false
		}
	}
	return strings.TrimSpace(string(state)) == "stopping"
}
