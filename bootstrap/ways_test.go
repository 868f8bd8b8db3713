//go:build linux

package bootstrap_test

import (
	"context"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"azp-bootstrap/bootstrap"
	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/doctor"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/journal"
	"azp-bootstrap/bootstrap/secret"
	"azp-bootstrap/bootstrap/sim"
)

// fewVMs lets a test play with some VMs in an Azure of their own, in virtual time.
func fewVMs(
	t *testing.T,
	n int,
	more func(*sim.Scenario),
	do func(ctx context.Context, t *testing.T, all []*machine),
) {
	t.Helper()
	dir := quickDir(t)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		defer over(cancel)
		f := newFleet(ctx, t, dir, n, more)
		var all []*machine
		for i := range n {
			all = append(all, f.machine(i))
		}
		do(ctx, t, all)
		if t.Failed() {
			for _, m := range all {
				t.Logf("%s: %+v\n%s", m.name, m.disk, m.said.String())
			}
		}
	})
}

func joins(ctx context.Context, t *testing.T, m *machine) {
	t.Helper()
	if f := m.once(ctx, 5*time.Minute); f != nil {
		t.Fatal(f)
	}
}

// A VM whose configuration names another target of the same kind leaves the one it was in.
func TestMovesBetweenTargetsOfOneKind(t *testing.T) {
	more := func(s *sim.Scenario) { s.Servers[0].Projects[0].Environments = []string{"production", "staging"} }
	fewVMs(t, 1, more, func(ctx context.Context, t *testing.T, all []*machine) {
		m := all[0]
		joins(ctx, t, m)
		for _, name := range []string{"staging", "production"} {
			if m.environment = name; name == "production" {
				m.stop() // the agent, whose job need not be waited for then
			}
			o := m.options(5 * time.Minute)
			o.Set = []string{"agent.reregister=false"} // which is about agents that somebody removed
			if err := bootstrap.Run(ctx, o); err != nil {
				t.Fatal(err)
			}
			if seen := m.azure.Agents(); len(seen) != 1 || seen[0].Target != "Shop/"+name ||
				seen[0].Status != "online" {
				t.Errorf("moved to %s: %v", name, seen)
			}
		}
	})
}

// A registration that is whole is kept, and its tags become those of the configuration.
func TestTagsOfARegistrationThatIsKept(t *testing.T) {
	fewVMs(t, 1, nil, func(ctx context.Context, t *testing.T, all []*machine) {
		m := all[0]
		m.tags = "green"
		joins(ctx, t, m)
		before := m.azure.Agents()[0]
		m.stop() // and so more is to be done than to look
		m.tags = "blue, red"
		joins(ctx, t, m)
		seen := m.azure.Agents()[0]
		if slices.Sort(seen.Tags); seen.ID != before.ID || !slices.Equal(seen.Tags, []string{"blue", "red"}) {
			t.Errorf("%v became %v", before, seen)
		}
	})
}

// A robbed is a VM whose name another one takes between its registration and its first session.
type robbed struct {
	*machine
	by func()
}

func (r *robbed) Start(context.Context, agent.Service, string) (string, error) {
	r.by()
	return "", nil
}

func (r *robbed) Running(string) (bool, string) { return true, "in memory" }

func TestANameThatAnotherVMTakesMeanwhile(t *testing.T) {
	more := func(s *sim.Scenario) { s.VMs[1].ComputerName = s.VMs[0].ComputerName }
	fewVMs(t, 2, more, func(ctx context.Context, t *testing.T, all []*machine) {
		o := all[0].options(5 * time.Minute)
		o.Agent = &robbed{all[0], func() { joins(ctx, t, all[1]) }}
		f := fault.From(bootstrap.Run(ctx, o))
		if f == nil || f.Class != fault.Target || !strings.Contains(f.Error(), "taken") {
			t.Errorf("it ended with %v", f)
		}
		if seen := all[0].azure.Agents(); len(seen) != 1 || seen[0].InstanceID != all[0].azure.VMs()[1].ID {
			t.Errorf("the other VM's agent became %v", seen)
		}
	})
}

// fronted puts something in front of one host.
func fronted(m *machine, host string, do func(w http.ResponseWriter, r *http.Request, next http.Handler)) {
	m.front(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasPrefix(r.Host, host) {
				do(w, r, next)
				return
			}
			next.ServeHTTP(w, r)
		})
	})
}

func TestDoctorLooksAsABootWould(t *testing.T) {
	type spoiling func(ctx context.Context, t *testing.T, all []*machine)
	for name, c := range map[string]struct {
		spoil         spoiling
		check, detail string // that fails
		class         fault.Class
	}{
		"another VM has the name": {func(ctx context.Context, t *testing.T, all []*machine) {
			joins(ctx, t, all[1])
		}, "target", "is taken", fault.Target},
		"the clock is six minutes slow": {func(_ context.Context, _ *testing.T, all []*machine) {
			fronted(all[0], "contoso.vault", func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				w.Header().Set("Date", time.Now().Add(6*time.Minute).UTC().Format(http.TimeFormat))
				next.ServeHTTP(w, r)
			})
		}, "clock", "6m0s", fault.Agent},
		"the server tells the PAT back": {func(_ context.Context, _ *testing.T, all []*machine) {
			fronted(all[0], "dev.azure.com", func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(http.StatusBadRequest)
				_, _ = w.Write([]byte(`{"message":"what is ` + all[0].pat + `?","typeKey":"Unknown"}`))
			})
		}, "pat", "what is [redacted]?", fault.Class{}},
	} {
		t.Run(name, func(t *testing.T) {
			more := func(s *sim.Scenario) { s.VMs[1].ComputerName = s.VMs[0].ComputerName }
			fewVMs(t, 2, more, func(ctx context.Context, t *testing.T, all []*machine) {
				c.spoil(ctx, t, all)
				report, err := doctor.Examine(ctx, all[0].options(time.Minute).Means)
				if err != nil {
					t.Fatal(err)
				}
				i := slices.IndexFunc(report, func(x doctor.Check) bool { return x.Name == c.check })
				found := report[i]
				if found.Outcome != doctor.Bad || !strings.Contains(found.Detail, c.detail) ||
					c.class.Code != "" && found.Class != c.class.Code {
					t.Errorf("%+v", report)
				}
				for _, x := range report {
					if strings.Contains(x.Detail+x.Hint, all[0].pat) {
						t.Errorf("the PAT is in %+v", x)
					}
				}
			})
		})
	}
}

// An agent that does not come online is given up after some minutes, with the way to its log.
func TestAnAgentThatNeverComesOnline(t *testing.T) {
	fewVMs(t, 1, nil, func(ctx context.Context, t *testing.T, all []*machine) {
		m := all[0]
		m.starts = 10 * time.Hour
		begin := time.Now()
		f := m.once(ctx, 5*time.Hour)
		if took := time.Since(
			begin,
		); f == nil || f.Class != fault.Service || f.Advice == "" || took < 4*time.Minute ||
			took > 6*time.Minute {
			t.Errorf("after %s: %v", took, f)
		}
	})
}

// Whatever is waited for, the deadline ends an attempt, with the class of what was waited for.
func TestTheDeadlineEndsAnAttempt(t *testing.T) {
	fewVMs(t, 1, nil, func(ctx context.Context, t *testing.T, all []*machine) {
		m := all[0]
		fronted(m, "contoso.vault", func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			w.WriteHeader(http.StatusServiceUnavailable)
		})
		begin := time.Now()
		f := m.once(ctx, 10*time.Minute)
		if took := time.Since(
			begin,
		); f == nil || f.Class != fault.Vault || took > 11*time.Minute ||
			took < 8*time.Minute {
			t.Errorf("after %s: %v", took, f)
		}
	})
}

// An operator may forbid that a VM comes back by itself whose agent somebody removed.
func TestReregisterOff(t *testing.T) {
	for _, off := range []bool{true, false} {
		fewVMs(t, 1, nil, func(ctx context.Context, t *testing.T, all []*machine) {
			m := all[0]
			joins(ctx, t, m)
			if !m.azure.Remove(m.agentName()) {
				t.Fatal("nothing was removed")
			}
			m.stop()
			o := m.options(5 * time.Minute)
			if off {
				o.Set = []string{"agent.reregister=false"}
			}
			f := fault.From(bootstrap.Run(ctx, o))
			if n := len(
				m.azure.Agents(),
			); off && (f == nil || f.Class != fault.Target || n != 0) ||
				!off && (f != nil || n != 1) {
				t.Errorf("off: %v; %d agents, %v", off, n, f)
			}
		})
	}
}

// A bare is a VM whose package was deleted from its disk.
type bare struct{ *machine }

func (b bare) Verify() (agent.Manifest, error) {
	return agent.Manifest{}, fault.New(fault.Agent, "the package is missing").Hint("Bring it back.")
}

// A VM that is to move keeps its agent if another cannot be laid.
func TestAnAgentIsNotStoppedForAPackageThatIsMissing(t *testing.T) {
	more := func(s *sim.Scenario) { s.Servers[0].Projects[0].Environments = []string{"production", "staging"} }
	fewVMs(t, 1, more, func(ctx context.Context, t *testing.T, all []*machine) {
		m := all[0]
		joins(ctx, t, m)
		m.environment = "staging"
		o := m.options(5 * time.Minute)
		o.Agent = bare{m}
		f := fault.From(bootstrap.Run(ctx, o))
		if seen := m.azure.Agents(); f == nil || f.Class != fault.Agent || len(seen) != 1 ||
			seen[0].Target != "Shop/production" ||
			!m.runs {
			t.Errorf("%v; %v, runs: %v", f, seen, m.runs)
		}
	})
}

// A disk without a state, whose agent's folder was laid for another VM, is a clone's: nothing of
// that VM is used or removed.
func TestADiskOfAnotherVMWithoutAState(t *testing.T) {
	fewVMs(t, 2, nil, func(ctx context.Context, t *testing.T, all []*machine) {
		original, clone := all[0], all[1]
		joins(ctx, t, original)
		clone.disk = original.disk
		if _, err := clone.leaves(ctx); err != nil {
			t.Error(err)
		}
		if clone.disk.id != 0 || clone.disk.laidFor != "" {
			t.Errorf("the original's registration is still here: %+v", clone.disk)
		}
		if seen := original.azure.Agents(); len(seen) != 1 || seen[0].Status != "online" {
			t.Errorf("the original's agent: %v", seen)
		}
	})
}

// leaves is deregister.
func (m *machine) leaves(ctx context.Context) (done bool, err error) {
	return bootstrap.Deregister(ctx, m.options(5*time.Minute), bootstrap.Leaving{})
}

// A VM that has lost its state, and whose registration is another target's by now, does not count
// as one that has left.
func TestALostStateIsNoDeparture(t *testing.T) {
	more := func(s *sim.Scenario) { s.Servers[0].Projects[0].Environments = []string{"production", "staging"} }
	for name, c := range map[string]struct {
		environment string // configured by now
		event       bool
		gone        bool
	}{"the configuration names its target": {"production", true, true}, "it names another": {"staging", true, false}} {
		t.Run(name, func(t *testing.T) {
			fewVMs(t, 1, more, func(ctx context.Context, t *testing.T, all []*machine) {
				m := all[0]
				joins(ctx, t, m)
				if err := os.RemoveAll(m.state); err != nil {
					t.Fatal(err)
				}
				m.environment = c.environment
				e := m.azure.Schedule([]string{m.name}, "Terminate", takenIn)
				fronted(m, "contoso.vault", func(w http.ResponseWriter, r *http.Request, next http.Handler) {
					time.Sleep(10 * time.Second) // it is heard before the VM has joined anew
					next.ServeHTTP(w, r)
				})
				_ = daemon(ctx, m.options(5*time.Minute))
				acknowledged := !m.azure.Cancel(e.ID)
				if seen := m.azure.Agents(); (len(seen) == 0) != c.gone || acknowledged != c.gone {
					t.Errorf("acknowledged: %v; %v", acknowledged, seen)
				}
			})
		})
	}
}

// An operator who deregisters a VM that is still on its way means it: the daemon does not join it
// later, run --once does.
func TestAnOperatorsWordBeforeTheVMHasJoined(t *testing.T) {
	fewVMs(t, 1, nil, func(ctx context.Context, t *testing.T, all []*machine) {
		m := all[0]
		fronted(m, "contoso.vault", func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			w.WriteHeader(http.StatusServiceUnavailable)
		})
		if f := m.once(ctx, time.Minute); f == nil {
			t.Fatal("it joined without a vault")
		}
		if done, err := m.leaves(ctx); done || err != nil {
			t.Errorf("deregister: %v, %v", done, err)
		}
		m.front(nil)
		_ = daemon(ctx, m.options(time.Minute))
		if s, _, _ := journal.Read(
			m.state,
		); s.Phase != journal.Removed || s.RemovedBy != journal.ByOperator ||
			len(m.azure.Agents()) != 0 {
			t.Errorf("phase %s, by %q, %v", s.Phase, s.RemovedBy, m.azure.Agents())
		}
		joins(ctx, t, m)
	})
}

// A VM that has lost its state is registered all the same, and an operator can take it out.
func TestAnOperatorTakesOutAVMThatLostItsState(t *testing.T) {
	fewVMs(t, 1, nil, func(ctx context.Context, t *testing.T, all []*machine) {
		m := all[0]
		joins(ctx, t, m)
		if err := os.RemoveAll(m.state); err != nil {
			t.Fatal(err)
		}
		if done, err := m.leaves(ctx); !done || err != nil || len(m.azure.Agents()) != 0 {
			t.Errorf("deregister: %v, %v; %v", done, err, m.azure.Agents())
		}
	})
}

// A VM that is ready, and whose agent runs, needs nobody's word for it at a restart of the daemon:
// it is watched over soon.
func TestAnOutageAtARestart(t *testing.T) {
	for _, host := range []string{"contoso.vault", "dev.azure.com"} {
		fewVMs(t, 1, nil, func(ctx context.Context, t *testing.T, all []*machine) {
			m := all[0]
			joins(ctx, t, m)
			fronted(m, host, func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
				w.WriteHeader(http.StatusServiceUnavailable)
			})
			begin := time.Now()
			f := m.once(ctx, time.Hour)
			s, _, _ := journal.Read(m.state)
			if took := time.Since(
				begin,
			); f != nil || took > time.Minute || s.Phase != journal.Ready ||
				s.LastError == nil {
				t.Errorf("%s is away: after %s %v; %s, %+v", host, took, f, s.Phase, s.LastError)
			}
		})
	}
}

// An odd is a VM on which no agent can run.
type odd struct{ *machine }

func (o odd) Runnable() error {
	return fault.New(fault.Service, "this system does not run systemd").Hint("Set agent.service: process.")
}

// Where an agent could never run, none is registered, and one that runs elsewhere stays there.
func TestNothingIsRegisteredWhereNothingRuns(t *testing.T) {
	more := func(s *sim.Scenario) { s.Servers[0].Projects[0].Environments = []string{"production", "staging"} }
	fewVMs(t, 1, more, func(ctx context.Context, t *testing.T, all []*machine) {
		m := all[0]
		for _, target := range []string{"", "Shop/production"} {
			o := m.options(5 * time.Minute)
			o.Agent = odd{m}
			f := fault.From(bootstrap.Run(ctx, o))
			seen := m.azure.Agents()
			if f == nil || f.Class != fault.Service || len(seen) > 0 && seen[0].Target != target || len(seen) == 0 && target != "" {
				t.Errorf("%v; %v", f, seen)
			}
			if target == "" {
				joins(ctx, t, m)
				m.environment = "staging"
			}
		}
	})
}

// A stumbling is a VM whose config.sh fails a few times, with words that nobody knows.
type stumbling struct {
	*machine
	fails int
}

func (s *stumbling) Configure(
	ctx context.Context, r agent.Registration, pat secret.PAT, redactor *secret.Redactor, line func(string),
) (int, error) {
	if s.fails--; s.fails >= 0 {
		return 0, fault.New(fault.Agent, "config.sh failed with exit code 1: Hic sunt dracones.").About(agent.OfWords).Hint("Look.")
	}
	return s.machine.Configure(ctx, r, pat, redactor, line)
}

// Words of config.sh's that nobody knows may be of a fault that passes: it is tried again a few times, and then they are told.
func TestWordsThatNobodyKnows(t *testing.T) {
	for fails, joins := range map[int]bool{1: true, 3: true, 4: false} {
		fewVMs(t, 1, nil, func(ctx context.Context, t *testing.T, all []*machine) {
			o := all[0].options(10 * time.Minute)
			o.Agent = &stumbling{all[0], fails}
			begin := time.Now()
			f := fault.From(bootstrap.Run(ctx, o))
			took := time.Since(begin)
			if joins && f != nil || !joins && (f == nil || f.Class != fault.Agent || !strings.Contains(f.Error(), "dracones")) {
				t.Errorf("%d failures: %v", fails, f)
			}
			if took > 2*time.Minute || fails > 1 && took < 20*time.Second {
				t.Errorf("%d failures: it took %s", fails, took)
			}
		})
	}
}
