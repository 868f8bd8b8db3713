package join

import (
	"testing"
	"time"

	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/config"
	"azp-bootstrap/bootstrap/devops"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/journal"
	"azp-bootstrap/bootstrap/member"
	"azp-bootstrap/bootstrap/member/membertest"
)

// Of an agent whose status the server does not show nobody knows whether it is at work: it counts
// as online.
func TestMayTake(t *testing.T) {
	for name, c := range map[string]struct {
		agent  devops.Agent
		policy string
		yes    bool
	}{
		"ours, online":                 {devops.Agent{InstanceID: membertest.ThisInstance, Online: true}, "never", true},
		"another's, offline":           {devops.Agent{InstanceID: membertest.OtherInstance, Offline: true}, "offline", true},
		"another's, offline, never":    {devops.Agent{InstanceID: membertest.OtherInstance, Offline: true}, "never", false},
		"another's, online":            {devops.Agent{InstanceID: membertest.OtherInstance, Online: true}, "offline", false},
		"another's, online, always":    {devops.Agent{InstanceID: membertest.OtherInstance, Online: true}, "always", true},
		"another's, status not shown":  {devops.Agent{InstanceID: membertest.OtherInstance}, "offline", false},
		"nobody's, offline":            {devops.Agent{Offline: true}, "offline", true},
		"nobody's, status not shown":   {devops.Agent{}, "offline", false},
		"nobody's, offline, and never": {devops.Agent{Offline: true}, "never", false},
	} {
		m, _ := membertest.New(t)
		m.VM.Instance.VMID = membertest.ThisInstance
		m.VM.Config = &config.Config{Agent: config.Agent{Replace: c.policy}}
		m.Agent = agent.Runner{Home: agent.Home{Dir: t.TempDir()}}
		err := MayTake(m, devops.Place{}, &c.agent)
		if (err == nil) != c.yes || err != nil && fault.From(err).Class != fault.Target {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The agent of a VM that is paused takes no job, whoever has enabled it; that a person had disabled it before
// is not forgotten.
func TestAPausedVMsAgentStaysDisabled(t *testing.T) {
	for name, c := range map[string]struct {
		drained, enabled     bool // the journal's word, the server's
		shown, drainedByThen bool
	}{
		"by the pause":      {true, false, false, true},
		"by a person":       {false, false, true, false},
		"enabled meanwhile": {true, true, false, true},
		"just registered":   {false, true, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			p := &membertest.Pool{Begin: time.Now(), Enabled: c.enabled, Deleted: -1, Disabled: -1}
			m, _ := membertest.Joined(t, p, config.Drain{})
			membertest.Wrote(t, m.Journal, func(s *journal.State) {
				s.Agent.Drained, s.Agent.Disabled, s.Paused = c.drained, c.shown, &journal.Pause{By: "alice"}
			})
			there, err := standing(t.Context(), m, &Try{})
			a := m.State().Agent
			if err != nil || !there || p.Enabled || a.Disabled != c.shown || a.Drained != c.drainedByThen {
				t.Errorf("%v, %v; enabled %v, the journal: %+v", there, err, p.Enabled, a)
			}
		})
	}
}

// Before it starts, the agent of a VM that is paused is disabled if the server shows whose it is; another VM's
// is left alone.
func TestHold(t *testing.T) {
	for name, c := range map[string]struct {
		standsOn string
		paused   bool
		enabled  bool
		asks     bool
	}{
		"paused":                 {"", true, false, true},
		"not paused":             {"", false, true, false},
		"another VM's":           {membertest.OtherInstance, true, true, true},
		"it does not show whose": {"-", true, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			p := membertest.NewPool()
			p.StandsOn = c.standsOn
			m, _ := membertest.Joined(t, p, config.Drain{})
			if c.paused {
				membertest.Wrote(t, m.Journal, func(s *journal.State) { s.Paused = &journal.Pause{By: "alice"} })
			}
			err := hold(t.Context(), m, member.PlaceOf(m.State().Target))
			if err != nil || p.Enabled != c.enabled || p.Requests > 0 != c.asks {
				t.Errorf("%v; enabled %v after %d requests", err, p.Enabled, p.Requests)
			}
		})
	}
}

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
			p := &membertest.Pool{Begin: time.Now(), Enabled: c.enabled, Deleted: -1, Disabled: -1}
			m, _ := membertest.Joined(t, p, config.Drain{})
			membertest.Wrote(t, m.Journal, func(s *journal.State) { s.Agent.Drained = c.drained })
			there, err := standing(t.Context(), m, &Try{})
			if err != nil || !there {
				t.Fatal(there, err)
			}
			if p.Enabled != c.now || m.State().Agent.Disabled != c.shown || m.State().Agent.Drained {
				t.Errorf(
					"enabled %v; the journal: disabled %v, drained %v",
					p.Enabled,
					m.State().Agent.Disabled,
					m.State().Agent.Drained,
				)
			}
		})
	}
}

// An agent that the target shows no more is registered anew only if the server says that its ID is gone.
func TestMayReturn(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(p *membertest.Pool)
		may   bool
	}{
		"the server says that it is gone":     {func(p *membertest.Pool) { p.Deleted = 0 }, true},
		"the pool is not shown":               {func(p *membertest.Pool) { p.Hidden = true }, false},
		"the server is in trouble":            {func(p *membertest.Pool) { p.Trouble = func(time.Duration) int { return 500 } }, false},
		"it is there, and another VM's":       {func(p *membertest.Pool) { p.StandsOn = membertest.OtherInstance }, false},
		"it is there, and nobody knows whose": {func(p *membertest.Pool) { p.StandsOn = "-" }, false},
	} {
		p := membertest.NewPool()
		m, _ := membertest.Joined(t, p, config.Drain{})
		m.VM.Config.Agent.Reregister = true
		client, err := m.Access.DevOps(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		c.spoil(p)
		err = mayReturn(t.Context(), m, client, &Try{At: Place{Place: member.PlaceOf(m.State().Target)}})
		if (err == nil) != c.may {
			t.Errorf("%s: %v", name, err)
		}
	}
}
