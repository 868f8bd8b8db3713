package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
)

// Workers are the processes that run jobs, the oldest first: the number of each, and when it began. The
// error says that it cannot be found out.
//
// What is asked is what no job can leave: the agent's control group, or its session. Of each
// process there the name and the owner are read, which everybody may, and which the kernel answers
// by itself. The command line lies in the process's memory: who maps a file system of its own there
// (FUSE) lets its readers wait for ever. The program (/proc/PID/exe) only CAP_SYS_PTRACE shows,
// which the daemon's unit does not have.
func (r Runner) Workers(service string) ([]string, error) {
	uid, known := r.jobsUser()
	if !known {
		return nil, fmt.Errorf("nobody knows the account %s that jobs run as", r.User)
	}
	var pids []int
	var err error
	switch {
	case r.Process:
		pids = session(r.record())
	case agentService(service):
		pids, err = members(service)
	default: // which service it is was lost
		for _, unit := range r.units(unitFolder) {
			of, e := members(unit)
			pids, err = append(pids, of...), errors.Join(err, e)
		}
	}
	type process struct{ pid, begun int }
	var found []process
	for _, pid := range pids {
		if works(pid, uid) {
			if f := stat(pid); len(f) > 19 { // else it has ended meanwhile
				begun, _ := strconv.Atoi(f[19])
				found = append(found, process{pid, begun})
			}
		}
	}
	slices.SortFunc(found, func(a, b process) int { return cmp.Or(cmp.Compare(a.begun, b.begun), cmp.Compare(a.pid, b.pid)) })
	var workers []string
	for _, f := range found {
		workers = append(workers, fmt.Sprint(f.pid, " ", f.begun))
	}
	return workers, err
}

// jobsUser is the number of the account that jobs run as. While a directory that knows it is away, it
// is the owner of the agent's folder: root gave it to that account.
func (r Runner) jobsUser() (uid int, known bool) {
	u, err := account(r.User)
	if err == nil {
		uid, _ = ids(u)
		return uid, true
	}
	fi, err := os.Lstat(r.Dir)
	if err != nil || !fi.IsDir() {
		return 0, false
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok || st.Uid == 0 {
		return 0, false
	}
	return int(st.Uid), true
}

// works reports whether a process is a worker of this user's. Its name is that of the file it was
// started from (proc(5), comm); .NET leaves it alone.
func works(pid, uid int) bool {
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil || strings.TrimSuffix(string(name), "\n") != worker {
		return false
	}
	_, owner := owners(pid)
	return owner == uid
}

// session are the processes of the session that a recorded process began: field 6 of /proc/PID/stat
// (proc(5)). A number is not given away anew while a session has it, so they are found when that
// process has ended as well.
func session(record string) (pids []int) {
	leader, _ := written(record)
	for _, pid := range processes() {
		if f := stat(pid); leader != 0 && len(f) > 3 && f[3] == strconv.Itoa(leader) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// members are the processes in the control group of a service; none if there is no such service.
func members(service string) ([]int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := dbus.NewWithContext(ctx)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	p, err := c.GetServicePropertyContext(ctx, service, "ControlGroup")
	if err != nil {
		return nil, err
	}
	group, ok := p.Value.Value().(string)
	switch {
	case !ok || group != "" && !strings.HasPrefix(group, "/"):
		return nil, fmt.Errorf("systemd names no control group of %s", service)
	case group == "": // it does not run
		return nil, nil
	}
	return inGroup("/sys/fs/cgroup", group)
}

// inGroup are the processes of a control group and those below it: in systemd's own hierarchy where
// there are several (cgroup v1), else in the only one.
func inGroup(root, group string) (pids []int, err error) {
	dir := filepath.Join(root, "systemd", group)
	if _, err := os.Stat(filepath.Join(root, "systemd")); errors.Is(err, fs.ErrNotExist) {
		dir = filepath.Join(root, group)
	}
	err = filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && name != dir {
			return nil // a group that ended meanwhile
		}
		if err != nil || !d.IsDir() {
			return err
		}
		text, err := os.ReadFile(filepath.Join(name, "cgroup.procs")) //nolint:gosec // the kernel's
		for _, number := range strings.Fields(string(text)) {
			if pid, err := strconv.Atoi(number); err == nil {
				pids = append(pids, pid)
			}
		}
		return err
	})
	return pids, err
}
