//go:build linux

package bootstrap_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"azp-bootstrap/bootstrap"
	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/journal"
	"azp-bootstrap/bootstrap/sim"
)

// pauses and resumes are the commands.
func (m *machine) pauses(ctx context.Context, how bootstrap.Pausing) (string, *fault.Error) {
	how.By = "alice"
	said, err := bootstrap.Pause(ctx, m.options(5*time.Minute), how)
	return said, faultOf(err)
}

func (m *machine) resumes(ctx context.Context) (string, *fault.Error) {
	said, err := bootstrap.Resume(ctx, m.options(5*time.Minute))
	return said, faultOf(err)
}

func faultOf(err error) *fault.Error {
	if err == nil {
		return nil
	}
	return fault.From(err)
}

// paused is a VM that has joined and paused.
func paused(ctx context.Context, t *testing.T, m *machine) {
	t.Helper()
	joins(ctx, t, m)
	if _, f := m.pauses(ctx, bootstrap.Pausing{Reason: "patches"}); f != nil {
		t.Fatal(f)
	}
	m.stands(t, "paused", true)
}

// stands looks whether this VM is paused, and its one agent disabled with it.
func (m *machine) stands(t *testing.T, when string, isPaused bool) {
	t.Helper()
	s, _, err := journal.Read(m.state)
	if err != nil {
		t.Fatal(err)
	}
	seen := m.azure.Agents()
	if s.Phase != journal.Ready || (s.Paused != nil) != isPaused || len(seen) != 1 || seen[0].Disabled != isPaused ||
		s.Agent.Drained != isPaused || s.Agent.Disabled || s.LastError != nil {
		t.Errorf("%s: %s, paused %v, agent %+v, error %v; on the server %+v", when, s.Phase, s.Paused, s.Agent, s.LastError, seen)
	}
}

// watches is a daemon that watches over this VM until it is ended, when it tells what it has said.
func (m *machine) watches(ctx context.Context) (end func() (said string)) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	o := m.options(5 * time.Minute)
	o.Once, o.Set = false, append(o.Set, "health.listen=")
	var said bytes.Buffer
	o.Log.SetOutput(&said)
	go func() { defer close(ended); _ = bootstrap.Run(ctx, o) }()
	return func() string {
		cancel()
		<-ended
		synctest.Wait() // who listened for notices has said that he does no more
		return said.String()
	}
}

// A pause is nobody's to end but an operator's: whatever else happens to the VM, its agent stays disabled.
func TestAPauseLasts(t *testing.T) {
	t.Parallel()
	for name, happens := range map[string]func(ctx context.Context, t *testing.T, m *machine){
		"the daemon restarts": joins,
		"it reboots":          func(ctx context.Context, t *testing.T, m *machine) { m.stop(); joins(ctx, t, m) },
		"other tags":          func(ctx context.Context, t *testing.T, m *machine) { m.tags = "blue"; joins(ctx, t, m) },
		"a person enables it": func(ctx context.Context, t *testing.T, m *machine) {
			m.azure.Enable(m.agentName(), true)
			joins(ctx, t, m)
		},
		"a person enables it, and it is paused again": func(ctx context.Context, t *testing.T, m *machine) {
			m.azure.Enable(m.agentName(), true)
			if _, f := m.pauses(ctx, bootstrap.Pausing{}); f != nil {
				t.Error(f)
			}
		},
		"another target": func(ctx context.Context, t *testing.T, m *machine) { m.environment = "staging"; joins(ctx, t, m) },
		"it is removed":  func(ctx context.Context, t *testing.T, m *machine) { m.azure.Remove(m.agentName()); joins(ctx, t, m) },
		"a move that fails": func(ctx context.Context, t *testing.T, m *machine) {
			m.environment = "nowhere"
			if f := m.once(ctx, time.Minute); f == nil {
				t.Error("it joined what is not there")
			}
			m.environment = "production"
			joins(ctx, t, m)
			if err := journalled(m.state, func(s *journal.State) { s.LastError = nil }); err != nil {
				t.Error(err)
			}
		},
		"a deregister that fails": func(ctx context.Context, t *testing.T, m *machine) {
			fronted(m, "dev.azure.com", refuses(http.MethodGet))
			if _, err := m.leaves(ctx); err == nil {
				t.Error("it left")
			}
			m.front(nil)
			if err := journalled(m.state, func(s *journal.State) { s.LastError = nil }); err != nil {
				t.Error(err)
			}
		},
		"Azure takes it away, and it comes back": func(ctx context.Context, t *testing.T, m *machine) {
			e := m.azure.Schedule([]string{m.name, "web_9"}, "Terminate", takenIn)
			defer m.watches(ctx)()
			time.Sleep(time.Minute)
			if seen := m.azure.Agents(); len(seen) != 0 {
				t.Errorf("it has not left: %v", seen)
			}
			m.azure.Cancel(e.ID)
			time.Sleep(2 * time.Minute)
		},
	} {
		t.Run(name, func(t *testing.T) {
			more := func(s *sim.Scenario) { s.Servers[0].Projects[0].Environments = []string{"production", "staging"} }
			fewVMs(t, 1, more, func(ctx context.Context, t *testing.T, all []*machine) {
				m := all[0]
				paused(ctx, t, m)
				before, _, _ := journal.Read(m.state)
				happens(ctx, t, m)
				m.stands(t, name, true)
				if after, _, _ := journal.Read(m.state); after.Paused == nil || *after.Paused != *before.Paused ||
					after.Paused.Reason != "patches" || after.Paused.By != "alice" {
					t.Errorf("the pause %+v became %+v", before.Paused, after.Paused)
				}
				if said, f := m.resumes(ctx); f != nil || !strings.Contains(said, "takes jobs again") {
					t.Errorf("%q, %v", said, f)
				}
				m.stands(t, "resumed", false)
			})
		})
	}
}

func journalled(dir string, change func(*journal.State)) error {
	j, err := journal.Open(dir, nil, func(journal.State) {})
	if err != nil {
		return err
	}
	return j.Update(change)
}

// refuses a method, as a server does whose rights do not allow it.
func refuses(method string) func(w http.ResponseWriter, r *http.Request, next http.Handler) {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if r.Method != method {
			next.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write([]byte(`{"message":"no","typeKey":"AccessDeniedException"}`))
	}
}

// A starting is a VM that looks, when its agent starts, whether the server would give it a job.
type starting struct {
	*machine
	t      *testing.T
	starts int
}

func (s *starting) Start(ctx context.Context, a agent.Service, ca string) (string, error) {
	s.starts++
	for _, seen := range s.azure.Agents() {
		if !seen.Disabled {
			s.t.Errorf("the agent %+v starts enabled", seen)
		}
	}
	return s.machine.Start(ctx, a, ca)
}

// An agent that is registered while its VM is paused is disabled before it starts: a server has enabled it.
func TestANewRegistrationOfAPausedVMTakesNoJob(t *testing.T) {
	for name, happens := range map[string]func(m *machine){
		"the agent was removed": func(m *machine) { m.azure.Remove(m.agentName()) },
		"another target":        func(m *machine) { m.environment = "staging" },
		"the folder was lost":   func(m *machine) { _ = m.Wipe() },
	} {
		t.Run(name, func(t *testing.T) {
			more := func(s *sim.Scenario) { s.Servers[0].Projects[0].Environments = []string{"production", "staging"} }
			fewVMs(t, 1, more, func(ctx context.Context, t *testing.T, all []*machine) {
				m := all[0]
				paused(ctx, t, m)
				happens(m)
				o := m.options(5 * time.Minute)
				by := &starting{machine: m, t: t}
				o.Agent = by
				if err := bootstrap.Run(ctx, o); err != nil || by.starts != 1 {
					t.Errorf("%v after %d starts", err, by.starts)
				}
				m.stands(t, name, true)
			})
		})
	}
}

// If it cannot be disabled, it does not start.
func TestANewRegistrationThatCannotBeDisabledDoesNotStart(t *testing.T) {
	fewVMs(t, 1, nil, func(ctx context.Context, t *testing.T, all []*machine) {
		m := all[0]
		paused(ctx, t, m)
		m.azure.Remove(m.agentName())
		fronted(m, "dev.azure.com", refuses(http.MethodPatch))
		o := m.options(5 * time.Minute)
		by := &starting{machine: m, t: t}
		o.Agent = by
		f := fault.From(bootstrap.Run(ctx, o))
		if seen := m.azure.Agents(); f == nil || f.Class != fault.Scope || by.starts != 0 || m.runs || len(seen) != 1 {
			t.Errorf("%v after %d starts, runs: %v; %v", f, by.starts, m.runs, seen)
		}
		if said, f := m.resumes(ctx); f != nil || !strings.Contains(said, "not ready") {
			t.Errorf("%q, %v", said, f)
		}
		m.front(nil)
		joins(ctx, t, m)
		if err := journalled(m.state, func(s *journal.State) { s.LastError = nil }); err != nil {
			t.Error(err)
		}
		m.stands(t, "resumed meanwhile", false)
	})
}

// An agent that a person had disabled before is not the pause's to enable.
func TestAPauseOfAnAgentThatAPersonDisabled(t *testing.T) {
	fewVMs(t, 1, nil, func(ctx context.Context, t *testing.T, all []*machine) {
		m := all[0]
		joins(ctx, t, m)
		m.azure.Enable(m.agentName(), false)
		if _, f := m.pauses(ctx, bootstrap.Pausing{}); f != nil {
			t.Fatal(f)
		}
		joins(ctx, t, m)
		said, f := m.resumes(ctx)
		s, _, _ := journal.Read(m.state)
		if f != nil || !strings.Contains(said, "stays disabled") || !m.azure.Agents()[0].Disabled || !s.Agent.Disabled || s.Paused != nil {
			t.Errorf("%q, %v; %+v; %v", said, f, s.Agent, m.azure.Agents())
		}
	})
}

// Both commands may be given again: the first pause's words stand.
func TestPauseAndResumeAgain(t *testing.T) {
	fewVMs(t, 1, nil, func(ctx context.Context, t *testing.T, all []*machine) {
		m := all[0]
		joins(ctx, t, m)
		for i, wants := range []string{"Paused: the agent web-000000 takes no new job", "Paused already, since"} {
			time.Sleep(time.Hour)
			said, f := m.pauses(ctx, bootstrap.Pausing{Reason: []string{"patches", "others"}[i], Wait: true, Timeout: time.Minute})
			s, _, _ := journal.Read(m.state)
			if f != nil || !strings.Contains(said, wants) || s.Paused == nil || s.Paused.Reason != "patches" || s.Paused.By != "alice" {
				t.Errorf("%q, %v, %+v", said, f, s.Paused)
			}
			m.stands(t, said, true)
		}
		for _, wants := range []string{"takes jobs again", "not paused"} {
			if said, f := m.resumes(ctx); f != nil || !strings.Contains(said, wants) {
				t.Errorf("%q, %v", said, f)
			}
			m.stands(t, wants, false)
		}
	})
}

// A job is waited for and never cut; if it takes too long the VM stays paused.
func TestAPauseWaitsForTheJob(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		job, timeout, takes time.Duration
		ends                bool
	}{
		"it ends":       {10 * time.Minute, time.Hour, 10 * time.Minute, true},
		"it does not":   {10 * time.Hour, time.Hour, time.Hour, false},
		"there is none": {0, time.Hour, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			fewVMs(t, 1, nil, func(ctx context.Context, t *testing.T, all []*machine) {
				m := all[0]
				joins(ctx, t, m)
				m.busyUntil = time.Now().Add(time.Minute + c.job)
				defer m.watches(ctx)()
				time.Sleep(time.Minute)
				begun := time.Now()
				said, f := m.pauses(ctx, bootstrap.Pausing{Wait: true, Timeout: c.timeout})
				took := time.Since(begun)
				late := f != nil && f.Class == fault.Service && strings.Contains(f.Error(), "still runs a job after 1h0m0s; this VM is paused")
				if (f == nil) != c.ends || !c.ends && !late || took < c.takes || took > c.takes+time.Minute {
					t.Errorf("%q, %v after %s", said, f, took)
				}
				if !m.runs {
					t.Error("the agent was stopped")
				}
				m.stands(t, name, true)
			})
		})
	}
}

// Whoever waits for a job is told when the VM leaves meanwhile, or is resumed.
func TestAPauseThatEndsWhileItsJobIsWaitedFor(t *testing.T) {
	for wants, happens := range map[string]func(ctx context.Context, t *testing.T, m *machine){
		"leaves Azure DevOps": func(_ context.Context, _ *testing.T, m *machine) {
			m.azure.Schedule([]string{m.name}, "Terminate", takenIn)
		},
		"has resumed this VM": func(ctx context.Context, t *testing.T, m *machine) {
			o := m.options(5 * time.Minute)
			o.Log.SetOutput(io.Discard)
			if _, err := bootstrap.Resume(ctx, o); err != nil {
				t.Error(err)
			}
		},
	} {
		t.Run(wants, func(t *testing.T) {
			fewVMs(t, 1, nil, func(ctx context.Context, t *testing.T, all []*machine) {
				m := all[0]
				joins(ctx, t, m)
				m.busyUntil = time.Now().Add(10 * time.Hour)
				defer m.watches(ctx)()
				time.Sleep(time.Minute)
				go func() { time.Sleep(time.Minute); happens(ctx, t, m) }()
				begun := time.Now()
				said, f := m.pauses(ctx, bootstrap.Pausing{Wait: true, Timeout: time.Hour})
				if took := time.Since(begun); f == nil || f.Class != fault.State || !strings.Contains(f.Error(), wants) || took > 5*time.Minute {
					t.Errorf("%q, %v after %s", said, f, took)
				}
			})
		})
	}
}

// The end of a VM is its end, paused or not.
func TestAPausedVMLeaves(t *testing.T) {
	for name, happens := range map[string]func(ctx context.Context, t *testing.T, m *machine){
		"terminated": func(ctx context.Context, t *testing.T, m *machine) {
			e := m.azure.Schedule([]string{m.name}, "Terminate", takenIn)
			_ = daemon(ctx, m.options(5*time.Minute))
			if m.azure.Cancel(e.ID) {
				t.Error("the event was not acknowledged")
			}
			if len(m.azure.Agents()) != 0 {
				t.Errorf("%v", m.azure.Agents())
			}
			if _, err := m.leaves(ctx); err != nil { // and stays away, by an operator's word
				t.Error(err)
			}
		},
		"deregistered": func(ctx context.Context, t *testing.T, m *machine) {
			if done, err := m.leaves(ctx); !done || err != nil {
				t.Errorf("%v, %v", done, err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			fewVMs(t, 1, nil, func(ctx context.Context, t *testing.T, all []*machine) {
				m := all[0]
				paused(ctx, t, m)
				happens(ctx, t, m)
				if s, _, _ := journal.Read(m.state); len(m.azure.Agents()) != 0 || s.Paused != nil || s.Phase != journal.Removed {
					t.Errorf("%s, paused %+v; %v", s.Phase, s.Paused, m.azure.Agents())
				}
				for what, do := range map[string]func() (string, *fault.Error){
					"pause":  func() (string, *fault.Error) { return m.pauses(ctx, bootstrap.Pausing{}) },
					"resume": func() (string, *fault.Error) { return m.resumes(ctx) },
				} {
					if said, f := do(); f == nil || f.Class != fault.State || f.Advice == "" {
						t.Errorf("%s: %q, %v", what, said, f)
					}
				}
				joins(ctx, t, m)
				m.stands(t, "joined again", false)
			})
		})
	}
}

// What fails changes nothing, on the server or in the journal.
func TestAPauseThatFailsChangesNothing(t *testing.T) {
	t.Parallel()
	type handling = func(w http.ResponseWriter, r *http.Request, next http.Handler)
	away := func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	// The server does as it is told, and its answer is lost.
	lost := func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if r.Method != http.MethodPatch {
			next.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(&recorded{header: http.Header{}}, r)
		if c, _, err := http.NewResponseController(w).Hijack(); err == nil {
			_ = c.Close()
		}
	}
	for name, c := range map[string]struct {
		host  string
		do    handling
		class fault.Class
	}{
		"the server is away":        {"dev.azure.com", away, fault.Network},
		"the vault is away":         {"contoso.vault", away, fault.Vault},
		"no rights":                 {"dev.azure.com", refuses(http.MethodPatch), fault.Scope},
		"the server's word is lost": {"dev.azure.com", lost, fault.Network},
	} {
		for _, ends := range []bool{false, true} {
			t.Run(name+map[bool]string{true: ", resume"}[ends], func(t *testing.T) {
				fewVMs(t, 1, nil, func(ctx context.Context, t *testing.T, all []*machine) {
					m := all[0]
					joins(ctx, t, m)
					do := func() (string, *fault.Error) { return m.pauses(ctx, bootstrap.Pausing{}) }
					if ends {
						paused(ctx, t, m)
						do = func() (string, *fault.Error) { return m.resumes(ctx) }
					}
					before, _, _ := journal.Read(m.state)
					fronted(m, c.host, c.do)
					begun := time.Now()
					said, f := do()
					if ends && name == "the server's word is lost" { // it is asked again, and found enabled
						m.front(nil)
						if m.stands(t, name, false); f != nil {
							t.Error(f)
						}
						return
					}
					if took := time.Since(begun); f == nil || f.Class != c.class || took > 4*time.Minute {
						t.Errorf("%q, %v after %s", said, f, took)
					}
					after, _, _ := journal.Read(m.state)
					m.front(nil)
					if (after.Paused != nil) != ends || after.Phase != before.Phase {
						t.Errorf("paused %v, %s", after.Paused, after.Phase)
					}
					if name != "the server's word is lost" && m.azure.Agents()[0].Disabled != ends {
						t.Errorf("%v", m.azure.Agents())
					}
					joins(ctx, t, m) // whatever nobody knew, the daemon finds out
					m.stands(t, "then", ends)
				})
			})
		}
	}
}

// Who has not joined has nothing to pause, a disk of another VM's least of all.
func TestWhatCannotPause(t *testing.T) {
	fewVMs(t, 2, nil, func(ctx context.Context, t *testing.T, all []*machine) {
		m, clone := all[0], &mortal{machine: all[1]}
		refused := func(when string, m *machine) {
			t.Helper()
			if said, f := m.pauses(ctx, bootstrap.Pausing{}); f == nil || f.Class != fault.State || f.Advice == "" {
				t.Errorf("%s, pause: %q, %v", when, said, f)
			}
		}
		refused("new", m)
		if said, f := m.resumes(ctx); f == nil || f.Class != fault.State {
			t.Errorf("%q, %v", said, f)
		}
		joins(ctx, t, m)
		clone.clone(&mortal{machine: m})
		refused("a clone", clone.machine)
		m.stands(t, "the clone's original", false)
		if said, f := m.pauses(ctx, bootstrap.Pausing{Reason: "two\nlines"}); f == nil || f.Class != fault.Usage {
			t.Errorf("%q, %v", said, f)
		}
		if said, f := m.pauses(ctx, bootstrap.Pausing{Reason: strings.Repeat("x", 201)}); f == nil || f.Class != fault.Usage {
			t.Errorf("%q, %v", said, f)
		}
		if _, f := m.pauses(ctx, bootstrap.Pausing{Reason: "PAT " + m.pat}); f != nil {
			t.Error(f)
		}
		if err := m.sound(); err != nil { // nor does a reason hold the PAT
			t.Error(err)
		}
		m.azure.Remove(m.agentName())
		if said, f := m.pauses(ctx, bootstrap.Pausing{}); f == nil || f.Class != fault.Target || f.Advice == "" {
			t.Errorf("%q, %v", said, f)
		}
	})
}

// A clone of a paused VM is another VM: it joins unpaused, and leaves its original's pause alone.
func TestACloneIsNotPaused(t *testing.T) {
	fewVMs(t, 2, nil, func(ctx context.Context, t *testing.T, all []*machine) {
		m, clone := all[0], &mortal{machine: all[1]}
		paused(ctx, t, m)
		clone.clone(&mortal{machine: m})
		if f := clone.once(ctx, 5*time.Minute); f != nil {
			t.Fatal(f)
		}
		if s, _, _ := journal.Read(clone.state); s.Paused != nil {
			t.Errorf("%+v", s.Paused)
		}
		for _, a := range m.azure.Agents() {
			if a.Disabled != (a.InstanceID == m.instance()) {
				t.Errorf("%+v", a)
			}
		}
	})
}

// A daemon that watches says soon that the VM is paused, and that it is no more; neither moves it.
func TestADaemonSeesAPause(t *testing.T) {
	fewVMs(t, 1, nil, func(ctx context.Context, t *testing.T, all []*machine) {
		m := all[0]
		joins(ctx, t, m)
		end := m.watches(ctx)
		time.Sleep(time.Minute)
		_, f := m.pauses(ctx, bootstrap.Pausing{Reason: "patches"})
		time.Sleep(time.Minute)
		m.stands(t, "watched", true)
		_, g := m.resumes(ctx)
		time.Sleep(time.Minute)
		m.stands(t, "watched still", false)
		said := end()
		for _, wants := range []string{"this VM is paused, its agent takes no job until azp-bootstrap resume: since ", "by alice: patches", "this VM is paused no more"} {
			if f != nil || g != nil || !strings.Contains(said, wants) {
				t.Errorf("%v, %v; it is not said: %q", f, g, wants)
			}
		}
		if strings.Count(said, "still joined: nothing to do") != 1 { // its start's
			t.Error("the daemon went through an attempt")
		}
	})
}

// Who pauses a VM whose start scripts still run is told what it waits for.
func TestAPauseBeforeTheGateSaysSo(t *testing.T) {
	fewVMs(t, 1, nil, func(ctx context.Context, t *testing.T, all []*machine) {
		m := all[0]
		m.startScript(func(ctx context.Context) int {
			select {
			case <-ctx.Done():
				return -1
			case <-time.After(gateTime - 10*time.Second):
				return 0
			}
		})
		end := m.watches(ctx)
		defer end()
		time.Sleep(10 * time.Second)
		begun := time.Now()
		_, f := m.pauses(ctx, pausing)
		if f == nil || f.Class != fault.State || !strings.Contains(f.Error(), "it waits for the start script 10-disk since") {
			t.Errorf("after %s: %v", time.Since(begun), f)
		}
		time.Sleep(gateTime)
		if _, f := m.pauses(ctx, pausing); f != nil {
			t.Error(f)
		}
	})
}
