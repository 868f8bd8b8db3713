package join

import (
	"testing"

	"azp-bootstrap/bootstrap/config"
	"azp-bootstrap/bootstrap/journal"
	"azp-bootstrap/bootstrap/member/membertest"
)

// A registered is an agent that runs, with a registration on disk.
type registered struct {
	membertest.Worker
	id      int
	laidFor string
}

func (r *registered) Registered() (int, error) { return r.id, nil }
func (r *registered) LaidFor() string          { return r.laidFor }

// A VM stands as it stood only if the registration on its disk, the journal and the configuration
// are of one agent that runs.
func TestVerifyAsksWhatStandsHere(t *testing.T) {
	for name, c := range map[string]struct {
		id     int
		laid   string
		change func(*journal.State)
		stands bool
	}{
		"all is well":               {7, membertest.ThisInstance, func(*journal.State) {}, true},
		"another registration":      {8, membertest.ThisInstance, func(*journal.State) {}, false},
		"no registration":           {0, membertest.ThisInstance, func(*journal.State) {}, false},
		"laid for another VM":       {7, membertest.OtherInstance, func(*journal.State) {}, false},
		"another name is wanted":    {7, membertest.ThisInstance, func(s *journal.State) { s.Agent.Name = "web-2" }, false},
		"another target is wanted":  {7, membertest.ThisInstance, func(s *journal.State) { s.Target.Name = "Old" }, false},
		"the server has it no more": {7, membertest.ThisInstance, nil, false},
	} {
		p := membertest.NewPool()
		m, r := membertest.Joined(t, p, config.Drain{})
		m.VM.AgentName = "web-1"
		m.Agent = &registered{membertest.Worker{Runner: membertest.Runner(t, m)}, c.id, c.laid}
		if c.change != nil {
			membertest.Wrote(t, m.Journal, c.change)
		} else {
			p.Deleted = 0
		}
		if Verify(t.Context(), r, m, &Try{}) != c.stands {
			t.Errorf("%s: stands: %v", name, !c.stands)
		}
	}
	p := membertest.NewPool()
	m, r := membertest.Joined(t, p, config.Drain{})
	m.VM.AgentName = "web-1"
	m.Agent = &registered{
		membertest.Worker{Runner: membertest.Runner(t, m), Stopped: p.Begin},
		7,
		membertest.ThisInstance,
	}
	if Verify(t.Context(), r, m, &Try{}) {
		t.Error("its agent does not run, and it stands")
	}
}

// In doubt nothing is done: an agent of which nobody knows whose it is, is not enabled, and a ready
// VM stays as it is.
func TestNothingIsDoneToAnAgentOfWhichNobodyKnowsWhoseItIs(t *testing.T) {
	p := membertest.NewPool()
	p.StandsOn, p.Enabled = "-", false
	m, r := membertest.Joined(t, p, config.Drain{})
	m.VM.AgentName = "web-1"
	m.Agent = &registered{membertest.Worker{Runner: membertest.Runner(t, m)}, 7, membertest.ThisInstance}
	membertest.Wrote(t, m.Journal, func(s *journal.State) { s.Agent.Drained = true })
	if !Verify(t.Context(), r, m, &Try{}) || p.Enabled || m.State().LastError == nil {
		t.Errorf("enabled: %v; %+v", p.Enabled, m.State().LastError)
	}
}
