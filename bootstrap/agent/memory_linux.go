package agent

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// OOMKills is how many processes of the agent's service the kernel has killed for want of memory
// since the service started: oom_kill of its control group's memory.events (Linux,
// Documentation/admin-guide/cgroup-v2.rst). ok is false where nobody counts: cgroup v1, or an agent
// that is a process.
func OOMKills(service string) (kills int, ok bool) {
	if service == "" {
		return 0, false
	}
	data, err := os.ReadFile(filepath.Join("/sys/fs/cgroup/system.slice", filepath.Base(service), "memory.events"))
	if err != nil {
		return 0, false
	}
	return oomKills(string(data))
}

func oomKills(events string) (kills int, ok bool) {
	for line := range strings.Lines(events) {
		if n, is := strings.CutPrefix(line, "oom_kill "); is {
			kills, err := strconv.Atoi(strings.TrimSpace(n))
			return kills, err == nil && kills >= 0
		}
	}
	return 0, false
}
