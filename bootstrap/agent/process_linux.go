package agent

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// Working reports whether a job runs: each has a worker process (bin/Agent.Worker) of its own.
func (r Runner) Working(string) bool {
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
		if exe, err := os.Readlink("/proc/" + e.Name() + "/exe"); err == nil && strings.HasPrefix(exe, r.path("bin")+"/") {
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

// systemAccounts are below this number (SYS_UID_MAX of login.defs(5) and one more): accounts that are there for one
// service, not for people.
const systemAccounts = 1000

// endStrangers ends every process of the service user and returns how many there were. Before a registration
// that is not the folder's first, jobs have run as that user, and what they left outside the agent's control
// group (cron, at, a lingering session) could read the PAT in config.sh's environment. An account that
// people share is left alone.
func (h Home) endStrangers() int {
	u, err := account(h.User)
	if err != nil || os.Geteuid() != 0 {
		return 0
	}
	uid, _ := ids(u)
	if uid <= 0 || uid >= systemAccounts || !h.inUse() {
		return 0
	}
	ended := map[int]bool{}
	for range 20 { // they may multiply
		found := processesOf(uid)
		if len(found) == 0 {
			break
		}
		for _, pid := range found {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			ended[pid] = true
		}
	}
	return len(ended)
}

// processesOf are the processes of a user, but for zombies.
func processesOf(uid int) (pids []int) {
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		data, err := os.ReadFile("/proc/" + e.Name() + "/status")
		if err != nil {
			continue
		}
		_, ids, _ := strings.Cut(string(data), "\nUid:")
		if f := strings.Fields(strings.SplitN(ids, "\n", 2)[0]); len(f) < 2 || f[0] != strconv.Itoa(uid) && f[1] != strconv.Itoa(uid) {
			continue
		}
		if startTime(pid) != "" {
			pids = append(pids, pid)
		}
	}
	return pids
}
