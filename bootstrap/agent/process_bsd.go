//go:build unix && !linux

package agent

import (
	"os/exec"
	"path"
	"strconv"
	"strings"
)

// Working reports whether a job runs: each has a worker process of its own. Whose it is does not
// matter: in doubt a job runs.
func (r Runner) Working(string) bool {
	out, err := exec.Command("/bin/ps", "-axo", "comm=").Output()
	for _, name := range strings.Split(string(out), "\n") {
		if path.Base(strings.TrimSpace(name)) == worker {
			return true
		}
	}
	return err != nil
}

// startTime identifies a process beyond its number; "" if there is none. macOS has no /proc.
func startTime(pid int) string {
	out, err := exec.Command("/bin/ps", "-o", "lstart=", "-p", strconv.Itoa(pid)).Output() //nolint:gosec // a number
	if err != nil {
		return ""
	}
	return strings.ReplaceAll(strings.TrimSpace(string(out)), " ", "-")
}

// apart is for Linux alone: here config.sh runs as the service user.
func apart() (uid int, err error) { return 0, nil }
