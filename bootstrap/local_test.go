//go:build linux

package bootstrap_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"azp-bootstrap/bootstrap"
	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/sim"
	"azp-bootstrap/bootstrap/sim/standin"
)

// A real machine has the stand-in for Microsoft's agent on its disk, and reaches Azure over TCP, in real
// time: processes do not live in virtual time.
type real struct {
	sim.Addresses
	agent string // folder
}

func (r *real) user() string {
	if os.Geteuid() == 0 {
		return "nobody"
	}
	return ""
}

func (r *real) config(m *machine, limit time.Duration) string {
	return fmt.Sprintf("url: https://dev.azure.com/contoso\ntarget: {environment: {project: Shop, name: production}}\ncredential: {keyVault: {url: https://contoso.vault.azure.net, secret: azp-pat}}\nagent: {dir: %q, service: process, user: %q, configureTimeout: %s}\nnetwork: {caFile: %q, proxy: %q}\nimds: {endpoint: %q}\ndeadline: %s\n",
		r.agent, r.user(), limit/3, r.CA, r.Proxy, r.IMDS[m.name], limit)
}

// programs builds both programs and returns their folder.
var programs = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "azp-programs-")
	if err != nil {
		return "", err
	}
	atEnd = append(atEnd, func() { _ = os.RemoveAll(dir) })
	build := exec.Command("go", "build", "-o", dir, "azp-bootstrap/cmd/...")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return dir, nil
})

// packages are those that were made, by behaviour.
var packages sync.Map

type madePackage struct{ file, sum string }

func packageOf(behaviour string) (madePackage, error) {
	made, _ := packages.LoadOrStore(behaviour, sync.OnceValues(func() (madePackage, error) {
		dir, err := programs()
		if err != nil {
			return madePackage{}, err
		}
		p := madePackage{file: filepath.Join(dir, "package-"+behaviour, "vsts-agent-linux-x64-4.248.0.tar.gz")}
		if err := os.Mkdir(filepath.Dir(p.file), 0o755); err != nil {
			return p, err
		}
		p.sum, err = standin.WritePackage(p.file, filepath.Join(dir, "azp-sim"), behaviour)
		return p, err
	}))
	return made.(func() (madePackage, error))()
}

// realMachine is a VM with an Azure of its own.
func realMachine(t *testing.T) *machine { return realMachines(t, 1)[0] }

// realMachines are VMs of one Azure.
func realMachines(t *testing.T, n int) (all []*machine) {
	t.Helper()
	dir, err := os.MkdirTemp("", "azp-real-")
	if err == nil {
		err = os.Chmod(dir, 0o755) // the agent's user passes through
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s, err := sim.Load("")
	if err != nil {
		t.Fatal(err)
	}
	severalVMs(s, n)
	f := &fleet{t: t, dir: dir, pat: s.PATs[0].Value}
	if f.azure, err = sim.New(s, dir); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	go func() {
		_ = f.azure.Serve(ctx, sim.Listen{IMDS: "127.0.0.1:0", Proxy: "127.0.0.1:0", Control: "127.0.0.1:0", Dir: dir})
	}()
	var where sim.Addresses
	for end := time.Now().Add(20 * time.Second); ; <-time.After(5 * time.Millisecond) {
		data, err := os.ReadFile(filepath.Join(dir, "sim.json"))
		if err == nil && json.Unmarshal(data, &where) == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal("no simulator")
		}
	}
	for i := range n {
		disk := filepath.Join(dir, fmt.Sprint("disk", i))
		m := &machine{fleet: f, name: fmt.Sprintf("web_%d", i), state: filepath.Join(disk, "state"), real: &real{where, filepath.Join(disk, "opt", "agent")}}
		for _, d := range []string{m.state, filepath.Dir(m.real.agent)} {
			if err := os.MkdirAll(d, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		t.Cleanup(func() { m.reap(t) })
		all = append(all, m)
	}
	return all
}

// disk is the folder of all that is on the VM's disk.
func (r *real) disk() string { return filepath.Dir(filepath.Dir(r.agent)) }

// prepare is image time.
func (m *machine) prepare(t *testing.T, behaviour string) {
	t.Helper()
	home := agent.Home{Dir: m.real.agent, User: m.real.user()}
	p, err := packageOf(behaviour)
	if err == nil {
		_, err = bootstrap.Prepare(t.Context(), bootstrap.Options{Version: "test"}, bootstrap.Preparation{Home: home, Package: p.file, SHA256: p.sum, Report: func(string, ...any) {}})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// reap ends the agent, and says what else still runs on the machine.
func (m *machine) reap(t *testing.T) {
	m.powerOff("agent.pid")
	for end := time.Now().Add(5 * time.Second); ; <-time.After(10 * time.Millisecond) {
		left := m.processes()
		if len(left) == 0 {
			return
		}
		if time.Now().After(end) {
			t.Errorf("processes are left: %v", left)
			for pid := range left {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
			return
		}
	}
}

// powerOff ends the groups of processes that these records of the daemon's name.
func (m *machine) powerOff(records ...string) {
	for _, record := range records {
		data, err := os.ReadFile(filepath.Join(m.state, record))
		if err != nil {
			continue
		}
		pid, err := strconv.Atoi(strings.Fields(string(data))[0])
		if err == nil && pid > 1 {
			_ = syscall.Kill(-pid, syscall.SIGKILL)
		}
	}
}

// processes are those that work in the agent's folder.
func (m *machine) processes() map[int]string {
	left := map[int]string{}
	all, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range all {
		cwd, err := os.Readlink(p + "/cwd")
		if err != nil || !strings.HasPrefix(cwd, m.real.disk()+"/") {
			continue
		}
		line, _ := os.ReadFile(p + "/cmdline")
		if pid, err := strconv.Atoi(filepath.Base(p)); err == nil && len(line) > 0 {
			left[pid] = strings.ReplaceAll(string(line), "\x00", " ")
		}
	}
	return left
}

// A localFault is a row of the matrix for what is wrong on the VM itself. It stays until it is mended.
type localFault struct {
	name      string
	behaviour string // of the stand-in
	spoil     func(t *testing.T, m *machine)
	mend      func(t *testing.T, m *machine)
	want      string // as for the network: "=" "~class" "!class"
}

var stateFile = func(m *machine) string { return filepath.Join(m.state, "state.json") }

func writes(content string) func(t *testing.T, m *machine) {
	return func(t *testing.T, m *machine) {
		if err := os.WriteFile(stateFile(m), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func removes(t *testing.T, m *machine) {
	if err := os.RemoveAll(stateFile(m)); err != nil {
		t.Fatal(err)
	}
}

// mounted puts a small file system of its own at a folder, and ends the test where that may not be.
func mounted(t *testing.T, m *machine, dir string) {
	if err := unix.Mount("azp-test", dir, "tmpfs", 0, "size=64m,mode=755"); err != nil {
		t.Skipf("no file system can be mounted here: %v", err)
	}
	t.Cleanup(func() {
		m.reap(t)
		_ = unix.Unmount(dir, unix.MNT_DETACH)
	})
}

// full fills the file system of a folder.
func full(t *testing.T, dir string) {
	f, err := os.Create(filepath.Join(dir, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // it is full
	chunk := make([]byte, 4096)
	for err == nil {
		_, err = f.Write(chunk)
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
}

func emptied(t *testing.T, dir string) {
	if err := os.Remove(filepath.Join(dir, "filler")); err != nil {
		t.Fatal(err)
	}
}

func readOnly(t *testing.T, dir string, yes bool) {
	flags := uintptr(unix.MS_REMOUNT)
	if yes {
		flags |= unix.MS_RDONLY
	}
	if err := unix.Mount("azp-test", dir, "tmpfs", flags, ""); err != nil {
		t.Fatal(err)
	}
}

// localOutcomes are what must become of each.
var localOutcomes = map[string]string{
	"state.json is empty":                           "=",
	"state.json is truncated":                       "=",
	"state.json is random bytes":                    "=",
	"state.json is of a future schema":              "!state",
	"state.json is of a VM whose clock was in 2099": "=",
	"state.json is of a VM whose clock was in 1970": "=",
	"state.json is a link to elsewhere":             "!state",
	"state.json is a folder":                        "!state",
	"state folder on a full disk":                   "!state",
	"state folder read-only":                        "!state",
	"agent folder on a full disk":                   "!agent",
	"agent folder read-only":                        "!agent",
	"another run holds the lock":                    "~state",
	"config.sh is missing":                          "=",
	"config.sh may not be executed":                 "!agent",
	"the package is gone":                           "!agent",
	"config.sh: hang":                               "~agent",
	"config.sh: fail":                               "!agent",
	"config.sh: flood":                              "=",
	"config.sh: binary":                             "=",
	"config.sh: children":                           "=",
	"config.sh: half":                               "~agent",
	"config.sh: files-only":                         "!service",
	"config.sh: killed":                             "~agent",
	"config.sh: clock":                              "~agent",
	"config.sh: no-dependencies":                    "!agent",
	"config.sh: exit-2":                             "~agent",
	"config.sh: exit-3":                             "!agent",
	"config.sh: exit-4":                             "!agent",
	"config.sh: exit-126":                           "!agent",
	"config.sh: exit-127":                           "!agent",
	"config.sh: exit-134":                           "~agent",
}

func localFaults() []localFault {
	agentDir := func(m *machine) string { return filepath.Dir(m.real.agent) }
	inAgent := func(change func(file string) error) func(t *testing.T, m *machine) {
		return func(t *testing.T, m *machine) {
			if err := change(filepath.Join(m.real.agent, "config.sh")); err != nil {
				t.Fatal(err)
			}
		}
	}
	again := func(t *testing.T, m *machine) { m.prepare(t, "") }
	rows := []localFault{
		{name: "state.json is empty", spoil: writes("")},
		{name: "state.json is truncated", spoil: writes(`{"schema":1,"phase":"regis`)},
		{name: "state.json is random bytes", spoil: writes("\x00\xff\x17\x80 \x01\x02{")},
		{name: "state.json is of a future schema", spoil: writes(`{"schema":99,"phase":"ready"}`), mend: removes},
		{name: "state.json is of a VM whose clock was in 2099", spoil: writes(`{"schema":1,"instanceId":"5c7a1b1e-0000-4d3a-9a00-000000000000","phase":"credential","attempt":3,"startedAt":"2099-01-01T00:00:00Z","phases":[{"name":"discover","startedAt":"2099-01-01T00:00:00Z","seconds":1,"retries":0}]}`)},
		{name: "state.json is of a VM whose clock was in 1970", spoil: writes(`{"schema":1,"instanceId":"5c7a1b1e-0000-4d3a-9a00-000000000000","phase":"credential","attempt":3,"startedAt":"1970-01-01T00:00:00Z","phases":[]}`)},
		{name: "state.json is a link to elsewhere", mend: removes, spoil: func(t *testing.T, m *machine) {
			elsewhere := filepath.Join(m.dir, "elsewhere")
			if err := errors.Join(os.WriteFile(elsewhere, []byte("somebody's"), 0o600), os.Symlink(elsewhere, stateFile(m))); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if data, err := os.ReadFile(elsewhere); string(data) != "somebody's" {
					t.Errorf("the file elsewhere was changed: %q, %v", data, err)
				}
			})
		}},
		{name: "state.json is a folder", mend: removes, spoil: func(t *testing.T, m *machine) {
			if err := os.Mkdir(stateFile(m), 0o755); err != nil {
				t.Fatal(err)
			}
		}},
		{name: "state folder on a full disk", spoil: func(t *testing.T, m *machine) { mounted(t, m, m.state); full(t, m.state) },
			mend: func(t *testing.T, m *machine) { emptied(t, m.state) }},
		{name: "state folder read-only", spoil: func(t *testing.T, m *machine) { mounted(t, m, m.state); readOnly(t, m.state, true) },
			mend: func(t *testing.T, m *machine) { readOnly(t, m.state, false) }},
		{name: "agent folder on a full disk", spoil: func(t *testing.T, m *machine) {
			mounted(t, m, agentDir(m))
			m.prepare(t, "")
			full(t, agentDir(m))
		}, mend: func(t *testing.T, m *machine) { emptied(t, agentDir(m)) }},
		{name: "agent folder read-only", spoil: func(t *testing.T, m *machine) {
			mounted(t, m, agentDir(m))
			m.prepare(t, "")
			readOnly(t, agentDir(m), true)
		}, mend: func(t *testing.T, m *machine) { readOnly(t, agentDir(m), false) }},
		{name: "another run holds the lock", spoil: func(t *testing.T, m *machine) {
			f, err := os.Create(filepath.Join(m.state, "lock"))
			if err == nil {
				err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
			}
			if err != nil {
				t.Fatal(err)
			}
			m.held = f
		}, mend: func(_ *testing.T, m *machine) { _ = m.held.Close() }},
		{name: "config.sh is missing", spoil: inAgent(os.Remove)},
		{name: "config.sh may not be executed", spoil: inAgent(func(f string) error { return os.Chmod(f, 0o644) }), mend: again},
		{name: "the package is gone", mend: again, spoil: func(t *testing.T, m *machine) {
			if err := errors.Join(os.RemoveAll(m.real.agent), os.RemoveAll(m.real.agent+".package")); err != nil {
				t.Fatal(err)
			}
		}},
	}
	for _, b := range []string{"hang", "fail", "flood", "binary", "children", "half", "files-only", "killed", "clock", "no-dependencies", "exit-2", "exit-3", "exit-4", "exit-126", "exit-127", "exit-134"} {
		rows = append(rows, localFault{name: "config.sh: " + b, behaviour: b, mend: again})
	}
	for i := range rows {
		rows[i].want = localOutcomes[rows[i].name]
	}
	return rows
}

func TestLocalFaults(t *testing.T) {
	for i, l := range localFaults() {
		if testing.Short() && i%10 != 0 {
			continue
		}
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			m := realMachine(t)
			m.prepare(t, l.behaviour)
			if l.spoil != nil {
				l.spoil(t, m)
			}
			got := "="
			limit := time.Minute // for all there is to do, on a busy machine too
			if strings.HasPrefix(l.want, "~") {
				limit = 6 * time.Second // it waits to the end
			}
			if err := m.boot(t.Context(), limit); err != nil {
				got = "!" + err.Class.Code
				if strings.HasPrefix(err.Message, "gave up at the deadline") {
					got = "~" + err.Class.Code
				}
				if err.Advice == "" {
					t.Errorf("no next step: %s", err)
				}
				t.Log(err)
			}
			if l.mend != nil {
				l.mend(t, m)
			}
			if err := m.sound(); err != nil {
				t.Error(err)
			}
			if err := m.boot(t.Context(), time.Minute); err != nil {
				t.Errorf("when it is mended it does not join: %s", err)
			}
			if err := m.sound(); err != nil {
				t.Error(err)
			}
			if n := len(m.azure.Agents()); n != 1 {
				t.Errorf("%d agents at the end", n)
			}
			if got != l.want {
				t.Errorf("got %s, want %s", got, l.want)
			}
			if t.Failed() {
				t.Log(m.said.String())
			}
		})
	}
}
