package agent

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// asNews is a home whose service user is an account that other tests leave alone.
func asNews(t *testing.T) (h Home, uid int) {
	t.Helper()
	u, err := user.Lookup("news")
	if os.Geteuid() != 0 || err != nil {
		t.Skip("needs root, and the account news")
	}
	uid, _ = ids(u)
	dir := t.TempDir()
	for d := dir; d != "/tmp" && d != "/"; d = filepath.Dir(d) {
		_ = os.Chmod(d, 0o755)
	}
	return Home{Dir: filepath.Join(dir, "agent"), User: "news"}, uid
}

// started runs a program under a name, in a session of its own, as the user of this number (0 = the
// caller's), and returns the session's leader.
func started(t *testing.T, dir string, uid int, script string) int {
	t.Helper()
	cmd := exec.Command("/bin/bash", "-c", script)
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if uid != 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
	})
	_, _ = out.Read(make([]byte, 1)) // it says that it is there
	return cmd.Process.Pid
}

// What the daemon's unit leaves to root: CapabilityBoundingSet of systemd/azp-bootstrap.service.
var unitCapabilities = []uint{
	unix.CAP_SETUID,
	unix.CAP_SETGID,
	unix.CAP_CHOWN,
	unix.CAP_FOWNER,
	unix.CAP_DAC_OVERRIDE,
	unix.CAP_KILL,
}

// confined does something on a thread that has no more capabilities than the unit, and ends with
// it.
func confined(t *testing.T, do func()) {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked
		var set uint32
		for _, c := range unitCapabilities {
			set |= 1 << c
		}
		data := [2]unix.CapUserData{{Effective: set, Permitted: set}}
		err := unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &data[0])
		if err == nil {
			do()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// A job of another user's is seen with the rights that the unit has, also after the agent's
// self-update, when bin is a link.
func TestWorkingSeesAJob(t *testing.T) {
	h, uid := asNews(t)
	state := t.TempDir()
	r := Runner{Home: h, Process: true, State: state}
	working := func() (is bool) {
		confined(t, func() { is = r.Working("") })
		return is
	}
	if working() {
		t.Error("a job runs where no agent is")
	}
	if err := os.MkdirAll(h.path("bin.4.250.0"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("bin.4.250.0", h.path("bin")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/bin/sleep", h.path("bin.4.250.0/"+worker)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, script string
		uid          int
		want         bool
	}{
		{"an idle listener", "echo; exec sleep 60", uid, false},
		{"another program that knows the name", "echo; exec sleep 60 # bin/Agent.Worker", uid, false},
		{"a worker", "./bin/Agent.Worker 60 & echo; wait", uid, true},
		{"a worker by its whole path", h.path("bin/"+worker) + " 60 & echo; wait", uid, true},
		{"a worker of a version", "./bin.4.250.0/Agent.Worker 60 & echo; wait", uid, true},
		{"a worker that calls itself otherwise", "exec -a other ./bin/Agent.Worker 60 & echo; wait", uid, true},
		{"another program that calls itself a worker", "exec -a bin/Agent.Worker sleep 60 & echo; wait", uid, false},
		{"a worker that is not the agent's user's", "./bin/Agent.Worker 60 & echo; wait", 0, false},
		{"a worker whose listener has ended", "./bin/Agent.Worker 60 & echo; exit", uid, true},
	} {
		leader := started(t, h.Dir, c.uid, c.script)
		if err := os.WriteFile(r.record(), fmt.Appendf(nil, "%d %s\n", leader, startTime(leader)), 0o600); err != nil {
			t.Fatal(err)
		}
		got := working()
		for end := time.Now().Add(5 * time.Second); got != c.want && c.want && time.Now().Before(end); got = working() {
			time.Sleep(5 * time.Millisecond) // the shell is about to start it
		}
		if got != c.want {
			t.Errorf("%s: a job runs: %v", c.name, got)
		}
	}
	started(t, h.Dir, uid, "setsid ./bin/Agent.Worker 60 & echo; wait")
	leader := started(t, h.Dir, uid, "echo; exec sleep 60")
	if err := os.WriteFile(r.record(), fmt.Appendf(nil, "%d %s\n", leader, startTime(leader)), 0o600); err != nil {
		t.Fatal(err)
	}
	if working() {
		t.Error("a worker of another session counts")
	}
}

// As a service, what cannot be found out counts as a job; what is not there does not.
func TestWorkingInDoubt(t *testing.T) {
	h, _ := asNews(t)
	r := Runner{Home: h}
	for _, name := range []string{"", "ssh.service", "vsts.agent.a/../b.service", "vsts.agent.\n.service"} {
		if r.Working(name) {
			t.Errorf("%q has a job", name)
		}
	}
	if _, err := os.Stat("/run/dbus/system_bus_socket"); err != nil && !r.Working("vsts.agent.a.b.c.service") {
		t.Error("systemd cannot be asked, and no job runs")
	}
	r.User = "no-such-account-here"
	if !r.Working("") {
		t.Error("the account is not known, and no job runs")
	}
}

func TestInGroup(t *testing.T) {
	for _, hierarchy := range []string{"", "systemd"} {
		root := t.TempDir()
		if hierarchy != "" {
			if err := os.MkdirAll(filepath.Join(root, "memory/system.slice/a.service"), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		group := filepath.Join(root, hierarchy, "system.slice/a.service")
		for name, text := range map[string]string{".": "11\n12\n", "sub": "13\n", "sub/sub": "", "other": "0\n14\n"} {
			if err := os.MkdirAll(filepath.Join(group, name), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(group, name, "cgroup.procs"), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		pids, err := inGroup(root, "/system.slice/a.service")
		slices.Sort(pids)
		if err != nil || !slices.Equal(pids, []int{0, 11, 12, 13, 14}) {
			t.Errorf("%q: %v, %v", hierarchy, pids, err)
		}
		if _, err := inGroup(root, "/system.slice/b.service"); err == nil {
			t.Errorf("%q: a group that cannot be read has nobody in it", hierarchy)
		}
	}
}

// While the directory that knows the account is away, the owner of the agent's folder tells whose jobs
// they are: an idle VM can leave.
func TestWorkingWithoutTheDirectory(t *testing.T) {
	h, uid := asNews(t)
	h.User = "gone@corp.example"
	r := Runner{Home: h, Process: true, State: t.TempDir()}
	if !r.Working("") {
		t.Error("no job runs, by nobody's word")
	}
	if err := os.Mkdir(h.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if !r.Working("") {
		t.Error("no job runs, by the word of a folder that is root's")
	}
	if err := os.Chown(h.Dir, uid, uid); err != nil {
		t.Fatal(err)
	}
	if r.Working("") {
		t.Error("a job runs, and there is none")
	}
}

// Each job is told from the next, and the older process from the younger.
func TestWorkersAreTold(t *testing.T) {
	h, uid := asNews(t)
	r := Runner{Home: h, Process: true, State: t.TempDir()}
	if err := os.MkdirAll(h.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/bin/sleep", h.path(worker)); err != nil {
		t.Fatal(err)
	}
	leader := started(t, h.Dir, uid, "./Agent.Worker 60 & sleep 0.1; ./Agent.Worker 60 & sleep 0.1; echo; wait")
	if err := os.WriteFile(r.record(), fmt.Appendf(nil, "%d %s\n", leader, startTime(leader)), 0o600); err != nil {
		t.Fatal(err)
	}
	first, err := r.Workers("")
	again, e := r.Workers("")
	if err != nil || e != nil || len(first) != 2 || !slices.Equal(first, again) {
		t.Fatal(first, again, err, e)
	}
	var begun [2]int
	for i, w := range first {
		var pid int
		if _, err := fmt.Sscan(w, &pid, &begun[i]); err != nil || startTime(pid) != fmt.Sprint(begun[i]) {
			t.Error(w, err)
		}
	}
	if begun[0] >= begun[1] {
		t.Error(first)
	}
	r.User = "no-such-account-here"
	r.Dir = "/nowhere"
	if _, err := r.Workers(""); err == nil {
		t.Error("nobody knows the account, and no job runs")
	}
}
