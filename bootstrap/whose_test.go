package bootstrap

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/config"
	"azp-bootstrap/bootstrap/devops"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/journal"
)

const otherInstance = "ffffffff-0002-4d3a-9a00-000000000002"

func TestWhose(t *testing.T) {
	for name, c := range map[string]struct {
		agent  devops.Agent
		intent *journal.Registering
		want   owner
	}{
		"it shows this VM":                              {devops.Agent{ID: 7, Name: "web-1", InstanceID: thisInstance, Registered: "2026-11-26T12:00:00.1Z"}, nil, thisVM},
		"it shows this VM, by another registration":     {devops.Agent{ID: 7, Name: "web-1", InstanceID: thisInstance, Registered: "2026-11-26T12:09:00Z"}, nil, nobodyKnows},
		"it shows this VM, by none":                     {devops.Agent{ID: 7, Name: "web-1", InstanceID: thisInstance}, nil, nobodyKnows},
		"the same, while we were registering it anew":   {devops.Agent{ID: 7, Name: "web-1", InstanceID: thisInstance}, &journal.Registering{Name: "web-1", Existing: 7}, thisVM},
		"it shows this VM, and the journal has no such": {devops.Agent{ID: 8, Name: "web-1", InstanceID: thisInstance, Registered: "2026-11-26T12:09:00Z"}, nil, thisVM},
		"our registration, but another VM":              {devops.Agent{ID: 7, Name: "web-1", InstanceID: otherInstance, Registered: "2026-11-26T12:00:00.1Z"}, nil, anotherVM},
		"it shows another VM, with our ID and name":     {devops.Agent{ID: 7, Name: "web-1", InstanceID: otherInstance}, nil, anotherVM},
		"the same, while we were registering":           {devops.Agent{ID: 7, Name: "web-1", InstanceID: otherInstance, Offline: true}, &journal.Registering{Name: "web-1"}, anotherVM},
		"it shows no VM, with our ID and name":          {devops.Agent{ID: 7, Name: "web-1"}, nil, nobodyKnows},
		"it shows no VM, we were about to make it":      {devops.Agent{ID: 9, Name: "WEB-1", Offline: true}, &journal.Registering{Name: "web-1"}, thisVM},
		"the same, but it is online":                    {devops.Agent{ID: 9, Name: "web-1", Online: true}, &journal.Registering{Name: "web-1"}, nobodyKnows},
		"the same, but its status is not shown":         {devops.Agent{ID: 9, Name: "web-1"}, &journal.Registering{Name: "web-1"}, nobodyKnows},
		"we were about to replace what stood there":     {devops.Agent{ID: 9, Name: "web-1", Offline: true}, &journal.Registering{Name: "web-1", Existing: 9}, nobodyKnows},
		"we were about to register under another name":  {devops.Agent{ID: 9, Name: "web-1", Offline: true}, &journal.Registering{Name: "web-2"}, nobodyKnows},
	} {
		b := boot(t)
		wrote(t, b, func(s *journal.State) {
			s.Agent = journal.Agent{Name: "web-1", ID: 7, Registered: "2026-11-26T12:00:00.1Z"}
			s.Registering = c.intent
		})
		if b.whose(&c.agent) != nobodyKnows {
			t.Errorf("%s: before IMDS has told who we are", name)
		}
		b.VM.VMID = strings.ToUpper(thisInstance) // as some hosts give it
		if got := b.whose(&c.agent); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

// Of an agent whose status the server does not show nobody knows whether it is at work: it counts as online.
func TestMayTake(t *testing.T) {
	for name, c := range map[string]struct {
		agent  devops.Agent
		policy string
		yes    bool
	}{
		"ours, online":                 {devops.Agent{InstanceID: thisInstance, Online: true}, "never", true},
		"another's, offline":           {devops.Agent{InstanceID: otherInstance, Offline: true}, "offline", true},
		"another's, offline, never":    {devops.Agent{InstanceID: otherInstance, Offline: true}, "never", false},
		"another's, online":            {devops.Agent{InstanceID: otherInstance, Online: true}, "offline", false},
		"another's, online, always":    {devops.Agent{InstanceID: otherInstance, Online: true}, "always", true},
		"another's, status not shown":  {devops.Agent{InstanceID: otherInstance}, "offline", false},
		"nobody's, offline":            {devops.Agent{Offline: true}, "offline", true},
		"nobody's, status not shown":   {devops.Agent{}, "offline", false},
		"nobody's, offline, and never": {devops.Agent{Offline: true}, "never", false},
	} {
		b := boot(t)
		b.VM.VMID = thisInstance
		b.Config = &config.Config{Agent: config.Agent{Replace: c.policy}}
		b.Runner = agent.Runner{Home: agent.Home{Dir: t.TempDir()}}
		err := b.mayTake(&c.agent)
		if (err == nil) != c.yes || err != nil && fault.From(err).Class != fault.Target {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The right to view the pool goes in the very moment in which the agent is removed: that it is gone nobody says.
func TestARemovalThatNobodyConfirms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pool{begin: time.Now(), enabled: true, deleted: -1, disabled: -1, hidesDeleted: true}
		b := joined(t, p, config.Drain{Enabled: true, Timeout: 15 * time.Minute})
		b.Runner = &worker{Runner: b.Runner.(agent.Runner)}
		n := notice{why: "Terminate", goes: true, wait: true, until: p.begin.Add(10 * time.Minute), acknowledge: func(context.Context) error {
			t.Error("acknowledged")
			return nil
		}}
		if err := b.depart(t.Context(), n); fault.From(err).Class != fault.Target || b.state().Phase != journal.Draining {
			t.Errorf("%v in the phase %s", err, b.state().Phase)
		}
	})
}

// A worker is an agent on this VM that runs a job for a while.
type worker struct {
	agent.Runner
	until   time.Time
	stopped time.Time
}

func (w *worker) Working(string) bool { return time.Now().Before(w.until) }
func (w *worker) Running(string) (bool, string) {
	return w.stopped.IsZero(), "in a test"
}

func (w *worker) Remove(context.Context, string) error {
	if w.stopped.IsZero() {
		w.stopped = time.Now()
	}
	return nil
}

// Whatever has become of the agent and its pool on the server: a job that runs here is waited for, an agent that is not
// this VM's is left alone, and only who has left says so to the platform.
func TestDepartHarmsNobody(t *testing.T) {
	const jobEnds = 3 * time.Minute
	for name, c := range map[string]struct {
		spoil    func(p *pool)
		deleted  bool // this VM's agent is removed from the server
		phase    string
		class    fault.Class // of the failure, if there is one
		byHand   string      // the phase after a deregister
		disabled bool
	}{
		"nothing is wrong":             {func(*pool) {}, true, journal.Removed, fault.Class{}, journal.Removed, true},
		"the pool was renamed":         {func(p *pool) { p.renamed = true }, true, journal.Removed, fault.Class{}, journal.Removed, true},
		"the pool may not be seen":     {func(p *pool) { p.hidden = true }, false, journal.Draining, fault.Target, journal.Ready, false},
		"another VM took it over":      {func(p *pool) { p.standsOn = otherInstance }, false, journal.Removed, fault.Class{}, journal.Removed, false},
		"nobody knows whose it is":     {func(p *pool) { p.standsOn = "-" }, false, journal.Draining, fault.Target, journal.Ready, false},
		"somebody has removed it":      {func(p *pool) { p.deleted = 0 }, false, journal.Removed, fault.Class{}, journal.Removed, false},
		"it was removed, and not seen": {func(p *pool) { p.deleted, p.hidden = 0, true }, false, journal.Draining, fault.Target, journal.Ready, false},
		"the PAT was revoked":          {func(p *pool) { p.trouble = func(time.Duration) int { return 401 } }, false, journal.Draining, fault.PAT, journal.Ready, false},
	} {
		for _, byHand := range []bool{false, true} {
			t.Run(name+map[bool]string{false: ", Terminate", true: ", deregister"}[byHand], func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					p := &pool{begin: time.Now(), enabled: true, deleted: -1, disabled: -1}
					b := joined(t, p, config.Drain{Enabled: true, Timeout: 15 * time.Minute})
					w := &worker{Runner: b.Runner.(agent.Runner), until: p.begin.Add(jobEnds)}
					b.Runner = w
					c.spoil(p)
					before := p.deleted
					acknowledged := false
					n := notice{why: "Terminate", goes: !byHand, wait: true, until: p.begin.Add(10 * time.Minute), acknowledge: func(context.Context) error {
						acknowledged = true
						return nil
					}}
					err := b.depart(t.Context(), n)
					if f := fault.From(err); (err == nil) != (c.class == fault.Class{}) || err != nil && (f.Class != c.class || f.Advice == "") {
						t.Errorf("it ended with %v", err)
					}
					if removed := p.deleted != before; removed != c.deleted || (p.disabled >= 0) != c.disabled {
						t.Errorf("removed from the server: %v, disabled: %v", removed, p.disabled >= 0)
					}
					want, stops := c.phase, true
					if byHand {
						want = c.byHand
						stops = want == journal.Removed
					}
					if s, _, _ := journal.Read(b.journal.Dir()); s.Phase != want {
						t.Errorf("the phase is %s, want %s", s.Phase, want)
					}
					if acknowledged != (c.phase == journal.Removed) {
						t.Errorf("acknowledged: %v", acknowledged)
					}
					if took := w.stopped.Sub(p.begin); stops && took < jobEnds {
						t.Errorf("the agent was stopped after %s, in the middle of its job (%v)", took, err)
					} else if !stops && !w.stopped.IsZero() {
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
		p := &pool{begin: time.Now(), enabled: true, deleted: -1, disabled: -1, hidden: true}
		b := joined(t, p, config.Drain{Enabled: true, Timeout: 15 * time.Minute})
		w := &worker{Runner: b.Runner.(agent.Runner), until: p.begin.Add(time.Minute)}
		b.Runner = w
		if err := b.depart(t.Context(), notice{why: "deregister", wait: true, local: true}); err != nil {
			t.Fatal(err)
		}
		if p.requests != 0 || w.stopped.Sub(p.begin) < time.Minute || b.state().Phase != journal.Removed {
			t.Errorf("%d requests, stopped after %s, phase %s", p.requests, w.stopped.Sub(p.begin), b.state().Phase)
		}
	})
}

// A deregistration that fails half way leaves a VM that takes jobs as before.
func TestAFailedDeregistrationLetsTheAgentWorkOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pool{begin: time.Now(), enabled: true, deleted: -1, disabled: -1}
		b := joined(t, p, config.Drain{Enabled: true, Timeout: 15 * time.Minute})
		b.Runner = &worker{Runner: b.Runner.(agent.Runner), until: p.begin.Add(time.Minute)}
		reaches(t, b, denies{p, http.MethodDelete})
		b.Runner.(*worker).until = p.begin
		err := b.depart(t.Context(), notice{why: "deregister", wait: true})
		if f := fault.From(err); f.Class != fault.Scope {
			t.Errorf("it ended with %v", err)
		}
		// The service is stopped by then: nothing stays that could be put back, and the next try goes on.
		if s, _, _ := journal.Read(b.journal.Dir()); s.Phase != journal.Draining || !s.Agent.Drained {
			t.Errorf("the state is %s, drained %v", s.Phase, s.Agent.Drained)
		}
		if p.disabled < 0 {
			t.Error("it was never disabled")
		}
	})
}

// An attempt that had disabled the agent and came to nothing lets it work on, or remembers to.
func TestAFailedAttemptLetsTheAgentWorkOn(t *testing.T) {
	for name, trouble := range map[string]func(time.Duration) int{"Azure DevOps answers": nil, "it does not": func(time.Duration) int { return 503 }} {
		t.Run(name, func(t *testing.T) {
			p := &pool{begin: time.Now(), deleted: -1, disabled: -1, trouble: trouble}
			b := joined(t, p, config.Drain{Enabled: true, Timeout: 15 * time.Minute})
			b.Runner = &worker{Runner: b.Runner.(agent.Runner)}
			b.stood = b.state()
			wrote(t, b, func(s *journal.State) { s.Agent.Drained = true })
			b.letWork(t.Context())
			_ = b.failed(fault.New(fault.Network, "the other target cannot be left alone").Hint("Wait."))
			if answers := trouble == nil; p.enabled != answers || b.state().Agent.Drained == answers || b.state().Phase != journal.Ready {
				t.Errorf("enabled %v, drained %v, phase %s", p.enabled, b.state().Agent.Drained, b.state().Phase)
			}
		})
	}
}

// An agent that a drain had disabled is enabled when it joins; one that a person disabled stays so and is shown.
func TestWhoDisabledTheAgentDecides(t *testing.T) {
	for name, c := range map[string]struct {
		drained, enabled bool // the journal's word, the server's
		now              bool // enabled afterwards
		shown            bool // as disabled
	}{
		"nobody":            {false, true, true, false},
		"a drain":           {true, false, true, false},
		"a person":          {false, false, false, true},
		"enabled meanwhile": {true, true, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			p := &pool{begin: time.Now(), enabled: c.enabled, deleted: -1, disabled: -1}
			b := joined(t, p, config.Drain{})
			wrote(t, b, func(s *journal.State) { s.Agent.Drained = c.drained })
			there, err := b.standing(t.Context())
			if err != nil || !there {
				t.Fatal(there, err)
			}
			if p.enabled != c.now || b.state().Agent.Disabled != c.shown || b.state().Agent.Drained {
				t.Errorf("enabled %v; the journal: disabled %v, drained %v", p.enabled, b.state().Agent.Disabled, b.state().Agent.Drained)
			}
		})
	}
}

// denies one method.
type denies struct {
	*pool
	method string
}

func (r denies) RoundTrip(q *http.Request) (*http.Response, error) {
	if q.Method != r.method {
		return r.pool.RoundTrip(q)
	}
	p := &pool{begin: r.begin, trouble: func(time.Duration) int { return 403 }}
	return p.RoundTrip(q)
}
