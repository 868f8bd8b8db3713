//go:build linux

package bootstrap_test

import (
	"cmp"
	"context"
	"encoding/json"
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

	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/image"
	"azp-bootstrap/bootstrap/sim"
	"azp-bootstrap/bootstrap/sim/standin"
)

// A real machine has the stand-in for Microsoft's agent on its disk, and reaches Azure over TCP, in
// real time: processes do not live in virtual time.
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
	return fmt.Sprintf(
		"url: https://dev.azure.com/contoso\ntarget: {environment: {project: Shop, name: production}}\ncredential: {keyVault: {url: https://contoso.vault.azure.net, secret: azp-pat}}\nagent: {dir: %q, service: process, user: %q, configureTimeout: %s, registration: %s}\nnetwork: {caFile: %q, proxy: %q}\nimds: {endpoint: %q}\ndeadline: %s\n",
		r.agent,
		r.user(),
		limit/3,
		cmp.Or(m.registration, "script"),
		r.CA,
		r.Proxy,
		r.IMDS[m.name],
		limit,
	)
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
		m := &machine{
			fleet: f,
			name:  fmt.Sprintf("web_%d", i),
			state: filepath.Join(disk, "state"),
			real:  &real{where, filepath.Join(disk, "opt", "agent")},
		}
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
		_, err = image.Prepare(
			t.Context(),
			image.Preparation{By: "test", Home: home, Package: p.file, SHA256: p.sum, Report: func(string, ...any) {}},
		)
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
		if err != nil || len(strings.Fields(string(data))) == 0 { // cut off in writing it
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
