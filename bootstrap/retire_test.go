//go:build linux

package bootstrap_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"azp-bootstrap/bootstrap"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/health"
	"azp-bootstrap/bootstrap/journal"
	"azp-bootstrap/bootstrap/sim"
)

// retires are VMs of a pool that leave by themselves, and whose agents take jobs.
func retires(
	t *testing.T, n int, retire string, more func(*sim.Scenario), do func(ctx context.Context, t *testing.T, all []*machine),
) {
	t.Helper()
	fewVMs(t, n, more, func(ctx context.Context, t *testing.T, all []*machine) {
		for _, m := range all {
			m.pool, m.retire, m.serves = "Default", retire, true
			defer m.stop()
		}
		do(ctx, t, all)
	})
}

// journal is what this VM's journal says.
func (m *machine) journal() journal.State {
	s, _, err := journal.Read(m.state)
	if err != nil {
		m.t.Error(err)
	}
	return s
}

// until waits until something is so.
func until(t *testing.T, what string, limit time.Duration, is func() bool) (took time.Duration) {
	t.Helper()
	begun := time.Now()
	for !is() {
		if time.Since(begun) > limit {
			t.Fatalf("after %s not yet: %s", limit, what)
		}
		time.Sleep(100 * time.Millisecond)
	}
	return time.Since(begun)
}

func (m *machine) is(phase string) func() bool {
	return func() bool { return m.journal().Phase == phase }
}

func (m *machine) agentsLeft() int { return len(m.azure.Agents()) }

// jobsBegun are those that agents have begun.
func (m *machine) jobsBegun() []int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.began)
}

// One job, one VM: two jobs that are queued in the same instant, and one of them is run; then the agent goes
// within seconds, and then the VM.
func TestOneJobOneVM(t *testing.T) {
	t.Parallel()
	for _, then := range []string{"delete", "reimage"} {
		t.Run(then, func(t *testing.T) {
			retires(t, 1, "{jobs: 1, then: "+then+"}", nil, func(ctx context.Context, t *testing.T, all []*machine) {
				m := all[0]
				end := m.watches(ctx)
				until(t, "ready", time.Minute, m.is(journal.Ready))
				m.azure.Queue("web-000000", "", "first", "", 60)
				m.azure.Queue("", "Default", "second", "", 60)
				until(t, "its agent takes no job any more", 3*time.Second, func() bool { return m.azure.Agents()[0].Disabled })
				until(t, "its job ends", 2*time.Minute, func() bool { return !m.azure.Jobs()[0].Finished.IsZero() })
				if took := until(t, "no agent", time.Minute, func() bool { return m.agentsLeft() == 0 }); took > 3*time.Second {
					t.Errorf("the agent is gone %s after the job", took)
				}
				until(t, "Azure is asked", time.Minute, func() bool { return len(m.azure.Fates()) > 0 })
				if s := m.journal(); s.LastError != nil {
					t.Errorf("%+v", s.LastError)
				}
				time.Sleep(time.Hour)
				said := end()
				jobs := m.azure.Jobs()
				if got := m.jobsBegun(); len(got) != 1 || jobs[0].Result != "succeeded" || !jobs[1].Received.IsZero() {
					t.Errorf("jobs %v were begun: %+v", got, jobs)
				}
				if fates := m.azure.Fates(); fates[0].Action != then || fates[0].VM != m.name {
					t.Errorf("%+v", fates)
				}
				if s := m.journal(); s.Phase != journal.Removed || s.RemovedBy != journal.ByRetired {
					t.Errorf("%+v", s)
				}
				if !strings.Contains(said, "this VM goes: "+then) {
					t.Error("it is not said")
				}
			})
		})
	}
}

// That nobody can say what runs here, as while systemd is being updated, is no job: the VM waits for the one that it is for.
func TestAVMDoesNotGoWithoutItsJob(t *testing.T) {
	t.Parallel()
	retires(t, 1, "{jobs: 1, then: delete}", nil, func(ctx context.Context, t *testing.T, all []*machine) {
		m := all[0]
		end := m.watches(ctx)
		defer end()
		until(t, "ready", time.Minute, m.is(journal.Ready))
		m.unseen.Store(true)
		time.Sleep(10 * time.Second)
		m.unseen.Store(false)
		time.Sleep(time.Hour)
		if s := m.journal(); s.Spent() || s.Phase != journal.Ready || m.azure.Agents()[0].Disabled || len(m.azure.Fates()) > 0 {
			t.Fatalf("a VM goes that has had no job: %+v", s)
		}
		m.azure.Queue("web-000000", "", "first", "", 60)
		until(t, "it goes after its job", 3*time.Minute, func() bool { return len(m.azure.Fates()) > 0 })
		if got := m.jobsBegun(); len(got) != 1 {
			t.Errorf("jobs %v were begun", got)
		}
	})
}

// The server hears of a job's end a moment after it has ended here: it is asked again soon, as nobody waits
// longer than three seconds for the agent's end, the network's time included.
func TestAnAgentOfOneJobIsGoneSoonAfterIt(t *testing.T) {
	for late := 100 * time.Millisecond; late < 1500*time.Millisecond; late += 200 * time.Millisecond {
		retires(t, 1, "{jobs: 1, then: delete}", nil, func(ctx context.Context, t *testing.T, all []*machine) {
			m := all[0]
			m.reports = late
			end := m.watches(ctx)
			defer end()
			until(t, "ready", time.Minute, m.is(journal.Ready))
			m.azure.Queue("", "Default", "first", "", 20)
			until(t, "its job ends", time.Minute, func() bool { return !m.azure.Jobs()[0].Finished.IsZero() })
			if took := until(t, "no agent", time.Minute, func() bool { return m.agentsLeft() == 0 }); took > 1300*time.Millisecond {
				t.Errorf("heard of %s after its end: the agent is gone %s after that", late, took)
			}
		})
	}
}

// However its job or its daemon is cut off, an agent that runs one job never begins a second one, and the VM
// never goes before its agent, nor without its job.
func TestAtMostOneJob(t *testing.T) {
	for name, c := range map[string]struct {
		job     float64 // seconds
		happens func(ctx context.Context, m *machine, end *func() string)
	}{
		"the daemon restarts before": {30, func(ctx context.Context, m *machine, end *func() string) {
			(*end)()
			*end = m.watches(ctx)
		}},
		"the daemon is away for the whole job": {1, func(ctx context.Context, m *machine, end *func() string) {
			(*end)()
			m.azure.Queue("", "Default", "hidden", "", 1)
			time.Sleep(time.Minute)
			*end = m.watches(ctx)
		}},
		"a job too short to be seen": {0.05, func(context.Context, *machine, *func() string) {}},
		"the VM reboots in the job": {600, func(ctx context.Context, m *machine, end *func() string) {
			m.azure.Queue("", "Default", "cut", "", 600)
			time.Sleep(10 * time.Second)
			(*end)()
			m.off()
			time.Sleep(20 * time.Second)
			*end = m.watches(ctx)
		}},
		"the VM reboots in the job, and its daemon had not seen it": {600, func(ctx context.Context, m *machine, end *func() string) {
			(*end)()
			m.azure.Queue("", "Default", "cut", "", 600)
			time.Sleep(10 * time.Second)
			m.off()
			time.Sleep(20 * time.Second)
			*end = m.watches(ctx)
		}},
		"the VM reboots before": {30, func(ctx context.Context, m *machine, end *func() string) {
			(*end)()
			m.off()
			*end = m.watches(ctx)
			time.Sleep(10 * time.Second)
		}},
		"the agent falls in the job, and comes back by itself": {600, func(_ context.Context, m *machine, _ *func() string) {
			m.azure.Queue("", "Default", "cut", "", 600)
			time.Sleep(10 * time.Second)
			m.stop()
			m.start() // what is no longer ours to say
		}},
		"it must update before": {30, func(_ context.Context, m *machine, _ *func() string) {
			m.stop()
			time.Sleep(time.Minute)
		}},
		"a paused VM does not leave": {30, func(ctx context.Context, m *machine, _ *func() string) {
			m.azure.Queue("", "Default", "held", "", 30)
			time.Sleep(10 * time.Second)
			if _, f := m.pauses(ctx, pausing); f != nil {
				m.t.Error(f)
			}
			time.Sleep(10 * time.Minute)
			if m.agentsLeft() != 1 || len(m.azure.Fates()) != 0 || m.journal().Phase != journal.Ready {
				m.t.Errorf("%v, %v, %+v", m.azure.Agents(), m.azure.Fates(), m.journal())
			}
			if said, f := m.resumes(ctx); f != nil || !strings.Contains(said, "goes on leaving") {
				m.t.Errorf("%q %v", said, f)
			}
		}},
		"the journal is lost in the job": {60, func(_ context.Context, m *machine, _ *func() string) {
			m.azure.Queue("", "Default", "lost", "", 60)
			time.Sleep(10500 * time.Millisecond)
			if err := os.Remove(journal.File(m.state)); err != nil {
				m.t.Error(err)
			}
			time.Sleep(20 * time.Second)
			if s := m.journal(); s.Phase != journal.Ready || s.Agent.ID != m.disk.id || !s.Spent() {
				m.t.Errorf("%+v", s)
			}
		}},
		"journal and agent's folder are lost in the job": {60, func(_ context.Context, m *machine, _ *func() string) {
			m.azure.Queue("", "Default", "lost", "", 60)
			time.Sleep(10500 * time.Millisecond)
			if err := errors.Join(os.Remove(journal.File(m.state)), m.Wipe()); err != nil {
				m.t.Error(err)
			}
		}},
		"the journal is lost after the job": {1, func(ctx context.Context, m *machine, end *func() string) {
			(*end)()
			m.azure.Queue("", "Default", "hidden", "", 1)
			time.Sleep(time.Minute)
			if err := os.Remove(journal.File(m.state)); err != nil {
				m.t.Error(err)
			}
			*end = m.watches(ctx)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			retires(t, 1, "{jobs: 1}", nil, func(ctx context.Context, t *testing.T, all []*machine) {
				m := all[0]
				end := m.watches(ctx)
				defer func() {
					if said := end(); t.Failed() {
						t.Logf("%s\n%+v\n%+v", said, m.journal(), m.azure.Jobs())
					}
				}()
				until(t, "ready", time.Minute, m.is(journal.Ready))
				c.happens(ctx, m, &end)
				for i := range 3 {
					m.azure.Queue("", "Default", fmt.Sprint("job ", i), "", c.job)
				}
				until(t, "the VM goes", 30*time.Minute, func() bool {
					if len(m.azure.Fates()) > 0 {
						return true
					}
					if s := m.journal(); s.Phase == journal.Removed && m.agentsLeft() > 0 {
						t.Fatalf("removed, with %v", m.azure.Agents())
					}
					return false
				})
				if n := m.agentsLeft(); n != 0 {
					t.Errorf("it goes, and %d agents stay", n)
				}
				time.Sleep(10 * time.Minute)
				if got := m.jobsBegun(); len(got) != 1 {
					t.Errorf("its agent began %d jobs: %v", len(got), got)
				}
			})
		})
	}
}

var pausing = bootstrap.Pausing{Reason: "patches"}

// A VM that has waited idle, has had enough jobs, or is old leaves when no job runs: none ends because of it.
func TestRetires(t *testing.T) {
	for name, c := range map[string]struct {
		retire   string
		jobs     []float64 // seconds each, queued at once
		earliest time.Duration
		latest   time.Duration
		begun    int
	}{
		"idle":                   {retire: "{idle: 30m}", earliest: 30 * time.Minute, latest: 31 * time.Minute},
		"idle after a job":       {"{idle: 30m}", []float64{1200}, 50 * time.Minute, 51 * time.Minute, 1},
		"after three jobs":       {"{jobs: 3}", []float64{60, 60, 60, 60, 60}, 3 * time.Minute, 4 * time.Minute, 3},
		"by its age":             {retire: "{age: 10h}", earliest: 9 * time.Hour, latest: 10*time.Hour + time.Minute},
		"by its age, but a job":  {"{age: 1h}", []float64{7200}, 2 * time.Hour, 121 * time.Minute, 1},
		"once, and idle before":  {retire: "{jobs: 1, idle: 30m}", earliest: 30 * time.Minute, latest: 31 * time.Minute},
		"once, and a job before": {"{jobs: 1, idle: 30m}", []float64{60, 60}, time.Minute, 2 * time.Minute, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			retires(t, 1, c.retire, nil, func(ctx context.Context, t *testing.T, all []*machine) {
				m := all[0]
				end := m.watches(ctx)
				defer func() {
					if said := end(); t.Failed() {
						t.Logf("%s\n%+v\n%+v", said, m.journal(), m.azure.Jobs())
					}
				}()
				until(t, "ready", time.Minute, m.is(journal.Ready))
				begun := time.Now()
				for _, takes := range c.jobs {
					m.azure.Queue("", "Default", "job", "", takes)
				}
				for time.Since(begun) < c.earliest-time.Second {
					time.Sleep(time.Second)
					if len(m.azure.Fates()) > 0 || m.agentsLeft() != 1 {
						t.Fatalf("it left after %s", time.Since(begun))
					}
				}
				until(t, "it leaves", c.latest-c.earliest+time.Second, func() bool { return len(m.azure.Fates()) > 0 })
				time.Sleep(5 * time.Minute)
				if got := m.jobsBegun(); len(got) != c.begun {
					t.Errorf("%d jobs were begun", len(got))
				}
				for _, j := range m.azure.Jobs() {
					if !j.Received.IsZero() && j.Result != "succeeded" {
						t.Errorf("a job was cut: %+v", j)
					}
				}
			})
		})
	}
}

// So many agents stay online, however many VMs are due at once.
func TestKeepsAgentsOnline(t *testing.T) {
	t.Parallel()
	retires(t, 5, "{idle: 10m, keep: 2}", nil, func(ctx context.Context, t *testing.T, all []*machine) {
		for _, m := range all {
			end := m.watches(ctx)
			defer func() {
				if said := end(); t.Failed() {
					t.Logf("%s: %s\n%+v", m.name, said, m.journal())
				}
			}()
		}
		begun := time.Now()
		for time.Since(begun) < 2*time.Hour {
			time.Sleep(time.Second)
			online := 0
			for _, a := range all[0].azure.Agents() {
				if a.Status == "online" {
					online++
				}
			}
			if online < 2 && time.Since(begun) > time.Minute {
				t.Fatalf("after %s %d agents are online", time.Since(begun), online)
			}
		}
		if n := all[0].agentsLeft(); n != 2 {
			t.Errorf("%d agents are left", n)
		}
		for _, a := range all[0].azure.Agents() {
			if a.Disabled {
				t.Errorf("%v stays, and takes no job", a)
			}
		}
	})
}

// A VM that Azure does not let go is unhealthy, says why, takes no job, and goes when it may.
func TestAVMThatMayNotGo(t *testing.T) {
	forbidden := func(s *sim.Scenario) { s.Roles = nil }
	retires(t, 1, "{jobs: 1}", forbidden, func(ctx context.Context, t *testing.T, all []*machine) {
		m := all[0]
		end := m.watches(ctx)
		defer func() {
			if said := end(); t.Failed() {
				t.Logf("%s\n%+v", said, m.journal())
			}
		}()
		until(t, "ready", time.Minute, m.is(journal.Ready))
		m.azure.Queue("", "Default", "job", "", 10)
		until(t, "it is said", 5*time.Minute, func() bool { return m.journal().LastError != nil && m.journal().Phase == journal.Removed })
		s := m.journal()
		if e := s.LastError; e.Code != "identity" || !strings.Contains(e.Message, "virtualMachines/delete") || e.NextTry.IsZero() {
			t.Errorf("%+v", e)
		}
		live := health.NewLive()
		live.Set(s)
		if v := live.Verdict(time.Hour); v != health.Unhealthy || m.agentsLeft() != 0 {
			t.Errorf("%s, with %v", v, m.azure.Agents())
		}
		m.azure.Queue("", "Default", "another", "", 10)
		if f := m.once(ctx, time.Minute); f == nil || f.Class != fault.State {
			t.Errorf("it joined again: %v", f)
		}
		allowed, err := sim.Load("")
		if err != nil {
			t.Fatal(err)
		}
		allowed.VMs = m.azure.VMs()
		if err := m.azure.Apply(allowed); err != nil {
			t.Fatal(err)
		}
		until(t, "it goes", 30*time.Minute, func() bool { return len(m.azure.Fates()) > 0 })
		until(t, "no error", time.Minute, func() bool { return m.journal().LastError == nil })
		if got := m.jobsBegun(); len(got) != 1 {
			t.Errorf("jobs %v", got)
		}
	})
}

// Whatever answers in Azure's place: a VM that is still there when it should be gone says so, and asks again.
func TestAVMThatIsStillThere(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ kind, body, wants string }{
		{"text/html", page, "is not Azure Resource Manager"},
		{"application/json", "", "the VM is still here"},
	} {
		retires(t, 1, "{jobs: 1}", nil, func(ctx context.Context, t *testing.T, all []*machine) {
			m := all[0]
			fronted(m, "management.azure.com", func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
				w.Header().Set("Content-Type", c.kind)
				_, _ = w.Write([]byte(c.body))
			})
			end := m.watches(ctx)
			defer func() {
				if said := end(); t.Failed() {
					t.Logf("%s\n%+v", said, m.journal())
				}
			}()
			until(t, "ready", time.Minute, m.is(journal.Ready))
			m.azure.Queue("", "Default", "job", "", 10)
			until(t, "it is said", 10*time.Minute, func() bool { return m.journal().LastError != nil })
			if e := m.journal().LastError; e.Code != "identity" || !strings.Contains(e.Message, c.wants) || e.Hint == "" ||
				e.NextTry.IsZero() {
				t.Errorf("%+v", e)
			}
			m.front(nil)
			until(t, "it goes", 10*time.Minute, func() bool { return len(m.azure.Fates()) > 0 })
			until(t, "no error", time.Minute, func() bool { return m.journal().LastError == nil })
		})
	}
}

// One that is powered off stays off the pool when somebody starts it again; one that stays may be let in anew.
func TestWhatIsThen(t *testing.T) {
	t.Parallel()
	for _, then := range []string{"poweroff", "none"} {
		t.Run(then, func(t *testing.T) {
			retires(t, 1, "{jobs: 1, then: "+then+"}", nil, func(ctx context.Context, t *testing.T, all []*machine) {
				m := all[0]
				off := 0
				m.goesOff = func(context.Context) error {
					if m.agentsLeft() != 0 {
						t.Error("it goes before its agent")
					}
					off++
					return nil
				}
				end := m.watches(ctx)
				until(t, "ready", time.Minute, m.is(journal.Ready))
				m.azure.Queue("", "Default", "job", "", 10)
				until(t, "it has left", time.Minute, m.is(journal.Removed))
				time.Sleep(time.Minute)
				end()
				m.off()
				end = m.watches(ctx)
				time.Sleep(time.Hour)
				end()
				if want := map[string]int{"poweroff": 1, "none": 0}[then]; off != want || m.agentsLeft() != 0 {
					t.Errorf("powered off %d times, agents %v", off, m.azure.Agents())
				}
				live := health.NewLive()
				live.Set(m.journal())
				if v := live.Verdict(time.Hour); v != health.Healthy {
					t.Error(v)
				}
				f := m.once(ctx, time.Minute)
				if joined := f == nil; joined != (then == "none") {
					t.Errorf("let in anew: %v", f)
				}
			})
		})
	}
}

// A VM that has had its job, or whose agent fell, and that gets no PAT to leave or to go on by, serves nobody: it is unhealthy and
// says why. With a PAT it leaves, or goes on.
func TestWithoutAPATAVMOfOneJobIsUnhealthy(t *testing.T) {
	for _, had := range []bool{true, false} {
		retires(t, 1, "{jobs: 1, then: delete}", nil, func(ctx context.Context, t *testing.T, all []*machine) {
			m := all[0]
			end := m.watches(ctx)
			defer func() {
				if said := end(); t.Failed() {
					t.Logf("%s\n%+v", said, m.journal())
				}
			}()
			until(t, "ready", time.Minute, m.is(journal.Ready))
			disabled := func(is bool) {
				t.Helper()
				scenario, err := sim.Load("")
				if err == nil {
					err = m.azure.SetSecret("", "azp-pat", scenario.PATs[0].Value, time.Time{}, is, false)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			disabled(true)
			if had {
				m.azure.Queue("web-000000", "", "first", "", 60)
				until(t, "its job begins", time.Minute, func() bool { return len(m.jobsBegun()) > 0 })
				time.Sleep(30 * time.Second)
			} else {
				m.stop()
			}
			until(t, "it says why", 3*time.Minute, func() bool {
				live := health.NewLive()
				live.Set(m.journal())
				return m.journal().LastError != nil && live.Verdict(0) == health.Unhealthy
			})
			if s := m.journal(); s.LastError.Code != "vault" || len(m.azure.Fates()) > 0 {
				t.Errorf("%+v, %v", s.LastError, m.azure.Fates())
			}
			disabled(false)
			if had {
				until(t, "it goes", time.Hour, func() bool { return len(m.azure.Fates()) > 0 })
				return
			}
			until(t, "it goes on", time.Hour, m.isRunning)
			if s := m.journal(); s.Phase != journal.Ready || s.Spent() {
				t.Errorf("%+v", s)
			}
		})
	}
}

// An operator who takes a VM of one job out in the middle of its job waits for it, and the VM stays: it was told to leave Azure
// DevOps, and no more. It takes no second job.
func TestAnOperatorTakesAVMOutInItsOnlyJob(t *testing.T) {
	t.Parallel()
	retires(t, 1, "{jobs: 1, then: delete}", nil, func(ctx context.Context, t *testing.T, all []*machine) {
		m := all[0]
		end := m.watches(ctx)
		until(t, "ready", time.Minute, m.is(journal.Ready))
		for range 2 {
			m.azure.Queue("", "Default", "job", "", 600)
		}
		until(t, "its job begins", time.Minute, func() bool { return len(m.jobsBegun()) > 0 })
		time.Sleep(time.Minute)
		_, err := bootstrap.Deregister(ctx, m.options(time.Minute), bootstrap.Leaving{})
		time.Sleep(time.Hour)
		said := end()
		if s := m.journal(); err != nil || s.Phase != journal.Removed || m.agentsLeft() != 0 || len(m.azure.Fates()) > 0 {
			t.Errorf("%v, %+v, agents %v, fates %v\n%s", err, s, m.azure.Agents(), m.azure.Fates(), said)
		}
		if got := m.jobsBegun(); len(got) != 1 || m.azure.Jobs()[0].Result != "succeeded" {
			t.Errorf("%v of %+v", got, m.azure.Jobs())
		}
	})
}

// A VM that is due and gets no PAT says in its status what it waits for, whatever the clock was when that began, and goes when it
// gets one.
func TestWithoutAPATAVMThatIsDueSaysWhatItWaitsFor(t *testing.T) {
	retires(t, 1, "{jobs: 2, then: delete}", nil, func(ctx context.Context, t *testing.T, all []*machine) {
		m := all[0]
		end := m.watches(ctx)
		defer func() {
			if said := end(); t.Failed() {
				t.Logf("%s\n%+v", said, m.journal())
			}
		}()
		until(t, "ready", time.Minute, m.is(journal.Ready))
		scenario, err := sim.Load("")
		if err != nil {
			t.Fatal(err)
		}
		pat := func(off bool) {
			if err := m.azure.SetSecret("", "azp-pat", scenario.PATs[0].Value, time.Time{}, off, false); err != nil {
				t.Fatal(err)
			}
		}
		pat(true)
		for range 2 {
			m.azure.Queue("web-000000", "", "job", "", 10)
		}
		text := func() string { return health.Retires(m.journal(), time.Now()) }
		until(t, "it says why", 5*time.Minute, func() bool { return strings.Contains(text(), "; not yet: ") })
		if got := text(); !strings.Contains(got, "it had 2 jobs") || !strings.Contains(got, "azp-pat") ||
			!strings.HasSuffix(got, "; then delete") {
			t.Error(got)
		}
		pat(false)
		until(t, "it goes", 10*time.Minute, func() bool { return len(m.azure.Fates()) > 0 })
		if s := m.journal(); s.Retire != nil && s.Retire.Waits != "" {
			t.Errorf("%+v", s.Retire)
		}
	})
}

// A job that mounts something over the agent's folder, which is its account's, keeps no VM from going, whoever takes it. An
// operator is told.
func TestACoveredFolderHoldsNoVMUp(t *testing.T) {
	for _, by := range []string{journal.ByRetired, journal.ByTerminate, journal.ByOperator} {
		retires(t, 1, "{jobs: 1, then: delete}", nil, func(ctx context.Context, t *testing.T, all []*machine) {
			m := all[0]
			end := m.watches(ctx)
			defer func() {
				if said := end(); t.Failed() {
					t.Logf("%s: %s\n%+v", by, said, m.journal())
				}
			}()
			until(t, "ready", time.Minute, m.is(journal.Ready))
			m.covered.Store(true)
			switch by {
			case journal.ByRetired:
				m.azure.Queue("web-000000", "", "first", "", 60)
				until(t, "it goes", 3*time.Minute, func() bool { return len(m.azure.Fates()) > 0 })
			case journal.ByTerminate:
				event := m.azure.Schedule([]string{m.name}, "Terminate", takenIn).ID
				until(t, "it has left", 3*time.Minute, m.is(journal.Removed))
				time.Sleep(time.Second)
				if m.azure.Cancel(event) {
					t.Error("the event was not acknowledged")
				}
			case journal.ByOperator:
				if _, err := bootstrap.Deregister(ctx, m.options(time.Minute), bootstrap.Leaving{}); err == nil {
					t.Error("an operator is not told")
				}
				m.covered.Store(false)
				if _, err := bootstrap.Deregister(ctx, m.options(time.Minute), bootstrap.Leaving{}); err != nil {
					t.Error(err)
				}
			}
			if s := m.journal(); s.RemovedBy != by || m.agentsLeft() > 0 {
				t.Errorf("by %s, not %s: %v", s.RemovedBy, by, m.azure.Agents())
			}
		})
	}
}

// What becomes of a VM that has left is what the configuration says by now, also if Azure has refused what it said before.
func TestThenIsTheConfigurations(t *testing.T) {
	t.Parallel()
	forbidden := func(s *sim.Scenario) { s.Roles = nil }
	for _, to := range []string{"{jobs: 1, then: none}", "{then: delete}"} {
		retires(t, 1, "{jobs: 1, then: delete}", forbidden, func(ctx context.Context, t *testing.T, all []*machine) {
			m := all[0]
			end := m.watches(ctx)
			until(t, "ready", time.Minute, m.is(journal.Ready))
			m.azure.Queue("web-000000", "", "first", "", 60)
			until(t, "it may not go", 5*time.Minute, func() bool {
				s := m.journal()
				return s.Phase == journal.Removed && s.LastError != nil
			})
			end()
			m.retire = to
			end = m.watches(ctx)
			time.Sleep(time.Hour)
			end()
			s := m.journal()
			live := health.NewLive()
			live.Set(s)
			if v := live.Verdict(time.Hour); v != health.Healthy || s.LastError != nil || s.Retire == nil || s.Retire.Then != "none" {
				t.Errorf("%s: %v, %+v, %+v", to, v, s.Retire, s.LastError)
			}
		})
	}
}

// A VM that cannot join never goes by itself.
func TestAVMThatCannotJoinStays(t *testing.T) {
	t.Parallel()
	refuse := func(s *sim.Scenario) { s.PATs[0].Value = strings.ToUpper(s.PATs[0].Value) }
	retires(t, 1, "{jobs: 1, idle: 10m, age: 1h}", refuse, func(ctx context.Context, t *testing.T, all []*machine) {
		m := all[0]
		end := m.watches(ctx)
		time.Sleep(24 * time.Hour)
		end()
		if s := m.journal(); s.Phase != journal.Failed || len(m.azure.Fates()) != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// An agent that somebody removed may have had its only job: it is not registered again but by an operator.
func TestNobodyKnowsWhatARemovedAgentDid(t *testing.T) {
	t.Parallel()
	retires(t, 1, "{jobs: 1}", nil, func(ctx context.Context, t *testing.T, all []*machine) {
		m := all[0]
		joins(ctx, t, m)
		m.azure.Remove(m.agentName())
		m.stop()
		end := m.watches(ctx)
		time.Sleep(2 * time.Hour)
		end()
		s := m.journal()
		if m.agentsLeft() != 0 || s.Phase != journal.Failed || s.LastError == nil || s.LastError.Code != "target" ||
			len(m.azure.Fates()) != 0 {
			t.Errorf("%v, %+v, %v", m.azure.Agents(), s, m.azure.Fates())
		}
		o := m.options(time.Minute)
		if _, err := bootstrap.Deregister(ctx, o, bootstrap.Leaving{Local: true}); err != nil {
			t.Fatal(err)
		}
		joins(ctx, t, m)
		if m.agentsLeft() != 1 || len(m.jobsBegun()) != 0 {
			t.Errorf("%v", m.azure.Agents())
		}
	})
}

// Where another VM's agent is taken over, that one's jobs are not counted.
func TestAnothersJobsAreNotOurs(t *testing.T) {
	t.Parallel()
	for _, by := range []string{"script", "rest"} {
		t.Run(by, func(t *testing.T) { anothersJobs(t, by) })
	}
}

func anothersJobs(t *testing.T, by string) {
	retires(t, 2, "{jobs: 1}", func(s *sim.Scenario) { s.VMs[1].ComputerName = s.VMs[0].ComputerName },
		func(ctx context.Context, t *testing.T, all []*machine) {
			first, m := all[0], all[1]
			m.called, m.registration = first.agentName(), by
			first.retire = ""
			joins(ctx, t, first)
			first.azure.Queue("", "Default", "of the first", "", 5)
			time.Sleep(time.Minute)
			first.stop() // it was deleted
			end := m.watches(ctx)
			defer func() {
				if said := end(); t.Failed() {
					t.Logf("%s\n%+v\n%+v", said, m.journal(), m.azure.Jobs())
				}
			}()
			until(t, "ready", time.Minute, m.is(journal.Ready))
			if once := m.journal().Once; once == nil || once.Before.Completed != 1 {
				t.Errorf("%+v", once)
			}
			time.Sleep(time.Hour)
			if m.agentsLeft() != 1 || len(m.azure.Fates()) != 0 {
				t.Fatal("it left without its job")
			}
			m.azure.Queue("", "Default", "of the second", "", 5)
			m.azure.Queue("", "Default", "of nobody", "", 5)
			until(t, "it goes", 5*time.Minute, func() bool { return len(m.azure.Fates()) > 0 })
			if got := m.jobsBegun(); len(got) != 1 {
				t.Errorf("jobs %v", got)
			}
		})
}

// A server that does not tell of the last job of an agent is none for VMs of one job.
func TestAServerThatDoesNotTellOfJobs(t *testing.T) {
	old := func(s *sim.Scenario) { s.Servers[0].APIVersion = "4.1" }
	retires(t, 1, "{jobs: 1}", old, func(ctx context.Context, t *testing.T, all []*machine) {
		if f := all[0].once(ctx, time.Minute); f == nil || f.Class != fault.Target || !strings.Contains(f.Error(), "too old for retire.jobs") {
			t.Error(f)
		}
		if all[0].agentsLeft() != 0 {
			t.Error("it was registered all the same")
		}
	})
}

// A job that waits for the agent begins before anybody has looked, and ends before that: it is its only one.
func TestAJobBeforeTheFirstLook(t *testing.T) {
	for _, by := range []string{"script", "rest"} {
		t.Run(by, func(t *testing.T) {
			retires(t, 1, "{jobs: 1}", nil, func(ctx context.Context, t *testing.T, all []*machine) {
				m := all[0]
				m.registration = by
				for range 3 {
					m.azure.Queue("", "Default", "at once", "", 0.05)
				}
				m.front(func(next http.Handler) http.Handler {
					return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						time.Sleep(3 * time.Second)
						next.ServeHTTP(w, r)
					})
				})
				end := m.watches(ctx)
				defer func() {
					if said := end(); t.Failed() {
						t.Logf("%s\n%+v\n%+v", said, m.journal(), m.azure.Jobs())
					}
				}()
				until(t, "it goes", 30*time.Minute, func() bool { return len(m.azure.Fates()) > 0 })
				if got := m.jobsBegun(); len(got) != 1 || m.agentsLeft() != 0 {
					t.Errorf("jobs %v, agents %v", got, m.azure.Agents())
				}
			})
		})
	}
}

// Time in which no job could come is no idle time: a VM is not taken away because it was patched.
func TestAPauseIsNoIdleTime(t *testing.T) {
	t.Parallel()
	for name, running := range map[string]bool{"the daemon runs": true, "it does not": false} {
		t.Run(name, func(t *testing.T) {
			retires(t, 1, "{idle: 30m}", nil, func(ctx context.Context, t *testing.T, all []*machine) {
				m := all[0]
				end := m.watches(ctx)
				until(t, "ready", time.Minute, m.is(journal.Ready))
				time.Sleep(20 * time.Minute)
				if !running {
					end()
				}
				o := m.options(5 * time.Minute)
				if _, err := bootstrap.Pause(ctx, o, pausing); err != nil {
					t.Fatal(err)
				}
				time.Sleep(2 * time.Hour)
				if _, err := bootstrap.Resume(ctx, o); err != nil {
					t.Fatal(err)
				}
				if !running {
					end = m.watches(ctx)
				}
				resumed := time.Now()
				until(t, "it goes", time.Hour, func() bool { return len(m.azure.Fates()) > 0 })
				if took := time.Since(resumed); took < 30*time.Minute || took > 31*time.Minute {
					t.Errorf("it leaves %s after the pause", took)
				}
				if said := end(); t.Failed() {
					t.Log(said)
				}
			})
		})
	}
}

// What a job leaves behind, named as the agent's worker, keeps no VM for ever: once the agent takes no job,
// and Azure DevOps has shown none for so long that it would have given up one it cannot hear of, it goes.
func TestWhatAJobLeavesBehind(t *testing.T) {
	t.Parallel()
	for _, retire := range []string{"{jobs: 1}", "{age: 1h}"} {
		t.Run(retire, func(t *testing.T) {
			retires(t, 1, retire, nil, func(ctx context.Context, t *testing.T, all []*machine) {
				m := all[0]
				end := m.watches(ctx)
				defer func() {
					if said := end(); t.Failed() {
						t.Logf("%s\n%+v", said, m.journal())
					}
				}()
				until(t, "ready", time.Minute, m.is(journal.Ready))
				m.works(time.Now().Add(1000 * time.Hour))
				begun := time.Now()
				until(t, "its agent takes no job", time.Hour, func() bool { return m.azure.Agents()[0].Disabled })
				disabled := time.Now()
				until(t, "it goes", time.Hour, func() bool { return len(m.azure.Fates()) > 0 })
				if took := time.Since(disabled); took < 15*time.Minute || took > 18*time.Minute {
					t.Errorf("it goes %s after its agent was disabled, %s after it was ready", took, time.Since(begun))
				}
			})
		})
	}
}

// An agent that somebody has disabled to look at its VM, and one in an outage, could get no job: the VM is not
// idle, and does not leave in the moment in which that is over.
func TestAnAgentThatCanGetNoJobIsNotIdle(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ begin, end func(m *machine) }{
		"disabled by a person": {
			func(m *machine) { m.azure.Enable(m.azure.Agents()[0].Name, false) },
			func(m *machine) { m.azure.Enable(m.azure.Agents()[0].Name, true) },
		},
		"an outage that the agent does not tell": {
			func(m *machine) {
				m.front(func(http.Handler) http.Handler {
					return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
				})
			},
			func(m *machine) { m.front(nil) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			retires(t, 1, "{idle: 30m}", nil, func(ctx context.Context, t *testing.T, all []*machine) {
				m := all[0]
				end := m.watches(ctx)
				defer func() {
					if said := end(); t.Failed() {
						t.Logf("%s\n%+v", said, m.journal())
					}
				}()
				until(t, "ready", time.Minute, m.is(journal.Ready))
				time.Sleep(20 * time.Minute)
				c.begin(m)
				time.Sleep(2 * time.Hour)
				if len(m.azure.Fates()) > 0 || m.agentsLeft() != 1 {
					t.Fatal("it left meanwhile")
				}
				c.end(m)
				over := time.Now()
				until(t, "it goes", 2*time.Hour, func() bool { return len(m.azure.Fates()) > 0 })
				if took := time.Since(over); took < 29*time.Minute {
					t.Errorf("it leaves %s after that was over", took)
				}
			})
		})
	}
}
