package bootstrap

import (
	"context"
	"errors"
	"time"

	"github.com/sirupsen/logrus"

	"azp-bootstrap/bootstrap/access"
	"azp-bootstrap/bootstrap/devops"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/journal"
)

// register makes the agent known to the server, once: what a crash left half done, on the server or
// on disk, is recognized and mended.
func register(ctx context.Context, b *Boot) (logrus.Fields, error) {
	if err := b.waitsHere(); err != nil {
		return nil, err
	}
	if err := b.service().Check(); err != nil { // before anything is changed
		return nil, err
	}
	c, err := b.access.DevOps(ctx)
	if err != nil {
		return nil, err
	}
	if err := b.settleIntent(ctx); err != nil {
		return nil, err
	}
	there, err := c.Agent(ctx, b.Place, b.Agent)
	if err == nil {
		there, err = b.reclaim(ctx, c, b.Place, there)
	}
	if err != nil {
		return nil, err
	}
	if b.situation(there).decide(b.Config.Agent.Replace) == keeps {
		if err := b.journal.Update(func(s *journal.State) { s.Target = b.joining() }); err != nil {
			return nil, err
		}
		_ = b.setTags(ctx, c) // it is listed: it was found by name
		return logrus.Fields{"agent": b.Agent, "id": there.ID}, nil
	}
	if b.byID { // config.sh knows names only: what bears the configured one by now is what the VM joins
		if b.Place, err = c.Find(ctx, access.Target(b.Config)); err != nil {
			return nil, err
		}
		b.byID = false
		if there, err = c.Agent(ctx, b.Place, b.Agent); err != nil {
			return nil, err
		}
	}
	switch b.situation(there).decide(b.Config.Agent.Replace) {
	case asks:
		if err := b.mayReturn(ctx, c); err != nil {
			return nil, err
		}
	case refuses:
		return nil, b.taken(there)
	}
	var left *devops.Agent
	if there == nil && b.met {
		if left, err = b.leftover(ctx, c); err != nil {
			return nil, err
		}
	}
	if err := b.mayBeLaid(); err != nil {
		return nil, err
	}
	if err := b.leaveFormer(ctx); err != nil {
		return nil, err
	}
	if err := b.restsHere(ctx, c, there); err != nil {
		return nil, err
	}
	if left != nil {
		b.Log.WithFields(logrus.Fields{"agent": left.Name, "id": left.ID}).
			Warn("the agent of this name that a deleted resource left in the pool behind the target is removed")
		if err := c.Delete(ctx, b.Place, left); err != nil {
			return nil, err
		}
	}
	return b.enrol(ctx, there)
}

// move takes the VM out of its former target, if another one is configured and the VM can join that.
func move(ctx context.Context, b *Boot) (logrus.Fields, error) {
	if b.samePlace() && b.state().Agent.Name == b.Agent {
		return logrus.Fields{"agent": b.Agent}, nil
	}
	if err := b.waitsHere(); err != nil {
		return nil, err
	}
	if err := b.service().Check(); err != nil {
		return nil, err
	}
	c, err := b.access.DevOps(ctx)
	if err != nil {
		return nil, err
	}
	if err := b.settleIntent(ctx); err != nil {
		return nil, err
	}
	there, err := c.Agent(ctx, b.Place, b.Agent)
	if err == nil {
		err = b.mayTake(there)
	}
	if err == nil {
		err = c.Manages(ctx, b.Place)
	}
	if err == nil && there == nil {
		var left *devops.Agent
		left, err = b.leftover(ctx, c)
		b.met = left != nil
	}
	if err == nil {
		err = b.mayBeLaid()
	}
	if err == nil {
		err = b.leaveFormer(ctx)
	}
	return logrus.Fields{"agent": b.Agent}, err
}

// settleIntent finds out what became of a registration that was cut off, if another target or another name is wanted by
// now: an agent that it made is this VM's, and is the one to leave.
func (b *Boot) settleIntent(ctx context.Context) error {
	made := b.state().Registering
	if made == nil || made.Target.ID == 0 { // an earlier version wrote no target
		return nil
	}
	if made.Name == b.Agent && made.Target.ID == b.Place.ID && made.Target.Kind == b.Place.Kind && made.Target.URL == b.target().URL {
		return nil // it is gone on with
	}
	p := placeOf(made.Target)
	c, err := b.access.At(ctx, made.Target.URL)
	if err != nil {
		return err
	}
	a, err := c.Agent(ctx, p, made.Name)
	if err != nil {
		return err
	}
	ours := a != nil && b.whose(a) == thisVM
	return b.journal.Update(func(s *journal.State) {
		if ours && a.ID != s.Agent.ID {
			s.Agent = journal.Agent{Name: made.Name, ID: a.ID, ResourceID: a.ResourceID, Drained: made.Drained}
			s.Target = made.Target
		}
		s.Registering = nil
	})
}

// mayReturn decides whether a VM whose agent the target shows no more may register anew: only if the server says that
// the agent of the journal is gone, and not if agent.reregister is off.
func (b *Boot) mayReturn(ctx context.Context, c *devops.Client) error {
	a, err := c.ByID(ctx, b.Place, b.state().Agent.ID)
	if err == nil {
		a, err = b.reclaim(ctx, c, b.Place, a)
	}
	switch {
	case err == nil && b.whose(a) == thisVM: // a VM resource was deleted and left its agent in the pool, where config.sh would meet it
		return c.Delete(ctx, b.Place, a)
	case err == nil:
		return b.taken(a)
	case !errors.Is(err, devops.ErrGone):
		return err
	}
	if !b.Config.Agent.Reregister {
		return fault.New(fault.Target, "the agent %s was removed from the %s, and agent.reregister is off", b.Agent, b.Place).
			Hint("Set agent.reregister: true, or let this VM go.")
	}
	return nil
}

// leaveFormer takes the VM out of the target it was in before the configuration changed, when its job
// has ended: at most one agent of a VM, ever.
func (b *Boot) leaveFormer(ctx context.Context) error {
	if known := b.state().Agent; known.ID == 0 || b.samePlace() && known.Name == b.Agent {
		return nil
	}
	b.beginDrain()
	if err := b.withdraw(ctx); err != nil {
		return err
	}
	return b.journal.Update(func(s *journal.State) { s.Agent, s.Target = journal.Agent{}, journal.Target{} })
}

// mayBeLaid looks whether the agent's package is in place before an agent that runs is stopped for it.
func (b *Boot) mayBeLaid() error {
	if !b.agentRuns() {
		return nil
	}
	_, err := b.Runner.Verify()
	return err
}

// beginDrain sets until when a job is waited for, once an attempt.
func (b *Boot) beginDrain() {
	if b.drain.until.IsZero() && b.Config.Drain.Enabled {
		b.drain.until = time.Now().Add(b.Config.Drain.Timeout)
	}
}

// waitsHere: the agent takes no new job, and one runs on this VM. Until it ends nobody is asked, and nothing is held.
func (b *Boot) waitsHere() error {
	if !b.drain.disabled || !b.worksOn() {
		return nil
	}
	b.drop()
	return working(b.state().Agent.Name)
}

// restsHere waits for the job of an agent that is to be registered anew where it stands: its service is about to stop.
func (b *Boot) restsHere(ctx context.Context, c *devops.Client, there *devops.Agent) error {
	if !b.agentRuns() && !b.Runner.Working(b.state().Agent.Service) { // also one of which a lost journal told
		return nil
	}
	b.beginDrain()
	if there == nil || b.whose(there) != thisVM {
		if b.worksOn() {
			return working(b.Agent)
		}
		return nil
	}
	return b.quiet(ctx, c, b.Place, there)
}
