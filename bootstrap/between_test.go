//go:build linux

package bootstrap_test

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"time"

	"azp-bootstrap/bootstrap"
	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/journal"
	"azp-bootstrap/bootstrap/sim"
)

// roomOf gives a machine the diary's disk.
func (d *diary) roomOf(m *machine) {
	m.room = func() agent.Room {
		d.mu.Lock()
		defer d.mu.Unlock()
		return agent.Room{Folder: "/mnt/work", Free: d.free}
	}
}

// While scripts make room in the work folder no job begins, whatever an operator does meanwhile.
func TestNobodyEnablesTheAgentWhileRoomIsMade(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		before func(ctx context.Context, t *testing.T, m *machine)
		during func(ctx context.Context, t *testing.T, m *machine)
	}{
		"resume of a paused VM": {
			func(ctx context.Context, t *testing.T, m *machine) { paused(ctx, t, m) },
			func(ctx context.Context, t *testing.T, m *machine) {
				said, f := m.resumes(ctx)
				t.Logf("resume: %q %v", said, f)
			}},
		"pause, then resume, during it": {
			nil,
			func(ctx context.Context, t *testing.T, m *machine) {
				said, f := m.pauses(ctx, bootstrap.Pausing{})
				t.Logf("pause: %q %v", said, f)
				said, f = m.resumes(ctx)
				t.Logf("resume: %q %v", said, f)
			}},
		"run --once beside": {
			nil,
			func(ctx context.Context, t *testing.T, m *machine) {
				f := m.once(ctx, time.Minute)
				t.Logf("run --once: %v", f)
			}},
		"a pause that fails": {
			nil,
			func(ctx context.Context, t *testing.T, m *machine) {
				m.azure.Enable(m.agentName(), true)
				m.azure.Enable(m.agentName(), false)
			}},
		"a deregister that fails": {
			nil,
			func(ctx context.Context, t *testing.T, m *machine) {
				fronted(m, "dev.azure.com", refuses(http.MethodDelete))
				done, err := m.leaves(ctx)
				m.front(nil)
				t.Logf("deregister: %v %v", done, err)
			}},
	} {
		t.Run(name, func(t *testing.T) {
			fewVMs(t, 1, nil, func(ctx context.Context, t *testing.T, all []*machine) {
				m, d := all[0], &diary{begun: time.Now(), free: 1 << 30}
				joins(ctx, t, m)
				d.roomOf(m)
				if c.before != nil {
					c.before(ctx, t, m)
				}
				once := false
				m.clean = func(ctx context.Context) error {
					if once {
						return nil
					}
					once = true
					time.Sleep(10 * time.Second)
					c.during(context.Background(), t, m)
					if is, _ := disabled(m); !is && ctx.Err() == nil {
						m.works(time.Now().Add(5 * time.Minute)) // the server gives it a job at once
						time.Sleep(30 * time.Second)
						if ctx.Err() == nil && m.Working("") {
							t.Errorf("a script is at work, and the agent is enabled and runs a job")
						}
					}
					return nil
				}
				s := d.lives(ctx, m, 30*time.Minute)
				is, _ := disabled(m)
				t.Logf("in the end: %s full %v disabled %v", s.Phase, s.Agent.Full, is)
			})
		})
	}
}

// A pause keeps the agent disabled: nobody asks for it again and again.
func TestAPausedVMThatHadNoRoomAsksNobody(t *testing.T) {
	t.Parallel()
	for name, clean := range map[string]bool{"paused, disk never short": false, "paused, scripts made room": true} {
		t.Run(name, func(t *testing.T) {
			fewVMs(t, 1, nil, func(ctx context.Context, t *testing.T, all []*machine) {
				m, d := all[0], &diary{begun: time.Now(), free: 50 << 30}
				paused(ctx, t, m)
				d.roomOf(m)
				if clean {
					d.free = 1 << 30
				}
				m.clean = func(context.Context) error { d.frees(50 << 30); return nil }
				var mu sync.Mutex
				asked := map[string]int{}
				m.front(func(next http.Handler) http.Handler {
					return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						mu.Lock()
						if time.Since(d.begun) > 10*time.Minute {
							asked[r.Host]++
						}
						mu.Unlock()
						next.ServeHTTP(w, r)
					})
				})
				s := d.lives(ctx, m, 70*time.Minute)
				t.Logf("after the first ten minutes, in an hour: %v; paused %v", asked, s.Paused != nil)
				if asked["contoso.vault.azure.net"] > 5 {
					t.Errorf("the vault was asked %d times in an hour by a VM that watches", asked["contoso.vault.azure.net"])
				}
			})
		})
	}
}

// The server is away for a moment after it has disabled the agent, and the room comes back by itself.
func TestAnAgentThatIsLeftDisabledIsEnabled(t *testing.T) {
	t.Parallel()
	fewVMs(t, 1, nil, func(ctx context.Context, t *testing.T, all []*machine) {
		m, d := all[0], &diary{begun: time.Now(), free: 1 << 30}
		joins(ctx, t, m)
		d.roomOf(m)
		patched := false
		fails := 0
		fronted(m, "dev.azure.com", func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			if patched && r.Method == http.MethodGet && fails < 3 { // away for a moment, after the agent was disabled
				fails++
				d.frees(50 << 30) // the job before tidies up
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			if r.Method == http.MethodPatch {
				patched = true
			}
			next.ServeHTTP(w, r)
		})
		s := d.lives(ctx, m, 12*time.Hour)
		is, _ := disabled(m)
		t.Logf("%s full %v drained %v disabled-on-server %v lastError %v", s.Phase, s.Agent.Full, s.Agent.Drained, is, s.LastError)
		if is {
			t.Errorf("there is room for 12 hours, Azure DevOps answers, and the agent is disabled still")
		}
	})
}

// A new registration is enabled by the server, and the disk is as full as before.
func TestAVMWithoutRoomRegistersAnewAndTakesNoJob(t *testing.T) {
	for name, happens := range map[string]func(m *machine){
		"the agent was removed": func(m *machine) { m.azure.Remove(m.agentName()) },
		"another target":        func(m *machine) { m.environment = "staging" },
	} {
		t.Run(name, func(t *testing.T) {
			more := func(s *sim.Scenario) { s.Servers[0].Projects[0].Environments = []string{"production", "staging"} }
			fewVMs(t, 1, more, func(ctx context.Context, t *testing.T, all []*machine) {
				m, d := all[0], &diary{begun: time.Now(), free: 1 << 30}
				joins(ctx, t, m)
				d.roomOf(m)
				if s := d.lives(ctx, m, 10*time.Minute); !s.NoRoom() {
					t.Fatal("not full")
				}
				happens(m)
				o := m.options(5 * time.Minute)
				o.Set = append(o.Set, "health.listen=", "disk.min=5GiB")
				by := &starting{machine: m, t: t}
				o.Agent = by
				err := bootstrap.Run(ctx, o)
				s, _, _ := journal.Read(m.state)
				is, _ := disabled(m)
				t.Logf("%v: full %v, drained %v, disabled on the server %v, lastError %v", err, s.Agent.Full, s.Agent.Drained, is, s.LastError)
				if !is {
					t.Errorf("no room, and the agent is enabled")
				}
			})
		})
	}
}

// The command is killed between its word on disk and the server.
func TestAPauseThatIsCutOffIsMadeGood(t *testing.T) {
	t.Parallel()
	fewVMs(t, 1, nil, func(ctx context.Context, t *testing.T, all []*machine) {
		m := all[0]
		joins(ctx, t, m)
		end := m.watches(ctx)
		time.Sleep(time.Minute)
		if err := journalled(m.state, func(s *journal.State) { s.Paused = &journal.Pause{Since: journal.Now(), By: "alice"} }); err != nil {
			t.Fatal(err)
		}
		time.Sleep(12 * time.Hour)
		is, _ := disabled(m)
		end()
		if !is {
			t.Error("after 12 hours the daemon says that the VM is paused, and the agent is enabled")
		}
	})
}
