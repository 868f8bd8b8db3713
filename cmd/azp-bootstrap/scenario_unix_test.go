//go:build unix

package main_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

const (
	packageName = "vsts-agent-linux-x64-4.248.0.tar.gz"
	serviceForm = "process"
)

func TestPositive(t *testing.T) { scripts(t, "positive", "script") }
func TestNegative(t *testing.T) { scripts(t, "negative", "script") }

// TestPositiveByRest runs what must work with agents that the daemon registers itself; all of it with CI_FULL=1.
func TestPositiveByRest(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes as long as TestPositive")
	}
	scripts(t, "positive", "rest")
}

// systemVars are what programs need of this system's environment.
func systemVars() []string { return nil }

func interrupt(p *os.Process) { _ = p.Signal(os.Interrupt) }

// trust: the agent trusts what SSL_CERT_FILE names.
func trust(*testscript.TestScript, string) {}

// forget removes what the system knows of a machine: nothing.
func forget(string) {}

// ofSystem are commands of scripts that this system alone has.
var ofSystem map[string]func(*testscript.TestScript, bool, []string)

// reapMachine ends what the daemon's records name: the processes that a VM's power-off would end.
func (w *world) reapMachine(m string) {
	for _, record := range []string{"agent.pid", "configure.pid", "start.pid", "clean.pid", "hook-afterJob.pid"} {
		data, err := os.ReadFile(filepath.Join(m, "state", record))
		if err != nil {
			continue
		}
		number, _, _ := strings.Cut(string(data), " ")
		pid, err := strconv.Atoi(number)
		if err != nil || pid <= 1 || syscall.Kill(-pid, syscall.SIGKILL) != nil {
			continue
		}
		for end := time.Now().Add(10 * time.Second); runs(pid) && time.Now().Before(end); {
			<-time.After(5 * time.Millisecond)
		}
	}
}

// runs reports whether a process has not ended, whoever is to be told of it.
func runs(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, fields, _ := strings.Cut(string(stat), ") ")
	return err == nil && !strings.HasPrefix(fields, "Z")
}

// sampled CODE COMMAND...: as exits, while the command line and environment of every process are
// looked at over and over: only config.sh's own group may hold the PAT, and only in its
// environment.
func sampled(ts *testscript.TestScript, neg bool, args []string) {
	if in(ts).registration == "rest" {
		sampledByRest(ts, neg, args)
		return
	}
	groups, holders, rounds := sampling(ts, args)
	for group, line := range holders {
		if !groups[group] {
			ts.Fatalf("the PAT is in the environment of %s", line)
		}
	}
	if len(holders) == 0 {
		ts.Fatalf("config.sh was never seen with the PAT in %d rounds: the sampling sees nothing", rounds)
	}
	ts.Logf("%d rounds over all processes; only config.sh's group held the PAT", rounds)
}

// sampled-rest CODE COMMAND...: likewise, but nobody may hold the PAT. One process of the test's own
// does, so that it is known that the sampling sees it.
func sampledByRest(ts *testscript.TestScript, _ bool, args []string) {
	canary := exec.Command("sleep", "300")
	canary.Env = []string{"CANARY=" + in(ts).pat}
	canary.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	ts.Check(canary.Start())
	defer func() { _ = canary.Process.Kill(); _ = canary.Wait() }()
	groups, holders, rounds := sampling(ts, args)
	own := strconv.Itoa(canary.Process.Pid)
	if holders[own] == "" || rounds < 10 {
		ts.Fatalf("the sampling sees nothing (%d rounds)", rounds)
	}
	delete(holders, own)
	if len(groups) > 0 || len(holders) > 0 {
		ts.Fatalf("config.sh was run (%v), or somebody held the PAT: %v", groups, holders)
	}
	ts.Logf("%d rounds over all processes; nobody held the PAT", rounds)
}

// sampling looks at all processes while a command runs: the groups of config.sh, and the groups that
// hold the PAT in their environment. In a command line nobody may.
func sampling(ts *testscript.TestScript, args []string) (groups map[string]bool, holders map[string]string, rounds int) {
	w := in(ts)
	stop, done := make(chan struct{}), make(chan struct{})
	bad := map[string]bool{}
	groups, holders = map[string]bool{}, map[string]string{}
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
			}
			if data, err := os.ReadFile(
				filepath.Join(ts.Getenv("AZP_BOOTSTRAP_STATE_DIR"), "configure.pid"),
			); err == nil {
				if f := strings.Fields(string(data)); len(f) > 0 { // else it is being written
					groups[f[0]] = true
				}
			}
			procs, _ := filepath.Glob("/proc/[0-9]*")
			for _, p := range procs {
				line, _ := os.ReadFile(p + "/cmdline")
				env, _ := os.ReadFile(p + "/environ")
				for _, form := range w.forms() {
					if bytes.Contains(line, []byte(form)) {
						bad["command line of "+string(line)] = true
					}
					if bytes.Contains(env, []byte(form)) {
						stat, _ := os.ReadFile(p + "/stat")
						if f := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:])); len(f) > 2 {
							holders[f[2]] = string(line)
						}
					}
				}
			}
			rounds++
		}
	}()
	exits(ts, false, args)
	close(stop)
	<-done
	for what := range bad {
		ts.Fatalf("the PAT is in the %s", what)
	}
	return groups, holders, rounds
}
