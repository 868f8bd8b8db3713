package bootstrap

import (
	"azp-bootstrap/bootstrap/devops"
	"azp-bootstrap/bootstrap/journal"
)

// A situation is what register finds: an agent of this VM's name on the server, a registration on this VM, and what the journal
// says. What follows from it is a table: docs/decisions/joining.md.
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

// situation looks at the VM's disk and journal, for the agent of its name on the server; nil = there is none.
func (b *Boot) situation(there *devops.Agent) situation {
	s := b.state()
	return situation{b.standsThere(there), b.standsHere(s, there), b.known(s)}
}

func (b *Boot) standsThere(there *devops.Agent) string {
	switch {
	case there == nil:
		return nobodyThere
	case b.whose(there) == thisVM:
		return oursThere
	case there.Offline:
		return offlineThere
	}
	return onlineThere
}

func (b *Boot) standsHere(s journal.State, there *devops.Agent) string {
	id, err := b.Runner.Registered()
	if err != nil {
		b.Log.WithError(err).Warn("the agent's settings are unreadable; it is registered anew")
	}
	if err == nil && there != nil && id == there.ID && id == s.Agent.ID && b.Runner.LaidFor() == b.VM.VMID {
		return wholeHere
	}
	return otherHere
}

func (b *Boot) known(s journal.State) string {
	switch {
	case s.Registering != nil:
		return cutOffJournal
	case s.Agent.ID == 0:
		return newJournal
	case s.Agent.Name != b.Agent || !b.samePlace():
		return elsewhereJournal
	case !s.Agent.Confirmed(): // so nothing runs here by that registration
		return unseenJournal
	}
	return hereJournal
}
