package agent

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// ProcessStart tells a process from a later one of the same number; "" if there is none. seen is
// false if the one who asks may not look at it.
func ProcessStart(pid int) (start string, seen bool) {
	if start = startTime(pid); start != "" {
		return start, true
	}
	return "", visible(pid)
}

// Alive reports whether the agent runs, the service manager's word for it ("unknown" if it cannot
// be looked at), and since when that is so, if anybody knows. Everybody may ask. service is "" for
// an agent that is a process.
func Alive(stateDir, service string) (runs bool, word string, since time.Time) {
	r := Runner{State: stateDir, Process: service == ""}
	runs, word = r.Running(service)
	if service != "" {
		return runs, word, changedAt(service)
	}
	if pid, ok := recordedPID(filepath.Join(stateDir, "agent.pid")); !runs && (!ok || pid > 1 && !visible(pid)) {
		word = "unknown"
	}
	return runs, word, time.Time{}
}

// recordedPID is the number in a record, 0 if there is no record; ok is false if it may not be
// read.
func recordedPID(record string) (pid int, ok bool) {
	data, err := os.ReadFile(record) //nolint:gosec // the state folder's
	number, _, _ := strings.Cut(strings.TrimSpace(string(data)), " ")
	pid, _ = strconv.Atoi(number)
	return pid, err == nil || os.IsNotExist(err)
}
