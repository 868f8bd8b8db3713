package bootstrap

import (
	"context"
	"errors"
	"time"

	"github.com/sirupsen/logrus"

	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/devops"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/health"
)

// joined reports whether this VM was ready before and still is, so that there is nothing to do. The
// agent lives without the vault and without a PAT, so trouble in asking Azure DevOps is logged, not
// a reason to begin again.
func (b *Boot) joined(ctx context.Context) bool {
	id, err := b.Runner.Registered()
	known := b.journal.Agent
	if err != nil || id == 0 || id != known.ID || !b.journal.Target.Named(b.target()) || known.Name != b.Agent || b.Runner.LaidFor() != b.VM.VMID {
		return false
	}
	if running, _ := b.Runner.Running(known.Service); !running {
		return false
	}
	there, err := b.standing(ctx)
	if err != nil {
		b.Log.WithError(err).Warn("the agent runs, but Azure DevOps does not confirm it")
		if e := b.journal.besides(fault.From(err), b.Redactor.Redact); e != nil {
			b.Log.WithError(e).Error("the failure could not be recorded")
		}
		return true
	}
	return there
}

// standing asks Azure DevOps for the agent of the journal. false means that it is gone, or another VM's by now.
func (b *Boot) standing(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	c, err := b.devops(ctx)
	if err != nil {
		return false, err
	}
	if b.Place, err = b.placed(ctx, c); err != nil {
		return false, err
	}
	b.byID = true
	a, err := c.ByID(ctx, b.Place, b.journal.Agent.ID)
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
	before := b.journal.State
	if b.journal.Agent.Registered == "" { // of an earlier version
		b.journal.Agent.Registered = a.Registered
	}
	if pool, err := c.Pool(ctx, b.Place); err == nil {
		b.Place.PoolID = pool
	}
	b.stands(b.Place)
	b.noteEnabled(ctx, c, a)
	listed := b.setTags(ctx, c)
	if b.journal.Agent != before.Agent || b.journal.Target != before.Target {
		return true, errors.Join(b.journal.write(), listed)
	}
	return true, listed
}

// placed is where the journal says that the agent stands, which the configuration may no longer name. A state of an
// earlier version has no IDs: they are looked up by name, and kept when this VM's agent is found there.
func (b *Boot) placed(ctx context.Context, c *devops.Client) (devops.Place, error) {
	p := placeOf(b.journal.Target)
	if p.ID != 0 {
		return p, nil
	}
	return c.Find(ctx, p.Target)
}

func placeOf(t health.Target) devops.Place {
	return devops.Place{Target: devops.Target{Kind: t.Kind, Project: t.Project, Name: t.Name}, ProjectID: t.ProjectID, ID: t.ID, PoolID: t.PoolID}
}

// stands notes the IDs of the place where the agent of the journal is.
func (b *Boot) stands(p devops.Place) {
	t := &b.journal.Target
	t.ProjectID, t.ID, t.PoolID = p.ProjectID, p.ID, p.PoolID
}

// samePlace reports whether the agent of the journal stands in the target that was found for the configured names: by ID,
// so that a new name of an old target moves nobody.
func (b *Boot) samePlace() bool {
	t, want := b.journal.Target, b.target()
	if t.ID == 0 || t.Kind != want.Kind || t.URL != want.URL {
		return t.Named(want)
	}
	return t.ID == b.Place.ID && (t.ProjectID == b.Place.ProjectID || t.ProjectID == "" || b.Place.ProjectID == "")
}

// noteEnabled enables an agent that a drain had disabled. One that somebody disabled stays so, and is shown.
func (b *Boot) noteEnabled(ctx context.Context, c *devops.Client, a *devops.Agent) {
	known := &b.journal.Agent
	known.Disabled = !a.Enabled
	if a.Enabled {
		known.Drained = false
		return
	}
	log := b.Log.WithFields(logrus.Fields{"agent": a.Name, "id": a.ID})
	if !known.Drained {
		log.Warn("the agent is disabled in Azure DevOps: it takes no job until somebody enables it there")
		return
	}
	if err := c.Enable(ctx, b.Place, a, true); err != nil {
		log.WithError(err).Warn("the agent, which a drain had disabled, could not be enabled: enable it in Azure DevOps")
		return
	}
	known.Disabled, known.Drained = false, false
	log.Info("the agent, which a drain had disabled, takes jobs again")
}

// setTags sets tags right that differ from the configuration, over REST: the registration stays. A tag is no reason to
// fail. What it returns is that the target does not list the VM at all, so that it gets no job.
func (b *Boot) setTags(ctx context.Context, c *devops.Client) (unlisted error) {
	if b.Place.Kind == devops.Pool {
		return nil
	}
	a, err := c.Shown(ctx, b.Place, b.journal.Agent.Name)
	if err == nil && (a == nil || a.ID != b.journal.Agent.ID) {
		return fault.New(fault.Target, "the %s does not list the agent %s, which stands in its pool and runs: it gets no job", b.Place, b.journal.Agent.Name).
			Hint("Somebody deleted it on the target's page. azp-bootstrap deregister, then azp-bootstrap run --once, joins anew.")
	}
	if err == nil {
		b.journal.Agent.ResourceID = a.ResourceID
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
	service := b.journal.Agent.Service
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
	was, is := b.stood, b.journal.State
	return was.Phase == health.Ready && !b.lost && is.Registering == nil && was.InstanceID == is.InstanceID &&
		was.Agent.ID == is.Agent.ID && was.Target.Named(is.Target)
}
