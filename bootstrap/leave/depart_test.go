package leave

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"azp-bootstrap/bootstrap/azure"
	"azp-bootstrap/bootstrap/config"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/journal"
	"azp-bootstrap/bootstrap/member"
	"azp-bootstrap/bootstrap/member/membertest"
	"azp-bootstrap/bootstrap/phase"
	"azp-bootstrap/bootstrap/retry"
)

func TestDepartTakesAsLongAsItMayAndNoLonger(t *testing.T) {
	never := 1000 * time.Hour
	on := config.Drain{Enabled: true, Timeout: 15 * time.Minute}
	for _, c := range []struct {
		name    string
		drain   config.Drain
		wait    bool
		in      time.Duration // the event's NotBefore; 0 = none
		jobEnds time.Duration
		from    time.Duration // when the agent is removed: between these two
		to      time.Duration
	}{
		{"no job", on, true, 5 * time.Minute, 0, 0, time.Second},
		{"the job ends in time", on, true, 10 * time.Minute, 3 * time.Minute, 3 * time.Minute, 3*time.Minute + 2*time.Second},
		{"the job outlasts the event", on, true, 5 * time.Minute, never, 5*time.Minute - margin, 5*time.Minute - margin + 2*time.Second},
		{"the job outlasts drain.timeout", config.Drain{Enabled: true, Timeout: time.Minute}, true, 15 * time.Minute, never, time.Minute, time.Minute + 2*time.Second},
		{"a command, with drain.timeout", on, true, 0, never, 15 * time.Minute, 15*time.Minute + 2*time.Second},
		{"drain is off", config.Drain{Timeout: 15 * time.Minute}, true, 5 * time.Minute, never, 0, time.Second},
		{"spot: no waiting", on, false, 30 * time.Second, never, 0, time.Second},
		{"the event is due", on, true, time.Second, never, 0, time.Second},
		{"the event is over", on, true, -time.Minute, never, 0, time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &membertest.Pool{Begin: time.Now(), JobEnds: c.jobEnds, Enabled: true, Deleted: -1, Disabled: -1}
				m, r := membertest.Joined(t, p, c.drain)
				acknowledged := time.Duration(-1)
				n := Notice{Why: "Terminate", Goes: true, Wait: c.wait, Acknowledge: func(context.Context) error {
					acknowledged = time.Since(p.Begin)
					return nil
				}}
				if c.in != 0 {
					n.Until = p.Begin.Add(c.in)
				}
				if err := departs(context.Background(), r, m, n); err != nil {
					t.Fatal(err)
				}
				if p.Deleted < c.from || p.Deleted > c.to {
					t.Errorf("removed after %s, want %s to %s", p.Deleted, c.from, c.to)
				}
				if p.Disabled != 0 || acknowledged < p.Deleted {
					t.Errorf(
						"disabled after %s, removed after %s, acknowledged after %s",
						p.Disabled,
						p.Deleted,
						acknowledged,
					)
				}
				if m.State().Phase != journal.Removed || m.Access.Holds() {
					t.Errorf("phase %s; the PAT is kept: %v", m.State().Phase, m.Access.Holds())
				}
			})
		})
	}
}

// A scale set that goes as a whole must not flood the server.
func TestDepartLetsTheServerRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &membertest.Pool{Begin: time.Now(), JobEnds: 10 * time.Minute, Enabled: true, Deleted: -1, Disabled: -1}
		m, r := membertest.Joined(t, p, config.Drain{Enabled: true, Timeout: 15 * time.Minute})
		if err := departs(context.Background(), r, m, Notice{Why: "Terminate", Goes: true, Wait: true}); err != nil {
			t.Fatal(err)
		}
		if perSecond := float64(p.Requests) / (10 * time.Minute).Seconds(); perSecond > 0.6 {
			t.Errorf("%.1f requests a second while a job is waited for", perSecond)
		}
	})
}

// What cannot be removed is left behind: said, kept for the next boot, and not acknowledged.
func TestDepartLeavesBehindWhatItCannotRemove(t *testing.T) {
	on := config.Drain{Enabled: true, Timeout: 15 * time.Minute}
	for name, c := range map[string]struct {
		trouble func(time.Duration) int
		in      time.Duration
		removed bool
		class   fault.Class
		within  time.Duration
	}{
		"an outage that passes":   {func(d time.Duration) int { return map[bool]int{true: 503}[d < 2*time.Minute] }, 5 * time.Minute, true, fault.Class{}, 5 * time.Minute},
		"an outage that does not": {func(time.Duration) int { return 503 }, 5 * time.Minute, false, fault.Network, 5*time.Minute + time.Second},
		"the PAT is revoked":      {func(time.Duration) int { return 401 }, 5 * time.Minute, false, fault.PAT, time.Minute},
		"spot and an outage":      {func(time.Duration) int { return 503 }, 30 * time.Second, false, fault.Network, 31 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &membertest.Pool{Begin: time.Now(), Trouble: c.trouble, Enabled: true, Deleted: -1, Disabled: -1}
				m, r := membertest.Joined(t, p, on)
				acknowledged := false
				err := departs(
					context.Background(),
					r,
					m,
					Notice{
						Why:   "Terminate",
						Goes:  true,
						Wait:  true,
						Until: p.Begin.Add(c.in),
						Acknowledge: func(context.Context) error {
							acknowledged = true
							return nil
						},
					},
				)
				if took := time.Since(p.Begin); took > c.within {
					t.Errorf("it took %s", took)
				}
				if c.removed != (err == nil) || c.removed != acknowledged || c.removed != (p.Deleted >= 0) {
					t.Errorf("removed %v, acknowledged %v: %v", p.Deleted >= 0, acknowledged, err)
				}
				want := journal.Draining
				if c.removed {
					want = journal.Removed
				} else if f := fault.From(err); f.Class != c.class {
					t.Errorf("class %s: %v", f.Class.Code, err)
				}
				if s, _, _ := journal.Read(m.Journal.Dir()); s.Phase != want {
					t.Errorf("the state is %s", s.Phase)
				}
			})
		})
	}
}

// A source of scheduled events on a fake clock.
type source struct {
	begin time.Time
	slow  time.Duration // the first answer's
	asked []time.Duration
	tell  func(since time.Duration) (int, []azure.Event, error)
}

func (s *source) Events(ctx context.Context) (int, []azure.Event, error) {
	s.asked = append(s.asked, time.Since(s.begin))
	if len(s.asked) == 1 && !retry.Pause(ctx, s.slow) {
		return 0, nil, ctx.Err()
	}
	return s.tell(time.Since(s.begin))
}

func (s *source) Instance(context.Context) (azure.Instance, error) {
	return azure.Instance{Name: "web_1"}, nil
}

func (s *source) Acknowledge(context.Context, string) error { return nil }

func TestScheduledEventsAreHeard(t *testing.T) {
	event := func(kind string, at time.Duration, started bool, vms ...string) azure.Event {
		return azure.Event{ID: kind, Type: kind, Started: started, NotBefore: time.Now().Add(at), Resources: vms}
	}
	for _, c := range []struct {
		name string
		slow time.Duration
		tell func(since time.Duration) (int, []azure.Event, error)
		why  string // the notice's; "" = none within an hour
		by   time.Duration
		wait bool
		ack  bool
	}{
		{"terminate", 0, func(since time.Duration) (int, []azure.Event, error) {
			if since < time.Minute {
				return 1, nil, nil
			}
			return 2, []azure.Event{event("Terminate", 5*time.Minute, false, "web_1")}, nil
		}, "Terminate", time.Minute + PollEvents, true, true},
		{"the first answer takes two minutes", 2 * time.Minute, func(time.Duration) (int, []azure.Event, error) {
			return 1, []azure.Event{event("Terminate", 5*time.Minute, false, "WEB_1")}, nil
		}, "Terminate", 2 * time.Minute, true, true},
		{"spot", 0, func(time.Duration) (int, []azure.Event, error) {
			return 1, []azure.Event{event("Preempt", 30*time.Second, false, "web_1")}, nil
		}, "Preempt", 0, false, true},
		{"for two: the other VM's is not ours to acknowledge", 0, func(time.Duration) (int, []azure.Event, error) {
			return 1, []azure.Event{event("Terminate", 5*time.Minute, false, "web_0", "web_1")}, nil
		}, "Terminate", 0, true, false},
		{"under way already", 0, func(time.Duration) (int, []azure.Event, error) {
			return 1, []azure.Event{event("Terminate", 0, true, "web_1")}, nil
		}, "Terminate", 0, false, false},
		{"a neighbour's, then our own", 0, func(since time.Duration) (int, []azure.Event, error) {
			events := []azure.Event{event("Terminate", 5*time.Minute, false, "web_2")}
			if since < 10*time.Minute {
				return 1, events, nil
			}
			return 2, append(events, event("Terminate", 5*time.Minute, false, "web_1")), nil
		}, "Terminate", 10*time.Minute + PollEvents, true, true},
		{"reboots are no end", 0, func(time.Duration) (int, []azure.Event, error) {
			return 1, []azure.Event{event("Reboot", time.Minute, false, "web_1"), event("Redeploy", time.Minute, false, "web_1"), event("Freeze", time.Minute, false, "web_1")}, nil
		}, "", 0, false, false},
		{"IMDS is away for a while", 0, func(since time.Duration) (int, []azure.Event, error) {
			if since < 20*time.Minute {
				return 0, nil, errors.New("no answer")
			}
			return 1, []azure.Event{event("Terminate", 5*time.Minute, false, "web_1")}, nil
		}, "Terminate", 20*time.Minute + pollTroubled, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				m, _ := membertest.New(t)
				s := &source{begin: time.Now(), slow: c.slow, tell: c.tell}
				heard := make(chan Notice)
				go ScheduledEvents{s, m.Log}.Listen(ctx, heard)
				var n *Notice
				select {
				case first := <-heard:
					n = &first
				case <-ctx.Done():
				}
				took := time.Since(s.begin)
				select { // it listens on, and does not repeat itself
				case again := <-heard:
					t.Errorf("%s is told again", again.Why)
				case <-ctx.Done():
				}
				synctest.Wait()
				switch {
				case n != nil:
					if n.Why != c.why || !n.Goes || n.Wait != c.wait || c.ack != (n.Acknowledge != nil) ||
						took > c.by {
						t.Errorf(
							"heard %q after %s: waits %v, can be acknowledged %v",
							n.Why,
							took,
							n.Wait,
							n.Acknowledge != nil,
						)
					}
				case c.why != "":
					t.Error("nothing was heard")
				}
				for i := 1; i < len(s.asked); i++ { // IMDS must not be flooded
					if between := s.asked[i] - s.asked[i-1]; between < PollEvents {
						t.Fatalf("asked again after %s", between)
					}
				}
			})
		})
	}
}

// The right to view the pool goes in the very moment in which the agent is removed: that it is gone
// nobody says.
func TestARemovalThatNobodyConfirms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &membertest.Pool{Begin: time.Now(), Enabled: true, Deleted: -1, Disabled: -1, HidesDeleted: true}
		m, r := membertest.Joined(t, p, config.Drain{Enabled: true, Timeout: 15 * time.Minute})
		m.Agent = &membertest.Worker{Runner: membertest.Runner(t, m)}
		n := Notice{
			Why:   "Terminate",
			Goes:  true,
			Wait:  true,
			Until: p.Begin.Add(10 * time.Minute),
			Acknowledge: func(context.Context) error {
				t.Error("acknowledged")
				return nil
			},
		}
		if err := departs(
			t.Context(),
			r,
			m,
			n,
		); fault.From(err).Class != fault.Target ||
			m.State().Phase != journal.Draining {
			t.Errorf("%v in the phase %s", err, m.State().Phase)
		}
	})
}

// Whatever has become of the agent and its pool on the server: a job that runs here is waited for,
// an agent that is not this VM's is left alone, and only who has left says so to the platform.
func TestDepartHarmsNobody(t *testing.T) {
	const jobEnds = 3 * time.Minute
	for name, c := range map[string]struct {
		spoil    func(p *membertest.Pool)
		deleted  bool // this VM's agent is removed from the server
		phase    string
		class    fault.Class // of the failure, if there is one
		byHand   string      // the phase after a deregister
		disabled bool
	}{
		"nothing is wrong":             {func(*membertest.Pool) {}, true, journal.Removed, fault.Class{}, journal.Removed, true},
		"the pool was renamed":         {func(p *membertest.Pool) { p.Renamed = true }, true, journal.Removed, fault.Class{}, journal.Removed, true},
		"the pool may not be seen":     {func(p *membertest.Pool) { p.Hidden = true }, false, journal.Draining, fault.Target, journal.Ready, false},
		"another VM took it over":      {func(p *membertest.Pool) { p.StandsOn = membertest.OtherInstance }, false, journal.Removed, fault.Class{}, journal.Removed, false},
		"nobody knows whose it is":     {func(p *membertest.Pool) { p.StandsOn = "-" }, false, journal.Draining, fault.Target, journal.Ready, false},
		"somebody has removed it":      {func(p *membertest.Pool) { p.Deleted = 0 }, false, journal.Removed, fault.Class{}, journal.Removed, false},
		"it was removed, and not seen": {func(p *membertest.Pool) { p.Deleted, p.Hidden = 0, true }, false, journal.Draining, fault.Target, journal.Ready, false},
		"the PAT was revoked":          {func(p *membertest.Pool) { p.Trouble = func(time.Duration) int { return 401 } }, false, journal.Draining, fault.PAT, journal.Ready, false},
	} {
		for _, byHand := range []bool{false, true} {
			t.Run(name+map[bool]string{false: ", Terminate", true: ", deregister"}[byHand], func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					p := membertest.NewPool()
					m, r := membertest.Joined(t, p, config.Drain{Enabled: true, Timeout: 15 * time.Minute})
					w := &membertest.Worker{Runner: membertest.Runner(t, m), Until: p.Begin.Add(jobEnds)}
					m.Agent = w
					c.spoil(p)
					before := p.Deleted
					acknowledged := false
					n := Notice{
						Why:   "Terminate",
						Goes:  !byHand,
						Wait:  true,
						Until: p.Begin.Add(10 * time.Minute),
						Acknowledge: func(context.Context) error {
							acknowledged = true
							return nil
						},
					}
					err := departs(t.Context(), r, m, n)
					if f := fault.From(
						err,
					); (err == nil) != (c.class == fault.Class{}) ||
						err != nil && (f.Class != c.class || f.Advice == "") {
						t.Errorf("it ended with %v", err)
					}
					if removed := p.Deleted != before; removed != c.deleted || (p.Disabled >= 0) != c.disabled {
						t.Errorf("removed from the server: %v, disabled: %v", removed, p.Disabled >= 0)
					}
					want, stops := c.phase, true
					if byHand {
						want = c.byHand
						stops = want == journal.Removed
					}
					if s, _, _ := journal.Read(m.Journal.Dir()); s.Phase != want {
						t.Errorf("the phase is %s, want %s", s.Phase, want)
					}
					if acknowledged != (c.phase == journal.Removed) {
						t.Errorf("acknowledged: %v", acknowledged)
					}
					if took := w.Stopped.Sub(p.Begin); stops && took < jobEnds {
						t.Errorf("the agent was stopped after %s, in the middle of its job (%v)", took, err)
					} else if !stops && !w.Stopped.IsZero() {
						t.Errorf("the agent was stopped after %s, although the VM stays", took)
					}
				})
			})
		}
	}
}

// An operator's --local asks nobody: it waits for the job and forgets the registration on this VM.
func TestDeregisterLocalAsksNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &membertest.Pool{Begin: time.Now(), Enabled: true, Deleted: -1, Disabled: -1, Hidden: true}
		m, r := membertest.Joined(t, p, config.Drain{Enabled: true, Timeout: 15 * time.Minute})
		w := &membertest.Worker{Runner: membertest.Runner(t, m), Until: p.Begin.Add(time.Minute)}
		m.Agent = w
		if err := departs(t.Context(), r, m, Notice{Why: "deregister", Wait: true, Local: true}); err != nil {
			t.Fatal(err)
		}
		if p.Requests != 0 || w.Stopped.Sub(p.Begin) < time.Minute || m.State().Phase != journal.Removed {
			t.Errorf("%d requests, stopped after %s, phase %s", p.Requests, w.Stopped.Sub(p.Begin), m.State().Phase)
		}
	})
}

// A deregistration that fails half way leaves a VM that takes jobs as before.
func TestAFailedDeregistrationLetsTheAgentWorkOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := membertest.NewPool()
		m, r := membertest.Joined(t, p, config.Drain{Enabled: true, Timeout: 15 * time.Minute})
		m.Agent = &membertest.Worker{Runner: membertest.Runner(t, m)}
		m.Access = membertest.Access(t, m.VM.Config.Server, membertest.Denies{Pool: p, Method: http.MethodDelete})
		err := departs(t.Context(), r, m, Notice{Why: "deregister", Wait: true})
		if f := fault.From(err); f.Class != fault.Scope {
			t.Errorf("it ended with %v", err)
		}
		// The service is stopped by then: nothing stays that could be put back, and the next try
		// goes on.
		if s, _, _ := journal.Read(m.Journal.Dir()); s.Phase != journal.Draining || !s.Agent.Drained {
			t.Errorf("the state is %s, drained %v", s.Phase, s.Agent.Drained)
		}
		if p.Disabled < 0 {
			t.Error("it was never disabled")
		}
	})
}

// An attempt that had disabled the agent and came to nothing lets it work on, or remembers to. An
// agent that a drain had disabled is enabled when it joins; one that a person disabled stays so and
// is shown.

// An event that is due leaves time for a server that takes some seconds for each answer.
func TestADepartureThatIsDueIsNotInVain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := membertest.NewPool()
		p.Takes = 2 * time.Second
		m, r := membertest.Joined(t, p, config.Drain{Enabled: true, Timeout: 15 * time.Minute})
		if err := departs(
			t.Context(),
			r,
			m,
			Notice{Why: "Terminate", Goes: true, Until: p.Begin.Add(time.Second)},
		); err != nil ||
			p.Deleted < 0 {
			t.Errorf("deleted %s: %v", p.Deleted, err)
		}
	})
}

// A deregistration that fails before the service is stopped: the agent, which was disabled, takes
// jobs again.
func TestADeregistrationThatFailsEarlyIsTakenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := membertest.NewPool()
		m, r := membertest.Joined(t, p, config.Drain{Enabled: true, Timeout: time.Minute})
		m.Agent = &membertest.Worker{Runner: membertest.Runner(t, m)}
		p.Trouble = func(time.Duration) int {
			if p.Enabled {
				return 0
			}
			p.Trouble = func(time.Duration) int { p.Trouble = nil; return http.StatusForbidden } // the next, once
			return p.Trouble(0)
		}
		err := departs(t.Context(), r, m, Notice{Why: "deregister", Wait: true})
		if s := m.State(); err == nil || s.Phase != journal.Ready || s.Agent.Drained || !p.Enabled || p.Disabled < 0 {
			t.Errorf(
				"%v; phase %s, drained %v, enabled %v, was disabled %v",
				err,
				s.Phase,
				s.Agent.Drained,
				p.Enabled,
				p.Disabled >= 0,
			)
		}
	})
}

// An agent that the server still shows was not removed.
func TestARemovalThatDoesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := membertest.NewPool()
		p.KeepsDeleted = true
		m, r := membertest.Joined(t, p, config.Drain{Enabled: true, Timeout: time.Minute})
		m.Agent = &membertest.Worker{Runner: membertest.Runner(t, m)}
		err := departs(t.Context(), r, m, Notice{Why: "Terminate", Goes: true, Until: p.Begin.Add(5 * time.Minute)})
		if fault.From(err).Class != fault.Target || m.State().Phase != journal.Draining {
			t.Errorf("%v in the phase %s", err, m.State().Phase)
		}
	})
}

// A holder is a worker that looks whether a PAT is held each time it is asked for its job.
type holder struct {
	membertest.Worker
	holds func() bool
	kept  int
}

func (h *holder) Working(service string) bool {
	works := h.Worker.Working(service)
	if works && h.holds() {
		h.kept++
	}
	return works
}

func TestNoPATIsHeldWhileAJobIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := membertest.NewPool()
		m, r := membertest.Joined(t, p, config.Drain{Enabled: true, Timeout: 15 * time.Minute})
		h := &holder{
			Worker: membertest.Worker{Runner: membertest.Runner(t, m), Until: p.Begin.Add(10 * time.Minute)},
			holds:  m.Access.Holds,
		}
		m.Agent = h
		if err := departs(t.Context(), r, m, Notice{Why: "Terminate", Goes: true, Wait: true}); err != nil {
			t.Fatal(err)
		}
		if h.kept > 2 { // when it is disabled, and once more
			t.Errorf("held %d times", h.kept)
		}
	})
}

func TestADepartureThatWasCutOffGoesOn(t *testing.T) {
	later, before := time.Now().Add(time.Hour), time.Now().Add(-time.Hour)
	for name, c := range map[string]struct {
		until *time.Time
		waits bool
	}{"a job was waited for": {&later, true}, "no more": {&before, false}, "nothing is known": {nil, false}} {
		n := CutOff(journal.State{RemovedBy: journal.ByPreempt, DrainUntil: c.until})
		if n.Wait != c.waits || n.Until.IsZero() == c.waits || !n.Goes || n.By != journal.ByPreempt {
			t.Errorf("%s: %+v", name, n)
		}
	}
}

// What the docs promise: Preempt, which comes 30 seconds ahead, is heard in time, and 15 seconds
// are left for removing the agent.
func TestTheTimesOfADeparture(t *testing.T) {
	if PollEvents > 10*time.Second {
		t.Errorf("IMDS is asked every %s", PollEvents)
	}
	now := time.Now()
	drain, end := Notice{Wait: true, Until: now.Add(5 * time.Minute)}.times(now, true, time.Hour)
	if drain.Sub(now) != 4*time.Minute+45*time.Second || end.Sub(now) != 5*time.Minute {
		t.Errorf("a job is waited for %s, it ends after %s", drain.Sub(now), end.Sub(now))
	}
	if drain, _ := (Notice{Until: now.Add(5 * time.Minute)}).times(now, true, time.Hour); drain != now {
		t.Errorf("a job is waited for %s, against the notice", drain.Sub(now))
	}
	if within := (Notice{Until: now.Add(time.Second)}).Within(time.Hour); within < 15*time.Second {
		t.Errorf("only %s are left to find out which VM it is", within)
	}
}

// A VM that has left comes back when its end is announced no more; while IMDS does not answer, it
// is.
func TestTheReturnIsAwaited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		terminate := []azure.Event{{ID: "1", Type: "Terminate", Resources: []string{"web_1"}}}
		s := &source{begin: time.Now(), tell: func(since time.Duration) (int, []azure.Event, error) {
			switch {
			case since < time.Minute:
				return 1, terminate, nil
			case since < 2*time.Minute:
				return 0, nil, errors.New("no answer")
			case since < 2*time.Minute+8*time.Second:
				return 2, nil, nil
			case since < 3*time.Minute:
				return 3, terminate, nil
			}
			return 4, nil, nil
		}}
		back := make(chan struct{})
		AwaitReturn(t.Context(), s, "web_1", back)
		<-back
		if took := time.Since(s.begin); took < 3*time.Minute+10*time.Second || took > 4*time.Minute {
			t.Errorf("it is back after %s", took)
		}
	})
}

// departs is depart with a runner that sees the member as it is by now.
func departs(ctx context.Context, r phase.Runner, m member.Member, n Notice) error {
	r.Drop, r.Runs = m.Access.Drop, m.Runs
	return depart(ctx, r, m, n, false)
}

// A daemon was killed while config.sh ran, which runs on. The operator deregisters: it must not register an agent after that.
func TestAConfigShThatWasLeftBehindIsEnded(t *testing.T) {
	for _, n := range []Notice{
		{Why: "deregister", By: journal.ByOperator, Wait: true},
		{Why: "deregister", By: journal.ByOperator, Local: true},
		{Why: "Terminate", By: journal.ByTerminate, Goes: true},
	} {
		p := membertest.NewPool()
		p.Deleted = 0 // it has not got so far
		m, r := membertest.Joined(t, p, config.Drain{})
		w := &membertest.Worker{Runner: membertest.Runner(t, m)} // Remove is what ends it
		m.Agent = w
		m.VM.AgentName = "web-1"
		membertest.Wrote(t, m.Journal, func(s *journal.State) {
			s.Phase, s.Agent = journal.Register, journal.Agent{}
			s.Registering = &journal.Registering{Name: "web-1", Target: s.Target}
		})
		_, err := Leave(t.Context(), r, m, n, false)
		if s := m.State(); err != nil || w.Stopped.IsZero() || s.Phase != journal.Removed || s.Registering != nil {
			t.Errorf("%s: %v: the phase is %s, config.sh was ended: %v", n.Why, err, s.Phase, !w.Stopped.IsZero())
		}
	}
}
