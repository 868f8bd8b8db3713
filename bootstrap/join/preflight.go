package join

import (
	"context"
	"sync"
	"time"

	"azp-bootstrap/bootstrap/access"
	"azp-bootstrap/bootstrap/agent"
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

// forewarn says before anything is changed what the boot goes on with all the same. It does not wait
// for answers that take long.
func forewarn(ctx context.Context, m member.Member, c *devops.Client, at Place) {
	ctx, cancel := context.WithTimeout(ctx, forewarned)
	defer cancel()
	var both sync.WaitGroup
	both.Go(func() { forewarnOfPool(ctx, m, c.Aside(), at) })
	both.Go(func() { forewarnOfUpdate(ctx, m, c.Aside()) })
	both.Wait()
}

// forewarned is how long is waited for answers that the boot does not need.
const forewarned = 3 * time.Second

// forewarnOfPool says that the pool behind the target is not the credential's to manage. The server's
// own refusal to register changes nothing either, and no public source says that the list of pools
// asked for here is complete.
func forewarnOfPool(ctx context.Context, m member.Member, c *devops.Client, at Place) {
	err := c.Manages(ctx, at.Place)
	if f := fault.From(err); err != nil && f.Class == fault.Scope {
		m.Log.WithFields(phase.Fields{"class": f.Class.Code, "hint": f.Advice}).
			Warn(f.Error() + ": it is tried all the same")
	}
}

// forewarnOfUpdate says that Azure DevOps has a newer agent than the image. Whether a job will want it
// nobody knows before there is one.
func forewarnOfUpdate(ctx context.Context, m member.Member, c *devops.Client) {
	here, err := m.Agent.Manifest()
	if err != nil || here.Version == "" {
		return
	}
	offered, err := c.Offered(ctx, agent.Platform())
	if err != nil || !agent.Newer(offered, here.Version) {
		return
	}
	m.Log.WithFields(phase.Fields{
		"from": here.Version, "to": offered,
		"hint": "Put that version into the image (azp-bootstrap prepare --pin VERSION): then no job waits for it.",
	}).Info("Azure DevOps has a newer agent than this image: the first job that wants it waits for an update")
}

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
