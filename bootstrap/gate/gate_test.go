//go:build linux

package gate

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/azure"
	"azp-bootstrap/bootstrap/config"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/retry"
	"azp-bootstrap/bootstrap/vm"
)

// folder is a folder of scripts; mode 0 = 0755.
func folder(t *testing.T, files map[string]os.FileMode) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "start.d")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, mode := range files {
		file := filepath.Join(dir, name)
		if mode == 0 {
			mode = 0o755
		}
		if err := errors.Join(os.WriteFile(file, []byte("#!/bin/sh\n"), 0o600), os.Chmod(file, mode)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// of is the gate of a VM that runs dir.
func of(state, dir string, after ...string) Gate {
	c := &config.Config{Start: config.Start{After: after, Run: dir, Timeout: 10 * time.Minute}}
	c.Target.Environment = &config.Environment{Project: "Shop", Name: "production"}
	i := azure.Instance{VMID: "the-instance", Name: "web_1", Location: "westeurope", ScaleSet: "web"}
	return Of(vm.VM{Instance: i, Config: c}, state)
}

// A told is what a run of the gate did.
type told struct {
	ran    []string
	envs   [][]string
	waited []string
	said   []string
	warned []string
	again  int
}

// run makes a Run whose programs do.
func (to *told) run(do func(ctx context.Context, name string, try int, said func(string)) (int, error)) Run {
	tries := map[string]int{}
	return Run{
		Program: func(ctx context.Context, p agent.Program, said func(string)) (int, error) {
			to.ran, to.envs = append(to.ran, strings.Join(p.Argv, " ")), append(to.envs, p.Env)
			tries[p.Name]++
			return do(ctx, p.Name, tries[p.Name], said)
		},
		Waits: func(what string) { to.waited = append(to.waited, what) },
		Says:  func(of, line string) { to.said = append(to.said, of+": "+line) },
		Warns: func(message, of string) { to.warned = append(to.warned, of+": "+message) },
		Again: func(retry.Wait) { to.again++ },
	}
}

// well is a program that ends well.
func well(context.Context, string, int, func(string)) (int, error) { return 0, nil }

func TestThroughTheGate(t *testing.T) {
	hangs := func(ctx context.Context, _ string, _ int, said func(string)) (int, error) {
		said("I hang")
		<-ctx.Done()
		return -1, nil
	}
	for name, c := range map[string]struct {
		do     func(ctx context.Context, name string, try int, said func(string)) (int, error)
		ran    string // names of scripts
		says   string // of the error
		again  bool
		least  time.Duration
		most   time.Duration
		passed bool
	}{
		"all end well": {
			do:  well,
			ran: "10-a 20-b", passed: true,
		},
		"the first fails": {
			do: func(_ context.Context, _ string, _ int, said func(string)) (int, error) {
				for i := range 10 {
					said(fmt.Sprint("line ", i))
				}
				return 3, nil
			},
			ran:  "10-a",
			says: "the start script 10-a failed with exit code 3; its last words: line 4 | line 5 | line 6 | line 7 | line 8 | line 9",
		},
		"the second fails without a word": {
			do: func(_ context.Context, name string, _ int, _ func(string)) (int, error) {
				return map[string]int{"10-a": 0, "20-b": 127}[name], nil
			},
			ran: "10-a 20-b", says: "20-b failed with exit code 127; it said nothing",
		},
		"a signal ends one": {
			do:  func(context.Context, string, int, func(string)) (int, error) { return -1, nil },
			ran: "10-a", says: "10-a was ended by a signal", least: time.Second, most: time.Second,
		},
		"one cannot be run": {
			do: func(context.Context, string, int, func(string)) (int, error) {
				return -1, fault.New(fault.State, "no room")
			},
			ran: "10-a", says: "no room",
		},
		"one asks to be run again, and ends well": {
			do: func(_ context.Context, name string, try int, _ func(string)) (int, error) {
				if name == "10-a" && try < 4 {
					return 75, nil
				}
				return 0, nil
			},
			ran: "10-a 10-a 10-a 10-a 20-b", again: true, passed: true, most: time.Minute,
		},
		"one asks to be run again, for ever": {
			do:    func(context.Context, string, int, func(string)) (int, error) { return 75, nil },
			says:  "gave up at the deadline: the start script 10-a asks to be run again (exit code 75)",
			again: true, least: 9 * time.Minute, most: 10 * time.Minute,
		},
		"one hangs": {
			do: hangs, ran: "10-a", least: 10 * time.Minute, most: 10 * time.Minute,
			says: "the start script 10-a did not end within 10m0s and was ended; its last words: I hang",
		},
		"one hangs when it is run again": {
			do: func(ctx context.Context, name string, try int, said func(string)) (int, error) {
				if try == 1 {
					return 75, nil
				}
				return hangs(ctx, name, try, said)
			},
			ran: "10-a 10-a", again: true, says: "10-a", least: 10 * time.Minute, most: 10 * time.Minute,
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir, state := folder(t, map[string]os.FileMode{"10-a": 0, "20-b": 0, "30-c.bak": 0}), t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				g, to, begin := of(state, dir), &told{}, time.Now()
				err := g.Through(t.Context(), to.run(c.do))
				took := time.Since(begin)
				f := fault.From(err)
				if (err == nil) != c.passed || g.Passed() != c.passed || took < c.least || took > c.most {
					t.Fatalf("after %s: %v; passed: %v", took, err, g.Passed())
				}
				if err != nil && (!strings.Contains(f.Error(), c.says) || f.Wait || f.Class == fault.Start && f.Advice == "") {
					t.Errorf("%v (%s)", err, f.Advice)
				}
				want := ""
				for n := range strings.FieldsSeq(c.ran) {
					want += filepath.Join(dir, n) + "\n"
				}
				if got := strings.Join(to.ran, "\n") + "\n"; c.ran != "" && got != want {
					t.Errorf("it ran %s", got)
				}
				if (to.again > 0) != c.again || !slices.Contains(to.waited, "the start script 10-a") {
					t.Errorf("again: %d; %v", to.again, to.waited)
				}
				if !slices.ContainsFunc(to.warned, func(w string) bool { return strings.HasPrefix(w, "30-c.bak: not run") }) {
					t.Errorf("warned of %v", to.warned)
				}
			})
		})
	}
}

// A run that is cut off is no failure of a script's.
func TestAGateThatIsCutOff(t *testing.T) {
	dir, state := folder(t, map[string]os.FileMode{"10-a": 0}), t.TempDir()
	why := errors.New("the VM leaves")
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		g, to := of(state, dir), &told{}
		err := g.Through(ctx, to.run(func(ctx context.Context, _ string, _ int, _ func(string)) (int, error) {
			time.AfterFunc(500*time.Millisecond, func() { cancel(why) })
			return -1, nil // all of the daemon's control group is ended, and it hears of it last
		}))
		if f := (*fault.Error)(nil); !errors.Is(err, why) || errors.As(err, &f) && f.Class == fault.Start || g.Passed() {
			t.Errorf("%v, passed: %v", err, g.Passed())
		}
	})
}

// Nothing runs if one script of all may be written by others.
func TestNothingRunsBesideAScriptOfOthers(t *testing.T) {
	g, to := of(t.TempDir(), folder(t, map[string]os.FileMode{"10-a": 0, "20-b": 0o777}), config.CloudInit), &told{}
	err := g.Through(t.Context(), to.run(well))
	if fault.From(err).Class != fault.Start || len(to.ran) != 0 || !g.Wanted() || g.Passed() {
		t.Errorf("%v; %v", err, to.ran)
	}
}

// A flood is not logged.
func TestAFlood(t *testing.T) {
	g, to := of(t.TempDir(), folder(t, map[string]os.FileMode{"10-a": 0})), &told{}
	err := g.Through(t.Context(), to.run(func(_ context.Context, _ string, _ int, said func(string)) (int, error) {
		for range 5000 {
			said(strings.Repeat("x", 500))
		}
		return 1, nil
	}))
	if len(to.said) != mostLines || len(fault.From(err).Error()) > mostWords+200 {
		t.Errorf("%d lines; %v", len(to.said), err)
	}
}

func TestCloudInit(t *testing.T) {
	for name, c := range map[string]struct {
		program string
		exit    int
		says    []string
		hangs   bool
		warns   string
		fails   string
	}{
		"there is none":           {warns: "there is no cloud-init on this VM"},
		"it ends well":            {program: "/usr/bin/cloud-init", says: []string{"....", "....status: done"}},
		"it is switched off":      {program: "/usr/bin/cloud-init", says: []string{"status: disabled"}},
		"it ends with errors":     {program: "/usr/bin/cloud-init", exit: 1, says: []string{"status: error"}, warns: "cloud-init ended with errors: the VM goes on all the same; its last words: status: error"},
		"it recovered from some":  {program: "/usr/bin/cloud-init", exit: 2, warns: "cloud-init ended with errors"},
		"it has no such command":  {program: "/usr/bin/cloud-init", exit: 126, warns: "cannot be found out"},
		"it does not end in time": {program: "/usr/bin/cloud-init", hangs: true, fails: "cloud-init has not ended within 10m0s"},
	} {
		t.Run(name, func(t *testing.T) {
			state := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				g, to := of(state, "", config.CloudInit), &told{}
				ctx, cancel := context.WithTimeoutCause(t.Context(), g.Start.Timeout, retry.ErrDeadline)
				defer cancel()
				err := g.awaitCloudInit(ctx, to.run(func(ctx context.Context, _ string, _ int, said func(string)) (int, error) {
					for _, l := range c.says {
						said(l)
					}
					if c.hangs {
						<-ctx.Done()
						return -1, nil
					}
					return c.exit, nil
				}), c.program)
				if f := fault.From(err); (c.fails == "") != (err == nil) || err != nil && (f.Class != fault.Start ||
					!strings.Contains(f.Error(), c.fails) || !strings.Contains(f.Advice, "status --wait")) {
					t.Errorf("%v", err)
				}
				if got := strings.Join(to.warned, ";"); !strings.Contains(got, c.warns) || c.warns == "" && got != "" {
					t.Errorf("warned of %q", got)
				}
				if want := c.program + " status --wait"; c.program != "" && !slices.Equal(to.ran, []string{want}) {
					t.Errorf("it ran %q", to.ran)
				}
				if slices.Contains(to.said, "cloud-init: ....") {
					t.Errorf("it said %q", to.said)
				}
			})
		})
	}
}

// What of cloud-init says that it still runs.
func TestCloudInitRunsOn(t *testing.T) {
	dir := t.TempDir()
	if runsOn(dir) {
		t.Error("it has not begun")
	}
	for _, name := range []string{"status.json", "result.json"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if runsOn(dir) {
		t.Error("it has ended")
	}
}

// What runs is told who this VM is, and nothing of this process's environment.
func TestTheEnvironmentOfScripts(t *testing.T) {
	t.Setenv("AZP_BOOTSTRAP_TARGET__POOL__NAME", "x")
	t.Setenv("HTTPS_PROXY", "http://user:secret@proxy")
	g, to := of(t.TempDir(), folder(t, map[string]os.FileMode{"10-a": 0})), &told{}
	if err := g.Through(t.Context(), to.run(well)); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "AZP_BOOTSTRAP_VM=web_1",
		"AZP_BOOTSTRAP_INSTANCE_ID=the-instance", "AZP_BOOTSTRAP_LOCATION=westeurope", "AZP_BOOTSTRAP_SCALE_SET=web",
		"AZP_BOOTSTRAP_RESOURCE_GROUP=", "AZP_BOOTSTRAP_SUBSCRIPTION_ID=", "AZP_BOOTSTRAP_TARGET_KIND=environment",
		"AZP_BOOTSTRAP_TARGET_PROJECT=Shop", "AZP_BOOTSTRAP_TARGET_NAME=production",
	}
	if !slices.Equal(to.envs[0], want) {
		t.Errorf("%q", to.envs[0])
	}
	// and azp-bootstrap, asked by a script, does not take them for its configuration
	if _, err := config.Load("/nowhere", want, []string{"target.pool.name=x"}); err != nil {
		t.Error(err)
	}
}

// The gate is passed once in a boot, by one VM.
func TestOnceInABoot(t *testing.T) {
	boot := ThisBoot()
	for name, c := range map[string]struct {
		record       string
		passed, shut bool
	}{
		"no record":       {"", false, false},
		"this boot":       {boot + " the-instance\n", true, false},
		"an earlier boot": {"11111111-2222-3333-4444-555555555555 the-instance\n", false, true},
		"another VM":      {boot + " another\n", false, false},
		"half a record":   {boot, false, false},
		"no words":        {"\xff\x00", false, true},
	} {
		t.Run(name, func(t *testing.T) {
			g := of(t.TempDir(), "")
			if c.record != "" {
				if err := os.WriteFile(g.record(), []byte(c.record), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if g.Passed() != c.passed || Shut(g.state) != c.shut {
				t.Errorf("passed: %v, shut: %v", g.Passed(), Shut(g.state))
			}
			if err := g.Pass(); err != nil || !g.Passed() || Shut(g.state) {
				t.Errorf("%v; passed: %v", err, g.Passed())
			}
			if g.Forget(); g.Passed() || Shut(g.state) {
				t.Error("a gate that is no more was passed")
			}
		})
	}
	if g := of(filepath.Join(t.TempDir(), "nowhere"), ""); fault.From(g.Pass()).Class != fault.State {
		t.Error("it is recorded nowhere")
	}
}

func TestWhatIsAGate(t *testing.T) {
	dir := folder(t, map[string]os.FileMode{"10-a": 0})
	for name, c := range map[string]struct {
		g    Gate
		want bool
	}{
		"nothing": {of("", ""), false}, "a missing folder": {of("", "/nowhere"), false},
		"scripts": {of("", dir), true}, "cloud-init": {of("", "", config.CloudInit), true},
	} {
		if c.g.Wanted() != c.want {
			t.Errorf("%s: %v", name, c.g.Wanted())
		}
	}
	if g := of("", dir); !g.Same(of("", dir)) || g.Same(of("", dir, config.CloudInit)) || g.Same(of("", "")) {
		t.Error("gates that wait for the same are not told from others")
	}
}
