package join

import (
	"context"
	"time"

	"azp-bootstrap/bootstrap/access"
	"azp-bootstrap/bootstrap/devops"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/member"
	"azp-bootstrap/bootstrap/phase"
)

// preflight asks Azure DevOps whether the PAT can do the job, before anything is changed. at is
// what is known of the target.
func preflight(ctx context.Context, m member.Member, at Place) (Place, phase.Fields, error) {
	c, err := m.Access.DevOps(ctx)
	if err != nil {
		return at, nil, err
	}
	found := at.ID != 0
	if !found {
		if at, err = locate(ctx, m, c); err != nil {
			return at, nil, err
		}
	}
	if err := c.Crowded(); err != nil { // rather now than in the middle of config.sh
		return at, nil, err
	}
	if !found && m.State().Agent.ID == 0 {
		forewarn(ctx, m, c, at)
	}
	return at, phase.Fields{"target": at.String(), "id": at.ID}, nil
}

// forewarn says before anything is changed that the pool behind the target is not the credential's
// to manage. The VM goes on all the same: the server's own refusal to register changes nothing
// either, and no public source says that the list of pools asked for here is complete.
// Nor does it wait for the answer.
func forewarn(ctx context.Context, m member.Member, c *devops.Client, at Place) {
	ctx, cancel := context.WithTimeout(ctx, forewarned)
	defer cancel()
	err := c.Aside().Manages(ctx, at.Place)
	if f := fault.From(err); err != nil && f.Class == fault.Scope {
		m.Log.WithFields(phase.Fields{"class": f.Class.Code, "hint": f.Advice}).
			Warn(f.Error() + ": it is tried all the same")
	}
}

// forewarned is how long is waited for an answer that the boot does not need.
const forewarned = 3 * time.Second

// locate finds the target: by the IDs of the journal if the VM stands in it already, so that a
// rename changes nothing, else by name. One that is shown by neither was deleted and may have been
// made anew under its name.
func locate(ctx context.Context, m member.Member, c *devops.Client) (Place, error) {
	if s := m.State(); s.Agent.ID != 0 && s.Target.ID != 0 && s.Target.Named(m.VM.Target()) {
		p, err := m.Placed(ctx, c)
		if err == nil {
			p, err = c.Stands(ctx, p)
		}
		if err == nil || fault.From(err).Class != fault.Target {
			return Place{p, err == nil}, err
		}
	}
	p, err := c.Find(ctx, access.Target(m.VM.Config))
	return Place{Place: p}, err
}
