package member

import (
	"strconv"
	"strings"

	"azp-bootstrap/bootstrap/journal"
	"azp-bootstrap/bootstrap/vm"
)

// setupOf is what the agent is set up with: the journal's word while one is registered. All that is
// done to an agent (looking whether its job runs, starting, removing it) is done to the one that is
// there, whatever the configuration names by now.
func setupOf(v vm.VM, s journal.State) journal.Setup {
	if s.Agent.ID == 0 || s.Phase == journal.Removed || s.Agent.Setup == (journal.Setup{}) {
		return configured(v)
	}
	return s.Agent.Setup
}

func configured(v vm.VM) journal.Setup {
	c := v.Config.Agent
	return journal.Setup{Dir: c.Dir, Work: c.Work, User: c.User}
}

// Rejoins is how another setup comes to be.
const Rejoins = "It counts when the VM joins anew: azp-bootstrap deregister, then azp-bootstrap rejoin."

// Unapplied says what of the configuration the agent does not have, because it was registered with
// something else; "" if nothing.
func (m Member) Unapplied() string {
	want := configured(m.VM)
	var all []string
	for _, of := range []struct{ key, is, want string }{
		{"agent.dir", m.Setup.Dir, want.Dir},
		{"agent.work", m.Setup.Work, want.Work},
		{"agent.user", m.Setup.User, want.User},
	} {
		if of.is != of.want {
			all = append(all, of.key+" is "+strconv.Quote(of.want)+", and the agent was registered with "+strconv.Quote(of.is))
		}
	}
	return strings.Join(all, "; ")
}

// NoteSetup says what of the configuration the agent of this VM does not have. An agent that an
// earlier version registered is taken to have what is configured.
func (m Member) NoteSetup() error {
	if m.State().Agent.ID == 0 {
		return nil
	}
	unapplied := m.Unapplied()
	if unapplied != "" {
		m.Log.WithField("hint", Rejoins).Warn("the configuration has changed, but not the agent: " + unapplied)
	}
	return m.Journal.Update(func(s *journal.State) {
		s.Agent.Unapplied = unapplied
		if s.Agent.Setup == (journal.Setup{}) {
			s.Agent.Setup = m.Setup
		}
	})
}
