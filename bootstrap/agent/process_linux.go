package agent

import (
	"fmt"
	"os"
	"strings"
)

// Working reports whether a job runs: each has a worker process (bin/Agent.Worker) of its own.
func (h Home) Working() bool {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return false
	}
	for _, e := range entries {
		if n := e.Name(); n[0] < '0' || n[0] > '9' {
			continue
		}
		line, err := os.ReadFile("/proc/" + e.Name() + "/cmdline")
		if err != nil || !strings.HasSuffix(strings.SplitN(string(line), "\x00", 2)[0], "/Agent.Worker") {
			continue
		}
		if exe, err := os.Readlink("/proc/" + e.Name() + "/exe"); err == nil && strings.HasPrefix(exe, h.path("bin")+"/") {
			return true
		}
	}
	return false
}

// startTime identifies a process beyond its number: field 22 of /proc/PID/stat (proc(5)); "" if
// there is no such process or it is a zombie.
func startTime(pid int) string {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	// The name in field 2 may hold spaces and parentheses; it ends at the last one.
	_, rest, ok := strings.Cut(string(data[strings.LastIndexByte(string(data), ')')+1:]), " ")
	f := strings.Fields(rest)
	if !ok || len(f) < 20 || f[0] == "Z" || f[0] == "X" {
		return ""
	}
	return f[19]
}
