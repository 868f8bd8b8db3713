//go:build unix && !linux

package agent

import (
	"os/exec"
	"strconv"
	"strings"
)

// Working reports whether a job runs; macOS is asked over Azure DevOps alone.
func (r Runner) Working(string) bool { return false }

// startTime identifies a process beyond its number; "" if there is none. macOS has no /proc.
func startTime(pid int) string {
	out, err := exec.Command("/bin/ps", "-o", "lstart=", "-p", strconv.Itoa(pid)).Output() //nolint:gosec // a number
	if err != nil {
		return ""
	}
	return strings.ReplaceAll(strings.TrimSpace(string(out)), " ", "-")
}

// endStrangers ends nothing here.
func (h Home) endStrangers() int { return 0 }
