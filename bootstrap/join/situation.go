package join

import (
	"azp-bootstrap/bootstrap/devops"
	"azp-bootstrap/bootstrap/journal"
	"azp-bootstrap/bootstrap/member"
)

// A situation is what register finds: an agent of this VM's name on the server, a registration on
// this VM, and what the journal says. What follows from it is a table: docs/decisions/joining.md.
type situation struct {
	there   string
	here    string
	journal string
}

// there: what stands on the server under this VM's name.
const (
	nobodyThere  = "nobody"
	oursThere    = "ours"
	offlineThere = "offline" // another VM's, or nobody knows whose
	onlineThere  = "online"  // the same; also one whose status is not shown
)

// here: the registration on this VM's disk.
const (
	wholeHere = "whole" // of the agent that stands there and that the journal knows, laid for this VM
	otherHere = "other" // none, or of something else
)

// journal: what the journal knows of this VM's agent.
const (
	newJournal       = "new"
	hereJournal      = "here"   // it stands in the target, under this name
	unseenJournal    = "unseen" // the same, and it was never seen online
	elsewhereJournal = "elsewhere"
	cutOffJournal    = "cut off" // config.sh was at work
)

// decision is what register does.
type decision string

const (
	keeps     decision = "keep"
	registers decision = "register"
	takesOver decision = "take over"
	asks      decision = "ask" // whether the server removed it: then register, unless agent.reregister is off
	refuses   decision = "refuse"
)

// decide reads the table; replace is agent.replace.
func (s situation) decide(replace string) decision {
	switch {
	case s.there == oursThere && s.here == wholeHere && (s.journal == hereJournal || s.journal == unseenJournal):
		return keeps
	case s.there == oursThere:
		return takesOver
	case s.there == nobodyThere && s.journal == hereJournal:
		return asks
	case s.there == nobodyThere:
		return registers
	case replace == "always", replace == "offline" && s.there == offlineThere:
		return takesOver
	}
	return refuses
}

// situationOf looks at the VM's disk and journal, for the agent of its name at a place; nil = there
// is none.
func situationOf(m member.Member, at devops.Place, there *devops.Agent) situation {
	s := m.State()
	return situation{standsThere(m, there), standsHere(m, s, there), known(m, at, s)}
}

func standsThere(m member.Member, there *devops.Agent) string {
	switch {
	case there == nil:
		return nobodyThere
	case m.Whose(there) == member.ThisVM:
		return oursThere
	case there.Offline:
		return offlineThere
	}
	return onlineThere
}

func standsHere(m member.Member, s journal.State, there *devops.Agent) string {
	id, err := m.Agent.Registered()
	if err != nil {
		m.Log.WithError(err).Warn("the agent's settings are unreadable; it is registered anew")
		return otherHere
	}
	sameID := there != nil && id == there.ID && id == s.Agent.ID
	if sameID && s.Unproven(id) && !there.Online {
		return otherHere
	}
	if sameID && m.Agent.LaidFor() == m.VM.Instance.VMID {
		return wholeHere
	}
	return otherHere
}

func known(m member.Member, at devops.Place, s journal.State) string {
	switch {
	case s.Registering != nil:
		return cutOffJournal
	case s.Agent.ID == 0:
		return newJournal
	case s.Agent.Name != m.VM.AgentName || !m.StandsAt(at):
		return elsewhereJournal
	case !s.Agent.Confirmed(): // so nothing runs here by that registration
		return unseenJournal
	}
	return hereJournal
}
