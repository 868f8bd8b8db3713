package join

import (
	"context"

	"azp-bootstrap/bootstrap/devops"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/member"
)

// MayTake is the fault of an agent under the VM's name at a place that may not be taken over; nil
// if it may, or if there is none.
func MayTake(m member.Member, at devops.Place, there *devops.Agent) error {
	return mayTakeIn(m, at, at.String(), there)
}

func mayTakeIn(m member.Member, at devops.Place, where string, there *devops.Agent) error {
	if situationOf(m, at, there).decide(m.VM.Config.Agent.Replace) == refuses {
		return taken(m, where, there)
	}
	return nil
}

// taken is the fault of a name that another VM's agent bears.
func taken(m member.Member, where string, by *devops.Agent) *fault.Error {
	state := "whose status is not shown"
	switch {
	case by.Online:
		state = "online"
	case by.Offline:
		state = "offline"
	}
	return fault.New(fault.Target, "the name %s is taken in the %s by another agent, which is %s "+
		"(ID %d)", by.Name, where, state, by.ID).
		Hint("Give each VM a name of its own (agent.name is a template), delete the other agent, or allow more "+
			"with agent.replace (now: %s).",
			m.VM.Config.Agent.Replace)
}

// leftover looks for an agent of our name that the target does not list and that stands in the pool
// behind it all the same, where config.sh would meet it. It is to be removed: nil if there is none,
// an error if it may not be taken over.
func leftover(ctx context.Context, m member.Member, c *devops.Client, at devops.Place) (*devops.Agent, error) {
	left, err := c.Behind(ctx, at, m.VM.AgentName)
	if err != nil || left == nil {
		return nil, err
	}
	if err := mayTakeIn(m, at, "pool behind the "+at.String()+", which does not list it,", left); err != nil {
		return nil, err
	}
	return left, nil
}
