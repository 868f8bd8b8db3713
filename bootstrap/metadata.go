package bootstrap

import (
	"context"
	"time"

	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/config"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/journal"
	"azp-bootstrap/bootstrap/member"
	"azp-bootstrap/bootstrap/retry"
)

// lookWall is how often it is looked whether jobs are still kept from the metadata service.
const lookWall = time.Minute

// wall raises the wall that keeps jobs from the metadata service, or takes it down, as it is configured. It
// stays when the VM leaves its target: what jobs left behind may run on.
func (p *program) wall(ctx context.Context, m member.Member) error {
	if p.Agent != nil { // a simulated one
		return nil
	}
	r := p.walled(m)
	if m.VM.Config.Agent.Metadata == config.Allow {
		return r.LowerWall(ctx)
	}
	return r.RaiseWall(ctx, m.VM.Config.IMDS.Endpoint)
}

// walled is the agent with the account that jobs run as.
func (p *program) walled(m member.Member) agent.Runner {
	return agent.Runner{Home: agent.Home{Dir: m.Setup.Dir, User: m.Setup.User}, Process: m.VM.AsProcess(), State: p.StateDir}
}

// keepFromMetadata raises the wall, looks whether it holds, and tells. Where it cannot be had the agent starts
// all the same. stands says that the wall was raised before: it is raised anew only if it does not hold.
func (a *attempt) keepFromMetadata(ctx context.Context, stands bool) {
	m := a.member
	if a.Agent != nil {
		return
	}
	var raised error
	if !stands {
		raised = a.wall(ctx, m)
	}
	is := a.reaches(ctx, m)
	if stands && is.Access != string(agent.Closed) && ctx.Err() == nil {
		if raised = a.wall(ctx, m); raised == nil {
			is = a.reaches(ctx, m)
		}
	}
	if ctx.Err() != nil {
		return
	}
	hint := "What keeps jobs from it, and what a job can do with it, is in docs/security.md, Jobs and the metadata service."
	if raised != nil {
		f := fault.From(raised)
		is.Why, hint = f.Error()+"; "+is.Why, f.Advice
	}
	if was := a.journal.State().Metadata; was == nil || *was != is {
		if err := a.journal.Update(func(s *journal.State) { s.Metadata = &is }); err != nil {
			a.Log.WithError(err).Debug("how far jobs get to the metadata service could not be recorded")
		}
	}
	a.report.Metadata(is, m.VM.Config.Agent.Metadata == config.Allow, hint)
}

// reaches looks how far jobs get to the metadata service.
func (a *attempt) reaches(ctx context.Context, m member.Member) journal.Metadata {
	if m.VM.Config.Agent.Metadata == config.Allow {
		return journal.Metadata{Access: string(agent.Open), Why: "agent.metadata is allow"}
	}
	reach, why := a.walled(m).Reaches(ctx, m.VM.Config.IMDS.Endpoint)
	return journal.Metadata{Access: string(reach), Why: why}
}

// keepWall looks again and again until ctx ends: a firewall that is loaded anew may have emptied the packet filter.
func (a *attempt) keepWall(ctx context.Context) {
	for retry.Pause(ctx, lookWall) {
		a.keepFromMetadata(ctx, true)
	}
}
