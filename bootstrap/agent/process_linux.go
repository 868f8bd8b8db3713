package agent

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// startTime identifies a process beyond its number: field 22 of /proc/PID/stat (proc(5)); "" if
// there is no such process or it is a zombie.
func startTime(pid int) string {
	f := stat(pid)
	if len(f) < 20 || f[0] == "Z" || f[0] == "X" {
		return ""
	}
	return f[19]
}

// stat is /proc/PID/stat from its field 3 on; nil if there is no such process.
func stat(pid int) []string {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	// The name in field 2 may hold spaces and parentheses; it ends at the last one.
	return strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
}

// systemAccounts are below this number (SYS_UID_MAX of login.defs(5) and one more): accounts that are there for one
// service, not for people.
const systemAccounts = 1000

// endStrangers ends every process of the service user and returns how many there were. Before a registration
// that is not the folder's first (whether the VM has left meanwhile or not), jobs have run as that user, and what they left outside the agent's control
// group (cron, at, a lingering session) could read the PAT in config.sh's environment. An account that
// people share is left alone.
func (h Home) endStrangers() int {
	u, err := account(h.User)
	if err != nil || os.Geteuid() != 0 {
		return 0
	}
	uid, gid := ids(u)
	if uid <= 0 || uid >= systemAccounts || !h.hadJobs() {
		return 0
	}
	ended := map[int]bool{}
	for round := 0; round < 20; round++ {
		found := processesOf(uid)
		if len(found) == 0 && round > 0 {
			break
		}
		for _, pid := range found {
			ended[pid] = true
		}
		killAllOf(uid, gid)
	}
	return len(ended)
}

// killAllOf ends every process of a user at one blow: the kernel lets none fork while it goes through them (kill(2), pid -1).
// Processes that live for microseconds and fork on are seen by no look into /proc, and outrun one that ends them by
// number. The one who asks must be that user.
func killAllOf(uid, gid int) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", "kill -s KILL -- -1")
	cmd.Env, cmd.Dir = []string{}, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}} //nolint:gosec // account numbers
	_ = cmd.Run()                                                                                               // none is there: that is an error as well
}

// processesOf are the processes of a user, but for zombies.
func processesOf(uid int) (pids []int) {
	for _, pid := range processes() {
		if real, effective := owners(pid); (real == uid || effective == uid) && startTime(pid) != "" {
			pids = append(pids, pid)
		}
	}
	return pids
}

func processes() (pids []int) {
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// owners are a process's users, the real and the effective one; -1 if there is no such process.
func owners(pid int) (real, effective int) {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, ids, _ := strings.Cut(string(data), "\nUid:")
	f := strings.Fields(strings.SplitN(ids, "\n", 2)[0])
	if len(f) < 2 {
		return -1, -1
	}
	real, err := strconv.Atoi(f[0])
	if err == nil {
		effective, err = strconv.Atoi(f[1])
	}
	if err != nil {
		return -1, -1
	}
	return real, effective
}
