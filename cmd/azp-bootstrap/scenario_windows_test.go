package main_test

import (
	"archive/tar"
	"compress/gzip"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/windows"
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

// ofSystem are commands of scripts that this system alone has.
var ofSystem = map[string]func(*testscript.TestScript, bool, []string){
	"winservice": winService,
	"processes":  processes,
	"events":     events,
	"contains":   contains,
}

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

// held are services that somebody looks at.
var held sync.Map

// winservice NAME start|stop|kill, NAME is STATE [CODE]: a service, which comes to be in a state (absent:
// there is none), and to have ended with an exit code. NAME may be the beginning of one. hold and release: somebody
// looks at it for so long, as services.msc does.
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
	case "release":
		for name, s := range held.Range {
			if strings.HasPrefix(name.(string), args[0]) {
				held.Delete(name)
				ts.Check(s.(*mgr.Service).Close())
			}
		}
	case "start", "stop", "kill", "hold":
		n := 0
		ts.Check(each(args[0], "", func(s *mgr.Service) {
			n++
			switch args[1] {
			case "start":
				ts.Check(s.Start())
			case "stop":
				_, err := s.Control(svc.Stop)
				ts.Check(err)
			case "hold":
				m, err := mgr.Connect()
				ts.Check(err)
				defer m.Disconnect()
				own, err := m.OpenService(s.Name)
				ts.Check(err)
				held.Store(s.Name, own)
				ts.Defer(func() { winService(ts, false, []string{s.Name, "release"}) })
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

// processes DIR: programs that lie below a folder run.
func processes(ts *testscript.TestScript, neg bool, args []string) {
	all, err := scm.Processes()
	ts.Check(err)
	var below []string
	for _, p := range all {
		image, err := scm.Image(p.PID)
		if err == nil && strings.HasPrefix(strings.ToLower(image), strings.ToLower(args[0])+`\`) {
			below = append(below, image)
		}
	}
	if (len(below) > 0) == neg {
		ts.Fatalf("below %s run %q", args[0], below)
	}
}

// wine reports whether this Windows is Wine, which drops what is written to an event log.
func wine() bool {
	return windows.NewLazySystemDLL("ntdll.dll").NewProc("wine_get_version").Find() == nil
}

// events PATTERN...: the event log has an event of this test's time for each, and none holds the PAT. Wine keeps no
// event log: there it is what a trace of the calls says (scripts/windows/scenarios.sh).
func events(ts *testscript.TestScript, _ bool, args []string) {
	for _, pattern := range args {
		last := ""
		await(ts, "event that matches "+pattern, func() bool {
			last = logged(ts)
			return regexp.MustCompile(pattern).MatchString(last)
		})
		in(ts).clean(ts, "the event log", last)
	}
}

func logged(ts *testscript.TestScript) string {
	if !wine() {
		out, err := exec.Command("wevtutil", "qe", "Application", "/c:200", "/rd:true", "/f:text",
			"/q:*[System[Provider[@Name='azp-bootstrap'] and TimeCreated[timediff(@SystemTime) <= 600000]]]").Output()
		ts.Check(err)
		return string(out)
	}
	all, err := os.ReadFile(`Z:\tmp\events`)
	ts.Check(err)
	var own []string
	for line := range strings.Lines(string(all)) {
		if strings.Contains(line, ":eventlog:") {
			own = append(own, line)
		}
	}
	return strings.Join(own, "")
}

// contains BUNDLE FILE PATTERN: a file of a bundle matches.
func contains(ts *testscript.TestScript, _ bool, args []string) {
	f, err := os.Open(ts.MkAbs(args[0]))
	ts.Check(err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	ts.Check(err)
	var names []string
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err == io.EOF {
			ts.Fatalf("%s: not in %q", args[1], names)
		}
		ts.Check(err)
		names = append(names, h.Name)
		text, err := io.ReadAll(r)
		ts.Check(err)
		in(ts).clean(ts, h.Name, string(text))
		if path.Base(h.Name) != args[1] {
			continue
		}
		if !regexp.MustCompile(args[2]).Match(text) {
			ts.Fatalf("%s: %s", args[1], text)
		}
		return
	}
}
