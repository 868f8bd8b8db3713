package bootstrap

import (
	"context"
	"strings"

	"azp-bootstrap/bootstrap/devops"
	"azp-bootstrap/bootstrap/fault"
)

// An owner is whose an agent on the server is.
type owner int

const (
	nobodyKnows owner = iota // the server does not show it: nothing is done to such an agent
	thisVM
	anotherVM
)

// whose decides whose an agent on the server is. Whatever is done to an agent (enabling, disabling, tagging, taking over,
// removing) asks it first. An equal name proves nothing, nor does an equal ID: a takeover keeps it. What counts is the
// instance ID that the agent shows, and then what the journal says this VM was about to do when it was cut off.
//
// What an agent shows are lines of its .env, and a job can write those: into that of its own agent, and no other's. So an agent
// that shows this VM must also show the registration that the journal knows under its ID, if it knows one: else a VM that took
// the agent over could be made to show our ID. And one of the journal that shows another VM may be ours: reclaim tells.
func (b *Boot) whose(a *devops.Agent) owner {
	s := b.state()
	switch made, known := s.Registering, s.Agent; {
	case b.VM.VMID == "": // IMDS has not told who we are
		return nobodyKnows
	case made == nil && a.ID == known.ID && a.InstanceID != "" && known.Registered != "" && a.Registered != known.Registered &&
		strings.EqualFold(a.InstanceID, b.VM.VMID):
		return nobodyKnows
	case a.InstanceID != "" && strings.EqualFold(a.InstanceID, b.VM.VMID):
		return thisVM
	case a.InstanceID != "":
		return anotherVM
	case made != nil && made.Existing == 0 && strings.EqualFold(made.Name, a.Name) && a.Offline:
		return thisVM
	}
	return nobodyKnows
}

// mayTake is the fault of an agent under our name that may not be taken over; nil if it may, or if there is none.
func (b *Boot) mayTake(there *devops.Agent) error {
	if b.situation(there).decide(b.Config.Agent.Replace) == refuses {
		return b.taken(there)
	}
	return nil
}

// taken is the fault of a name that another VM's agent bears.
func (b *Boot) taken(by *devops.Agent) *fault.Error { return b.takenIn(b.Place.String(), by) }

func (b *Boot) takenIn(where string, by *devops.Agent) *fault.Error {
	state := "whose status is not shown"
	switch {
	case by.Online:
		state = "online"
	case by.Offline:
		state = "offline"
	}
	return fault.New(fault.Target, "the name %s is taken in the %s by another agent, which is %s (ID %d)", by.Name, where, state, by.ID).
		Hint("Give each VM a name of its own (agent.name is a template), delete the other agent, or allow more with agent.replace (now: %s).", b.Config.Agent.Replace)
}

// leftover looks for an agent of our name that the target does not list and that stands in the pool behind it all the same, where
// config.sh would meet it. It is to be removed: nil if there is none, an error if it may not be taken over.
func (b *Boot) leftover(ctx context.Context, c *devops.Client) (*devops.Agent, error) {
	left, err := c.Behind(ctx, b.Place, b.Agent)
	if err != nil || left == nil {
		return nil, err
	}
	if err := b.mayTake(left); err != nil {
		return nil, b.takenIn("pool behind the "+b.Place.String()+", which does not list it,", left)
	}
	return left, nil
}

// unclear is the fault of an agent of which nobody knows whose it is.
func unclear(p devops.Place, a *devops.Agent) *fault.Error {
	return fault.New(fault.Target, "the agent %s (ID %d) in the %s does not show on which VM it stands, so nothing is done to it", a.Name, a.ID, p).
		Hint("Another machine has taken its name over by other means, or its .env lost the line %s. If it is this VM's, "+
			"remove it in Azure DevOps by hand; azp-bootstrap deregister --local forgets it on this VM.", devops.InstanceIDCapability)
}
