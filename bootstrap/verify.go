package bootstrap

import (
	"context"
	"errors"
	"time"

	"github.com/sirupsen/logrus"

	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/devops"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/journal"
)

// joined reports whether this VM was ready before and still is, so that there is nothing to do. The
// agent lives without the vault and without a PAT, so trouble in asking Azure DevOps is logged, not
// a reason to begin again.
func (b *Boot) joined(ctx context.Context) bool {
	id, err := b.Runner.Registered()
	s := b.state()
	known := s.Agent
	if err != nil || id == 0 || id != known.ID || !s.Target.Named(b.target()) || known.Name != b.Agent || b.Runner.LaidFor() != b.VM.VMID {
		return false
	}
	if running, _ := b.Runner.Running(known.Service); !running {
		return false
	}
	there, err := b.standing(ctx)
	if err != nil {
		b.Log.WithError(err).Warn("the agent runs, but Azure DevOps does not confirm it")
		b.record(fault.From(err), besides)
		return true
	}
	return there
}

// standing asks Azure DevOps for the agent of the journal. false means that it is gone, or another VM's by now.
func (b *Boot) standing(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	c, err := b.access.DevOps(ctx)
	if err != nil {
		return false, err
	}
	if b.Place, err = b.placed(ctx, c); err != nil {
		return false, err
	}
	b.byID = true
	a, err := c.ByID(ctx, b.Place, b.state().Agent.ID)
	switch {
	case errors.Is(err, devops.ErrGone):
		return false, nil
	case err != nil:
		return false, err
	}
	if a, err = b.reclaim(ctx, c, b.Place, a); err != nil {
		return false, err
	}
	switch b.whose(a) {
	case anotherVM:
		b.lost = true
		return false, nil
	case nobodyKnows:
		return false, unclear(b.Place, a)
	}
	if pool, err := c.Pool(ctx, b.Place); err == nil {
		b.Place.PoolID = pool
	}
	registered := b.journal.Update(func(s *journal.State) {
		if s.Agent.Registered == "" { // of an earlier version
			s.Agent.Registered = a.Registered
		}
	})
	return true, errors.Join(registered, b.stands(b.Place), b.noteEnabled(ctx, c, a), b.setTags(ctx, c))
}

// placed is where the journal says that the agent stands, which the configuration may no longer name. A state of an
// earlier version has no IDs: they are looked up by name, and kept when this VM's agent is found there.
func (b *Boot) placed(ctx context.Context, c *devops.Client) (devops.Place, error) {
	p := placeOf(b.state().Target)
	if p.ID != 0 {
		return p, nil
	}
	return c.Find(ctx, p.Target)
}

func placeOf(t journal.Target) devops.Place {
	return devops.Place{Target: devops.Target{Kind: t.Kind, Project: t.Project, Name: t.Name}, ProjectID: t.ProjectID, ID: t.ID, PoolID: t.PoolID}
}

// stands notes the IDs of the place where the agent of the journal is.
func (b *Boot) stands(p devops.Place) error {
	return b.journal.Update(func(s *journal.State) {
		s.Target.ProjectID, s.Target.ID, s.Target.PoolID = p.ProjectID, p.ID, p.PoolID
	})
}

// samePlace reports whether the agent of the journal stands in the target that was found for the configured names: by ID,
// so that a new name of an old target moves nobody.
func (b *Boot) samePlace() bool {
	t, want := b.state().Target, b.target()
	if t.ID == 0 || t.Kind != want.Kind || t.URL != want.URL {
		return t.Named(want)
	}
	return t.ID == b.Place.ID && (t.ProjectID == b.Place.ProjectID || t.ProjectID == "" || b.Place.ProjectID == "")
}

// noteEnabled enables an agent that a drain had disabled. One that somebody disabled stays so, and is shown.
func (b *Boot) noteEnabled(ctx context.Context, c *devops.Client, a *devops.Agent) error {
	note := func(disabled, drained bool) error {
		return b.journal.Update(func(s *journal.State) { s.Agent.Disabled, s.Agent.Drained = disabled, drained })
	}
	if a.Enabled {
		return note(false, false)
	}
	log := b.Log.WithFields(logrus.Fields{"agent": a.Name, "id": a.ID})
	if !b.state().Agent.Drained {
		log.Warn("the agent is disabled in Azure DevOps: it takes no job until somebody enables it there")
		return note(true, false)
	}
	if err := c.Enable(ctx, b.Place, a, true); err != nil {
		log.WithError(err).Warn("the agent, which a drain had disabled, could not be enabled: enable it in Azure DevOps")
		return note(true, true)
	}
	log.Info("the agent, which a drain had disabled, takes jobs again")
	return note(false, false)
}

// setTags sets tags right that differ from the configuration, over REST: the registration stays. A tag is no reason to
// fail. What it returns is that the target does not list the VM at all, so that it gets no job.
func (b *Boot) setTags(ctx context.Context, c *devops.Client) (unlisted error) {
	if b.Place.Kind == devops.Pool {
		return nil
	}
	known := b.state().Agent
	a, err := c.Shown(ctx, b.Place, known.Name)
	if err == nil && (a == nil || a.ID != known.ID) {
		return fault.New(fault.Target, "the %s does not list the agent %s, which stands in its pool and runs: it gets no job", b.Place, known.Name).
			Hint("Somebody deleted it on the target's page. azp-bootstrap deregister, then azp-bootstrap run --once, joins anew.")
	}
	if err == nil {
		if err := b.journal.Update(func(s *journal.State) { s.Agent.ResourceID = a.ResourceID }); err != nil {
			return err
		}
		if a.Tagged(b.Tags) {
			return nil
		}
		err = c.SetTags(ctx, b.Place, a, b.Tags)
	}
	if err != nil {
		b.Log.WithError(err).Warn("the agent's tags could not be set right")
		return nil
	}
	b.Log.WithFields(logrus.Fields{"agent": a.Name, "tags": b.Tags, "before": a.Tags}).Info("the tags are set right")
	return nil
}

// agentRuns reports whether the agent of the journal runs, whatever has become of the configuration.
func (b *Boot) agentRuns() bool {
	service := b.state().Agent.Service
	runner := b.Runner
	if runner == nil {
		runner = agent.Runner{Process: service == "", State: b.StateDir}
	}
	running, _ := runner.Running(service)
	return running
}

// stillReady reports whether a VM that was ready when this attempt began is so all the same: the attempt has touched
// nothing, and its agent runs. What failed then is news, and no reason to replace a VM that works.
func (b *Boot) stillReady() bool { return b.untouched() && b.agentRuns() }

// untouched reports whether a VM that was ready when this attempt began stands where it stood.
func (b *Boot) untouched() bool {
	was, is := b.stood, b.state()
	return was.Phase == journal.Ready && !b.lost && is.Registering == nil && was.InstanceID == is.InstanceID &&
		was.Agent.ID == is.Agent.ID && was.Target.Named(is.Target)
}
