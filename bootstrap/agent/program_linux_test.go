package agent

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/secret"
)

// shell is a Program that runs a script.
func shell(t *testing.T, script string) Program {
	t.Helper()
	file := filepath.Join(t.TempDir(), "10-a")
	if err := os.WriteFile(file, []byte("#!/bin/sh\n"+script), 0o700); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	return Program{Name: "10-a", Argv: []string{file}, Env: []string{"PATH=/usr/bin:/bin", "FACT=a b"}}
}

func TestAProgramIsRun(t *testing.T) {
	t.Setenv("INHERITED", "yes")
	for name, c := range map[string]struct {
		script string
		exit   int
		said   []string
	}{
		"its exit code":          {"exit 75", 75, nil},
		"a signal":               {"kill -9 $$", -1, nil},
		"both outputs, redacted": {"echo one; echo " + strings.Repeat("a2", 26) + " >&2", 0, []string{"one", "[redacted]"}},
		"its environment":        {"env | grep -v '^_=' | sort", 0, []string{"FACT=a b", "PATH=/usr/bin:/bin", "PWD=/"}},
		"no input":               {"cat; echo end", 0, []string{"end"}},
		"what stays behind":      {"sleep 1000 & echo $! >$0.child", 0, nil},
	} {
		t.Run(name, func(t *testing.T) {
			r, p := Runner{Process: true, State: t.TempDir()}, shell(t, c.script)
			var said []string
			exit, err := r.RunProgram(t.Context(), p, &secret.Redactor{}, func(l string) { said = append(said, l) })
			if err != nil || exit != c.exit || !slices.Equal(said, c.said) {
				t.Errorf("%d, %v: %q", exit, err, said)
			}
			if _, err := os.Stat(r.programRecord("")); err == nil {
				t.Error("its record stays")
			}
			if child, err := os.ReadFile(p.Argv[0] + ".child"); err == nil {
				gone(t, string(child))
			}
		})
	}
}

func unheard(string) {}

// gone waits until a process has ended.
func gone(t *testing.T, number string) {
	t.Helper()
	stat := "/proc/" + strings.TrimSpace(number) + "/stat"
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		text, err := os.ReadFile(stat)
		if err != nil || strings.Contains(string(text), ") Z ") {
			return
		}
	}
	t.Errorf("process %s runs on", number)
}

// A program is ended with all that it started, when it is told to and when an earlier run left it.
func TestAProgramIsEnded(t *testing.T) {
	p := shell(t, "sleep 1000 & echo $!; wait")
	r := Runner{Process: true, State: t.TempDir()}
	ctx, cancel := context.WithCancel(t.Context())
	var child string
	exit, err := r.RunProgram(ctx, p, &secret.Redactor{}, func(l string) {
		child = l
		cancel()
	})
	if err != nil || exit >= 0 {
		t.Errorf("%d, %v", exit, err)
	}
	gone(t, child)

	left := process{Dir: "/", Self: true, Env: p.Env, Argv: p.Argv, Record: r.programRecord("")}
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close() //nolint:errcheck // a test's
	cmd, err := left.start(t.Context(), out, false)
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = cmd.Wait() }()
	for child = ""; !strings.HasSuffix(child, "\n"); time.Sleep(time.Millisecond) {
		text, _ := os.ReadFile(out.Name())
		child = string(text)
	}
	if exit, err = r.RunProgram(t.Context(), shell(t, "exit 0"), &secret.Redactor{}, unheard); exit != 0 || err != nil {
		t.Errorf("%d, %v", exit, err)
	}
	gone(t, child)
}

func TestAProgramThatCannotBeRun(t *testing.T) {
	r := Runner{Process: true, State: "/nowhere"}
	_, err := r.RunProgram(t.Context(), shell(t, "exit 0"), &secret.Redactor{}, unheard)
	if fault.From(err).Class != fault.State {
		t.Error(err)
	}
	r.State = t.TempDir()
	missing := Program{Name: "x", Argv: []string{"/nowhere/x"}, Env: []string{"PATH=/bin"}}
	if exit, err := r.RunProgram(t.Context(), missing, &secret.Redactor{}, unheard); exit != notFound || err != nil {
		t.Error(exit, err)
	}
}

// In a unit of its own a program has the same environment, whatever systemd gives to all units, and
// nothing in its words is filled in.
func TestTheCommandOfAUnit(t *testing.T) {
	p := Program{Name: "10-a", Argv: []string{"/etc/x/10-a"}, Env: []string{"PATH=/bin", "FACT=a $b; 'c' \"d\"\\n"}}
	got := unitCommand(p, "/var/lib/x/start.sh")
	want := []string{
		"systemd-run", "--quiet", "--wait", "--collect", "--pipe", "--unit=azp-bootstrap-start-10-a.service",
		"--description=Before the first job: 10-a", "--property=KillMode=control-group", "--property=TimeoutStopSec=5s",
		"--", "/bin/sh", "/var/lib/x/start.sh",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	p.Argv = []string{"/usr/bin/env"}
	var seen []string
	if exit, err := inUnit(t, p, func(l string) { seen = append(seen, l) }); exit != 0 || err != nil || !slices.Equal(seen, p.Env) {
		t.Errorf("%d, %v: %q", exit, err, seen)
	}
}

// inUnit runs a program as its unit's shell does, with more in the environment than it is to find.
func inUnit(t *testing.T, p Program, said func(string)) (int, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "start.sh")
	if err := os.WriteFile(file, []byte(unitScript(p)), 0o600); err != nil {
		t.Fatal(err)
	}
	r := Runner{Process: true, State: t.TempDir()}
	unit := Program{Name: "x", Argv: []string{"/bin/sh", file}, Env: []string{"PATH=/bin", "MORE=x"}}
	return r.RunProgram(t.Context(), unit, &secret.Redactor{}, said)
}

// A unit's exit code is its program's, and none is good that a signal ended.
func TestTheExitCodeOfAUnit(t *testing.T) {
	for script, want := range map[string]int{
		"exit 0": 0, "exit 75": 75, "kill -TERM $$": 143, "kill -TERM 0; sleep 9": 143,
		"kill -PIPE $$": 141, "kill -KILL $$": 137,
	} {
		if exit, err := inUnit(t, shell(t, script), unheard); exit != want || err != nil {
			t.Errorf("%s: %d, %v", script, exit, err)
		}
	}
}

// A hook's unit has a name of its own kind, and an end of its own: the daemon may be killed.
func TestTheCommandOfAHooksUnit(t *testing.T) {
	got := unitCommand(Program{Kind: "hook-afterJob", Name: "10-a", Most: time.Minute}, "/var/lib/x/hook-afterJob.sh")
	for _, want := range []string{"--unit=azp-bootstrap-hook-afterJob-10-a.service", "--property=RuntimeMaxSec=61s"} {
		if !slices.Contains(got, want) {
			t.Errorf("%q has no %s", got, want)
		}
	}
}

// What runs at an event does not end what the agent's start waits for.
func TestProgramsOfTwoKinds(t *testing.T) {
	r := Runner{Process: true, State: t.TempDir()}
	first, second := shell(t, "echo begun; read -r x <$0.pipe; exit 7"), shell(t, "exit 3")
	pipe := first.Argv[0] + ".pipe"
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	second.Kind = "hook-afterJob"
	exit, err := r.RunProgram(t.Context(), first, &secret.Redactor{}, func(string) {
		if exit, err := r.RunProgram(t.Context(), second, &secret.Redactor{}, unheard); exit != 3 || err != nil {
			t.Errorf("the hook: %d, %v", exit, err)
		}
		if err := os.WriteFile(pipe, []byte("go on\n"), 0o600); err != nil {
			t.Error(err)
		}
	})
	if exit != 7 || err != nil {
		t.Errorf("%d, %v", exit, err)
	}
}
