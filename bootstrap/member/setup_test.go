package member_test

import (
	"strings"
	"testing"
	"time"

	"azp-bootstrap/bootstrap/config"
	"azp-bootstrap/bootstrap/devops"
	"azp-bootstrap/bootstrap/journal"
	"azp-bootstrap/bootstrap/member"
	"azp-bootstrap/bootstrap/member/membertest"
)

// What an agent was registered with counts for as long as it is; what the configuration says
// otherwise by now is told.
func TestAnAgentKeepsItsSetup(t *testing.T) {
	was := journal.Setup{Dir: "/opt/a", Work: "/mnt/a", User: "azp"}
	is := config.Agent{Dir: "/opt/b", Work: "/mnt/a", User: "other", Service: "process"}
	for name, c := range map[string]struct {
		phase string
		id    int
		known journal.Setup
		want  string // of agent.dir
		told  bool
	}{
		"registered":               {journal.Ready, 7, was, "/opt/a", true},
		"registered, and failed":   {journal.Failed, 7, was, "/opt/a", true},
		"by an earlier version":    {journal.Ready, 7, journal.Setup{}, "/opt/b", false},
		"not registered":           {journal.Discover, 0, journal.Setup{}, "/opt/b", false},
		"it has left, and rejoins": {journal.Removed, 7, was, "/opt/b", false},
	} {
		joined, _ := membertest.Joined(t, membertest.NewPool(), config.Drain{})
		joined.VM.Config.Agent = is
		membertest.Wrote(t, joined.Journal, func(s *journal.State) {
			s.Phase, s.Agent.ID, s.Agent.Setup = c.phase, c.id, c.known
		})
		m, err := member.Means{Log: joined.Log, Redactor: joined.Redactor}.Member(joined.VM, joined.Journal, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.NoteSetup(); err != nil {
			t.Fatal(err)
		}
		told := m.State().Agent.Unapplied
		if m.Setup.Dir != c.want || (told != "") != c.told || told != m.Unapplied() {
			t.Errorf("%s: %+v, %q", name, m.Setup, told)
		}
		if c.told && (!strings.Contains(told, `agent.dir is "/opt/b"`) || !strings.Contains(told, "agent.user") || strings.Contains(told, "agent.work")) {
			t.Errorf("%s: %q", name, told)
		}
		if noted := m.State().Agent.Setup; c.id != 0 && c.phase == journal.Ready && noted != m.Setup {
			t.Errorf("%s: %+v is noted", name, noted)
		}
	}
}

// An agent that a full disk has disabled is not enabled before there is room.
func TestAnAgentWithoutRoomStaysDisabled(t *testing.T) {
	for _, full := range []bool{true, false} {
		p := &membertest.Pool{Begin: time.Now(), Deleted: -1, Disabled: -1}
		m, _ := membertest.Joined(t, p, config.Drain{})
		membertest.Wrote(t, m.Journal, func(s *journal.State) { s.Agent.Drained, s.Agent.Full = true, full })
		at, err := m.Find(t.Context(), &member.Drain{})
		if err != nil {
			t.Fatal(err)
		}
		if err := m.NoteEnabled(t.Context(), at.Client, at.Place, at.Agent); err != nil || p.Enabled == full || m.State().Agent.Drained != full {
			t.Errorf("full %v: enabled %v, drained %v, %v", full, p.Enabled, m.State().Agent.Drained, err)
		}
	}
}

// systemd keeps the agent's unit from the metadata service unless jobs may ask it.
func TestTheSecondWallIsAsConfigured(t *testing.T) {
	for metadata, want := range map[string]bool{config.Deny: true, config.Allow: false} {
		m, _ := membertest.Joined(t, membertest.NewPool(), config.Drain{})
		m.VM.Config.Agent.Metadata = metadata
		if got := m.ServiceAt(devops.Place{PoolName: "p"}).NoMetadata; got != want {
			t.Errorf("%s: %v", metadata, got)
		}
	}
}
