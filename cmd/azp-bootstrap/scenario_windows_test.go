package main_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/windows/svc"
	"golang.org/x/sys/windows/svc/mgr"

	"azp-bootstrap/bootstrap/scm"
)

const (
	packageName = "vsts-agent-win-x64-4.248.0.zip"
	serviceForm = "auto"
)

// TestWindows is what must work, and what must be refused, on Windows: with real services, as an
// administrator, one script after the other.
func TestWindows(t *testing.T) { scripts(t, "windows", "script") }

// systemVars are what programs need of this system's environment.
func systemVars() (vars []string) {
	for _, name := range []string{
		"SystemRoot", "SystemDrive", "windir", "ComSpec", "PATHEXT", "ProgramData", "ProgramFiles", "TEMP", "TMP",
	} {
		if v := os.Getenv(name); v != "" {
			vars = append(vars, name+"="+v)
		}
	}
	return vars
}

func interrupt(p *os.Process) { _ = p.Kill() }

// runs is not asked here.
func runs(int) bool { return false }

// sampled is exits: nobody looks into other processes here.
func sampledByRest(ts *testscript.TestScript, _ bool, _ []string) {
	ts.Fatalf("agent.registration: rest is for Linux")
}

func sampled(ts *testscript.TestScript, neg bool, args []string) { exits(ts, neg, args) }

// trust puts the simulator's authority where the stand-in looks for the machine's, which .NET's programs
// trust on Windows: the true store is not touched, and Wine's cannot be written.
func trust(ts *testscript.TestScript, file string) {
	data, err := os.ReadFile(file)
	ts.Check(err)
	dir := filepath.Join(os.Getenv("ProgramData"), "azp-sim")
	ts.Check(os.MkdirAll(dir, 0o755))
	ts.Check(os.WriteFile(filepath.Join(dir, "roots.pem"), data, 0o644))
}

// each calls do with each service whose name begins so and whose program is below dir ("" = anywhere).
func each(prefix, dir string, do func(s *mgr.Service)) error {
	m, err := mgr.Connect()
	if err != nil {
		return err
	}
	defer m.Disconnect()
	names, err := m.ListServices()
	for _, name := range names {
		if !strings.HasPrefix(name, prefix) {
			continue
		}
		s, err := m.OpenService(name)
		if err != nil {
			continue
		}
		line, err := scm.Program(name)
		if err == nil && strings.Contains(strings.ToLower(line), strings.ToLower(dir)) {
			do(s)
		}
		_ = s.Close()
	}
	return err
}

// kill ends a service's process without a word.
func kill(s *mgr.Service) {
	st, err := s.Query()
	if err != nil || st.ProcessId == 0 {
		return
	}
	if p, err := os.FindProcess(int(st.ProcessId)); err == nil {
		_ = p.Kill()
	}
}

// reapMachine ends the services of a machine, as its power-off would.
func (w *world) reapMachine(m string) {
	for _, prefix := range []string{"azp-bootstrap", "vstsagent."} {
		_ = each(prefix, m, func(s *mgr.Service) {
			_, _ = s.Control(svc.Stop)
			for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
				if st, err := s.Query(); err != nil || st.State == svc.Stopped {
					return
				}
			}
			kill(s)
		})
	}
}

// forget removes the services of a machine.
func forget(m string) {
	for _, prefix := range []string{"azp-bootstrap", "vstsagent."} {
		_ = each(prefix, m, func(s *mgr.Service) { _ = s.Delete() })
	}
}

var states = map[svc.State]string{
	svc.Stopped: "stopped", svc.StartPending: "starting", svc.StopPending: "stopping", svc.Running: "running",
}

// winservice NAME start|stop|kill, NAME is STATE [CODE]: a service, which comes to be in a state (absent:
// there is none), and to have ended with an exit code. NAME may be the beginning of one.
func winService(ts *testscript.TestScript, _ bool, args []string) {
	switch args[1] {
	case "is":
		last := ""
		await(ts, strings.Join(args, " "), func() bool {
			last = "absent"
			ts.Check(each(args[0], "", func(s *mgr.Service) {
				st, err := s.Query()
				last = states[st.State]
				if err == nil && len(args) > 3 {
					last += " " + strconv.Itoa(int(st.ServiceSpecificExitCode))
				}
			}))
			return last == strings.Join(args[2:], " ")
		})
		ts.Logf("%s", last)
	case "start", "stop", "kill":
		n := 0
		ts.Check(each(args[0], "", func(s *mgr.Service) {
			n++
			switch args[1] {
			case "start":
				ts.Check(s.Start())
			case "stop":
				_, err := s.Control(svc.Stop)
				ts.Check(err)
			default:
				kill(s)
			}
		}))
		if n != 1 {
			ts.Fatalf("%d services %s", n, args[0])
		}
	default:
		ts.Fatalf("unknown: %s", args[1])
	}
}
