package agent

import (
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"

	"azp-bootstrap/bootstrap/fault"
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

// apart finds a user number that no account has and nothing runs as. config.sh runs as such a one:
// it holds the PAT, and what jobs have left behind (cron, at, a lingering session) runs as the
// service user, who may read the environment of his own processes. systemd keeps these numbers for
// the users of a single service (systemd.exec(5), DynamicUser=), and notes those that it has given
// away.
func apart() (uid int, err error) {
	for uid = 65519; uid >= 61184; uid-- {
		_, known := user.LookupId(strconv.Itoa(uid))
		_, given := os.Lstat(fmt.Sprintf("/run/systemd/dynamic-uid/%d", uid))
		if known != nil && given != nil && len(processesOf(uid)) == 0 {
			return uid, nil
		}
	}
	return 0, fault.New(fault.Agent, "config.sh needs a user number that nobody has, and all from 61184 to 65519 "+
		"are taken").
		Hint("They are systemd's, for DynamicUser=: look who gave them to accounts (getent passwd).")
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
