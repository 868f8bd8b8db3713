//go:build linux

package bootstrap_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"azp-bootstrap/bootstrap"
	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/journal"
)

// jobs are what the journal says of this VM's jobs.
func (m *machine) jobs(t *testing.T) journal.Jobs {
	t.Helper()
	s, _, err := journal.Read(m.state)
	if err != nil {
		t.Fatal(err)
	}
	return s.Agent.Jobs
}

// A job is counted once, whatever happens to the daemon and to the VM while it runs.
func TestAJobIsCountedOnce(t *testing.T) {
	t.Parallel()
	for name, happens := range map[string]func(ctx context.Context, t *testing.T, m *machine, end func() string) func() string{
		"nothing": func(_ context.Context, _ *testing.T, _ *machine, end func() string) func() string { return end },
		"the daemon restarts, and ends it": func(ctx context.Context, _ *testing.T, m *machine, end func() string) func() string {
			end()
			m.works(time.Time{})
			return m.watches(ctx)
		},
		"the daemon is away when it ends": func(ctx context.Context, _ *testing.T, m *machine, end func() string) func() string {
			end()
			time.Sleep(20 * time.Minute)
			return m.watches(ctx)
		},
		"the power is cut": func(ctx context.Context, _ *testing.T, m *machine, end func() string) func() string {
			end()
			m.stop()
			m.works(time.Time{})
			m.start()
			return m.watches(ctx)
		},
		"it is paused and resumed": func(ctx context.Context, t *testing.T, m *machine, end func() string) func() string {
			if _, f := m.pauses(ctx, bootstrap.Pausing{}); f != nil {
				t.Error(f)
			}
			time.Sleep(10 * time.Minute)
			if _, f := m.resumes(ctx); f != nil {
				t.Error(f)
			}
			return end
		},
	} {
		t.Run(name, func(t *testing.T) {
			fewVMs(t, 1, nil, func(ctx context.Context, t *testing.T, all []*machine) {
				m := all[0]
				joins(ctx, t, m)
				end := m.watches(ctx)
				time.Sleep(time.Minute)
				m.works(time.Now().Add(5 * time.Minute))
				time.Sleep(time.Minute)
				if j := m.jobs(t); j.Since.IsZero() || j.Ended != 0 {
					t.Errorf("it runs: %+v", j)
				}
				end = happens(ctx, t, m, end)
				time.Sleep(40 * time.Minute)
				end()
				if j := m.jobs(t); !j.Since.IsZero() || j.Ended != 1 || j.IdleSince.IsZero() {
					t.Errorf("it has ended: %+v", j)
				}
			})
		})
	}
}

// What an earlier registration has run is not this one's.
func TestJobsAreOfARegistration(t *testing.T) {
	fewVMs(t, 1, nil, func(ctx context.Context, t *testing.T, all []*machine) {
		m := all[0]
		joins(ctx, t, m)
		end := m.watches(ctx)
		for range 3 {
			m.works(time.Now().Add(time.Minute))
			time.Sleep(2 * time.Minute)
		}
		end()
		if j := m.jobs(t); j.Ended != 3 || j.Timed != 3 || j.Seconds < 170 || j.Seconds > 190 {
			t.Errorf("three of a minute each: %+v", j)
		}
		if _, err := m.leaves(ctx); err != nil {
			t.Fatal(err)
		}
		joins(ctx, t, m)
		if j := m.jobs(t); j.Ended != 0 {
			t.Errorf("of a new registration: %+v", j)
		}
	})
}

// An attempt that fails puts back where the VM stood, and not what its agent has run meanwhile.
func TestAJobThatEndsInAnAttemptThatFails(t *testing.T) {
	fewVMs(t, 1, nil, func(ctx context.Context, t *testing.T, all []*machine) {
		m := all[0]
		joins(ctx, t, m)
		fronted(m, "dev.azure.com", func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			w.WriteHeader(http.StatusServiceUnavailable)
		})
		m.environment = "nowhere"
		end := m.watches(ctx)
		time.Sleep(30 * time.Second)
		m.works(time.Now().Add(time.Minute))
		time.Sleep(8 * time.Minute)
		m.front(nil)
		end()
		s, _, err := journal.Read(m.state)
		if j := s.Agent.Jobs; err != nil || s.LastError == nil || s.Phase != journal.Ready || j.Ended != 1 || !j.Since.IsZero() {
			t.Errorf("%v: %+v", err, s)
		}
	})
}

// A job that is shorter than the pause between two looks is seen, because the agent says so.
func TestAShortJobIsSeen(t *testing.T) {
	fewVMs(t, 1, nil, func(ctx context.Context, t *testing.T, all []*machine) {
		m := all[0]
		m.words = make(chan agent.Word)
		joins(ctx, t, m)
		end := m.watches(ctx)
		for i := range 6 {
			time.Sleep(time.Minute + time.Duration(i)*500*time.Millisecond)
			m.words <- agent.Job
			time.Sleep(time.Second) // the worker starts
			m.works(time.Now().Add(time.Second))
			time.Sleep(2 * time.Second)
		}
		end()
		if j := m.jobs(t); j.Ended != 6 {
			t.Errorf("six: %+v", j)
		}
	})
}

// Who says that there are jobs makes none.
func TestAWordIsNoJob(t *testing.T) {
	fewVMs(t, 1, nil, func(ctx context.Context, t *testing.T, all []*machine) {
		m := all[0]
		m.words = make(chan agent.Word)
		joins(ctx, t, m)
		end := m.watches(ctx)
		time.Sleep(time.Minute)
		for range 1000 {
			m.words <- agent.Job
		}
		time.Sleep(time.Minute)
		end()
		if j := m.jobs(t); j.Ended != 0 || !j.Since.IsZero() {
			t.Errorf("%+v", j)
		}
	})
}
