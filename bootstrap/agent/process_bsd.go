//go:build unix && !linux

package agent

import (
	"os/exec"
	"path"
	"strconv"
	"strings"
)

// Workers are the processes that run jobs: the number of each, and when it began. Whose they are does
// not matter: in doubt a job runs.
func (r Runner) Workers(string) (workers []string, err error) {
	out, err := exec.Command("/bin/ps", "-axo", "pid=,comm=").Output()
	for _, each := range strings.Split(string(out), "\n") {
		number, name, _ := strings.Cut(strings.TrimSpace(each), " ")
		if pid, e := strconv.Atoi(number); e == nil && path.Base(strings.TrimSpace(name)) == worker {
			workers = append(workers, number+" "+startTime(pid))
		}
	}
	return workers, err
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
