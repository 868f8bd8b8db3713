//go:build linux

package bootstrap_test

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"azp-bootstrap/bootstrap"
	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/journal"
)

// A diary is what happens on a VM whose disk is full.
type diary struct {
	mu     sync.Mutex
	begun  time.Time
	free   uint64
	cleans []time.Duration // when the scripts began
	wrong  []string
}

func (d *diary) since() time.Duration { return time.Since(d.begun) }

func (d *diary) frees(bytes uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.free = bytes
}

// lives runs the daemon of m for a while, whose disk wants 5 GiB.
func (d *diary) lives(ctx context.Context, m *machine, long time.Duration) journal.State {
	o := m.options(5 * time.Minute)
	o.Set = append(o.Set, "health.listen=", "disk.min=5GiB")
	o.Once = false
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() { defer close(ended); _ = bootstrap.Run(ctx, o) }()
	time.Sleep(long)
	cancel()
	<-ended
	s, _, err := journal.Read(m.state)
	if err != nil {
		d.wrong = append(d.wrong, err.Error())
	}
	return s
}

// disabled reports whether the server gives the agent no job; gone if there is none.
func disabled(m *machine) (is, gone bool) {
	seen := m.azure.Agents()
	return len(seen) == 1 && seen[0].Disabled, len(seen) == 0
}

func TestAWorkDiskIsKeptFree(t *testing.T) {
	t.Parallel()
	const full, roomy = 1 << 30, 50 << 30
	type outcome struct {
		cleans   int           // how often the scripts ran
		after    time.Duration // not before
		disabled bool          // the agent, in the end
		noRoom   bool
	}
	for name, c := range map[string]struct {
		before func(m *machine, d *diary)
		clean  func(ctx context.Context, m *machine, d *diary) // the scripts
		later  func(m *machine, d *diary)                      // after ten minutes
		want   outcome
	}{
		"scripts make room": {
			clean: func(_ context.Context, _ *machine, d *diary) { d.frees(roomy) },
			want:  outcome{cleans: 1},
		},
		"they do not":                    {want: outcome{cleans: 1, disabled: true, noRoom: true}},
		"they do not, and somebody does": {later: func(_ *machine, d *diary) { d.frees(roomy) }, want: outcome{cleans: 1}},
		"there is room":                  {before: func(_ *machine, d *diary) { d.frees(roomy) }},
		"a job runs": {
			before: func(m *machine, _ *diary) { m.works(time.Now().Add(15 * time.Minute)) },
			clean:  func(_ context.Context, _ *machine, d *diary) { d.frees(roomy) },
			want:   outcome{cleans: 1, after: 15 * time.Minute},
		},
		"a job begins while the agent is disabled": {
			before: func(m *machine, _ *diary) {
				var begun atomic.Bool
				fronted(m, "dev.azure.com", func(w http.ResponseWriter, r *http.Request, next http.Handler) {
					if r.Method == http.MethodPatch && !begun.Swap(true) {
						m.works(time.Now().Add(15 * time.Minute))
					}
					next.ServeHTTP(w, r)
				})
			},
			clean: func(_ context.Context, _ *machine, d *diary) { d.frees(roomy) },
			want:  outcome{cleans: 1, after: 15 * time.Minute},
		},
		"Azure DevOps cannot be asked": {
			before: func(m *machine, _ *diary) {
				fronted(m, "dev.azure.com", func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
					w.WriteHeader(http.StatusServiceUnavailable)
				})
			},
		},
		"Azure DevOps cannot be asked for a while": {
			before: func(m *machine, d *diary) {
				fronted(m, "dev.azure.com", func(w http.ResponseWriter, r *http.Request, next http.Handler) {
					if d.since() < 12*time.Minute {
						w.WriteHeader(http.StatusServiceUnavailable)
						return
					}
					next.ServeHTTP(w, r)
				})
			},
			clean: func(_ context.Context, _ *machine, d *diary) { d.frees(roomy) },
			want:  outcome{cleans: 1, after: 12 * time.Minute},
		},
		"it cannot be asked to enable the agent for a while": {
			before: func(m *machine, d *diary) {
				fronted(m, "dev.azure.com", func(w http.ResponseWriter, r *http.Request, next http.Handler) {
					if d.since() > 8*time.Minute && d.since() < 20*time.Minute {
						w.WriteHeader(http.StatusServiceUnavailable)
						return
					}
					next.ServeHTTP(w, r)
				})
			},
			later: func(_ *machine, d *diary) { d.frees(roomy) },
			want:  outcome{cleans: 1},
		},
		"somebody has disabled the agent": {
			before: func(m *machine, _ *diary) { m.azure.Enable("web-000000", false) },
			clean:  func(_ context.Context, _ *machine, d *diary) { d.frees(roomy) },
			want:   outcome{cleans: 1, disabled: true},
		},
	} {
		t.Run(name, func(t *testing.T) {
			fewVMs(t, 1, nil, func(ctx context.Context, t *testing.T, all []*machine) {
				m := all[0]
				joins(ctx, t, m)
				d := &diary{begun: time.Now(), free: full}
				m.room = func() agent.Room {
					d.mu.Lock()
					defer d.mu.Unlock()
					return agent.Room{Folder: "/mnt/work", Free: d.free}
				}
				m.clean = func(ctx context.Context) error {
					d.cleans = append(d.cleans, d.since())
					if is, _ := disabled(m); !is || m.Working("") {
						d.wrong = append(d.wrong, "the scripts run while a job may run")
					}
					if c.clean != nil {
						c.clean(ctx, m, d)
					}
					return nil
				}
				if c.before != nil {
					c.before(m, d)
				}
				if c.later != nil {
					time.AfterFunc(10*time.Minute, func() { c.later(m, d) })
				}
				s := d.lives(ctx, m, time.Hour)
				is, gone := disabled(m)
				if got := (outcome{len(d.cleans), c.want.after, is, s.NoRoom()}); got != c.want || gone || len(d.wrong) > 0 ||
					s.Phase != journal.Ready {
					t.Errorf("%s, %+v, wanted %+v; %v; %v", s.Phase, got, c.want, m.azure.Agents(), d.wrong)
				}
				if len(d.cleans) > 0 && d.cleans[0] < c.want.after {
					t.Errorf("the scripts ran after %s", d.cleans[0])
				}
				if told := s.LastError != nil && s.LastError.Code == fault.Disk.Code; told != c.want.noRoom {
					t.Errorf("the error is %+v", s.LastError)
				}
			})
		})
	}
}

// A daemon that starts on a VM without room does not enable the agent before there is room.
func TestAFullDiskOutlivesARestart(t *testing.T) {
	fewVMs(t, 1, nil, func(ctx context.Context, t *testing.T, all []*machine) {
		m, d := all[0], &diary{begun: time.Now()}
		joins(ctx, t, m)
		m.room = func() agent.Room { return agent.Room{Folder: "/mnt/work", Free: d.free} }
		enabled := 0
		fronted(m, "dev.azure.com", func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			next.ServeHTTP(w, r)
			if is, _ := disabled(m); r.Method == http.MethodPatch && !is {
				enabled++
			}
		})
		for range 2 {
			if s := d.lives(ctx, m, 10*time.Minute); !s.NoRoom() || enabled > 0 {
				t.Errorf("%s, full %v, enabled %d times", s.Phase, s.Agent.Full, enabled)
			}
		}
		d.free = 50 << 30
		if s := d.lives(ctx, m, 10*time.Minute); s.NoRoom() || enabled != 1 || s.LastError != nil || s.Agent.Drained {
			t.Errorf("%s, full %v, enabled %d times, %+v", s.Phase, s.Agent.Full, enabled, s.LastError)
		}
	})
}

// A VM that is taken away while its scripts run ends them, and leaves.
func TestTheEndOfAVMEndsItsScripts(t *testing.T) {
	fewVMs(t, 1, nil, func(ctx context.Context, t *testing.T, all []*machine) {
		m, d := all[0], &diary{begun: time.Now()}
		joins(ctx, t, m)
		m.room = func() agent.Room { return agent.Room{Folder: "/mnt/work", Free: d.free} }
		var took time.Duration
		m.clean = func(ctx context.Context) error {
			begun := time.Now()
			m.azure.Schedule([]string{m.name}, "Terminate", takenIn)
			<-ctx.Done()
			took = time.Since(begun)
			return ctx.Err()
		}
		s := d.lives(ctx, m, 5*time.Minute)
		if _, gone := disabled(m); s.Phase != journal.Removed || !gone || took == 0 || took > 15*time.Second {
			t.Errorf("%s after %s, %v\n%s", s.Phase, took, m.azure.Agents(), m.said.String())
		}
		if strings.Contains(m.said.String(), "made room") {
			t.Error("scripts that were ended count")
		}
	})
}

// A late is a VM whose data disk is mounted late.
type late struct {
	*machine
	mounted time.Time
	early   bool // the agent was started before
	vault   bool // the vault was asked before
}

func (l *late) WorkFolder(string) error {
	if time.Now().Before(l.mounted) {
		return fault.New(fault.Disk, "/data/work lies on /data, which is not mounted").Passing().Hint("Mount it.")
	}
	return nil
}

func (l *late) Start(ctx context.Context, s agent.Service, caFile string) (string, error) {
	l.early = l.early || time.Now().Before(l.mounted)
	return l.machine.Start(ctx, s, caFile)
}

// A disk that is not mounted is waited for: no agent is started or registered meanwhile. One that runs
// is left alone.
func TestADiskThatComesLate(t *testing.T) {
	for name, c := range map[string]struct {
		joined, runs bool
		comes        time.Duration
		class        fault.Class // of the end
		took         time.Duration
	}{
		"a new VM":                   {comes: 3 * time.Minute, took: 3 * time.Minute},
		"a new VM, and never":        {comes: time.Hour, class: fault.Disk, took: 5 * time.Minute},
		"a VM that boots":            {joined: true, comes: 3 * time.Minute, took: 3 * time.Minute},
		"a VM that boots, and never": {joined: true, comes: time.Hour, class: fault.Disk, took: 5 * time.Minute},
		"an agent that runs":         {joined: true, runs: true, comes: time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			fewVMs(t, 1, nil, func(ctx context.Context, t *testing.T, all []*machine) {
				m := all[0]
				if c.joined {
					joins(ctx, t, m)
				}
				if !c.runs {
					m.stop()
				}
				l := &late{machine: m, mounted: time.Now().Add(c.comes)}
				fronted(m, "contoso.vault", func(w http.ResponseWriter, r *http.Request, next http.Handler) {
					l.vault = l.vault || time.Now().Before(l.mounted)
					next.ServeHTTP(w, r)
				})
				o := m.options(5 * time.Minute)
				o.Agent = l
				begun := time.Now()
				f := fault.From(bootstrap.Run(ctx, o))
				took := time.Since(begun)
				s, _, err := journal.Read(m.state)
				if err != nil {
					t.Fatal(err)
				}
				if (f == nil) != (c.class == fault.Class{}) || f != nil && (f.Class != c.class || !strings.Contains(f.Error(), "/data")) {
					t.Errorf("it ended with %v", f)
				}
				if l.early || l.vault && !c.runs || took < c.took-time.Minute || took > c.took+time.Minute {
					t.Errorf("after %s; started early: %v, the vault was asked: %v", took, l.early, l.vault)
				}
				if want := map[bool]string{true: journal.Ready, false: journal.Failed}[f == nil]; s.Phase != want {
					t.Errorf("%s, wanted %s", s.Phase, want)
				}
				if told := s.LastError != nil && s.LastError.Code == "disk"; told != (f != nil || c.runs) {
					t.Errorf("the error is %+v", s.LastError)
				}
				if c.runs {
					return
				}
				l.mounted = time.Now()
				if f := fault.From(bootstrap.Run(ctx, o)); f != nil || !m.runs {
					t.Errorf("when the disk is there: %v, runs: %v", f, m.runs)
				}
				if s, _, _ := journal.Read(m.state); s.LastError != nil && s.LastError.Code == "disk" {
					t.Errorf("it is mended, and status says %+v", s.LastError)
				}
			})
		})
	}
}

// While a VM waits for its disk, status says so.
func TestADiskThatIsWaitedForIsTold(t *testing.T) {
	for _, joined := range []bool{false, true} {
		fewVMs(t, 1, nil, func(ctx context.Context, t *testing.T, all []*machine) {
			m := all[0]
			if joined {
				joins(ctx, t, m)
				m.stop()
			}
			l := &late{machine: m, mounted: time.Now().Add(3 * time.Minute)}
			o := m.options(5 * time.Minute)
			o.Agent = l
			time.AfterFunc(2*time.Minute, func() {
				if s, _, err := journal.Read(m.state); err != nil || s.LastError == nil || s.LastError.Code != "disk" {
					t.Errorf("joined before: %v: %+v, %v", joined, s.LastError, err)
				}
			})
			if err := bootstrap.Run(ctx, o); err != nil {
				t.Error(err)
			}
			if !strings.Contains(m.said.String(), "/data, which is not mounted") {
				t.Error("the log says nothing")
			}
		})
	}
}

// An operator who takes the VM out while its scripts run is not undone by their end.
func TestAVMThatLeavesWhileItsScriptsRun(t *testing.T) {
	fewVMs(t, 1, nil, func(ctx context.Context, t *testing.T, all []*machine) {
		m, d := all[0], &diary{begun: time.Now()}
		joins(ctx, t, m)
		m.room = func() agent.Room {
			d.mu.Lock()
			defer d.mu.Unlock()
			return agent.Room{Folder: "/mnt/work", Free: d.free}
		}
		m.clean = func(ctx context.Context) error {
			if done, err := m.leaves(ctx); !done || err != nil {
				t.Errorf("deregister: %v, %v", done, err)
			}
			d.frees(50 << 30)
			return nil
		}
		s := d.lives(ctx, m, 10*time.Minute)
		if _, gone := disabled(m); s.Phase != journal.Removed || !gone || s.RemovedBy != journal.ByOperator {
			t.Errorf("%s by %q, %v", s.Phase, s.RemovedBy, m.azure.Agents())
		}
		if strings.Contains(m.said.String(), "could not be enabled") {
			t.Error("it is to be enabled after it has left")
		}
	})
}
