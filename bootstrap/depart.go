package bootstrap

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/sirupsen/logrus"

	"azp-bootstrap/bootstrap/access"
	"azp-bootstrap/bootstrap/devops"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/journal"
	"azp-bootstrap/bootstrap/retry"
)

const (
	margin     = 15 * time.Second // kept free before the VM goes, for deregistering after the wait
	atLeast    = 20 * time.Second // for deregistering when there is hardly any time
	pollServer = 2 * time.Second  // for the end of a job that runs no longer, or not yet, on this VM

	afterEnd = 2 * time.Minute // for deregistering when nobody sets a time
)

// A drain is how far a departure is.
type drain struct {
	until    time.Time // until then a running job is waited for
	disabled bool      // the agent takes no new job: nothing is asked of the server while one runs here
	local    bool      // nothing is asked of the server at all
}

// leaving is the end of a VM's life in Azure DevOps, as a phase like those of its beginning: it can be
// cut off at any instant and asked again.
var leaving = []Phase{{journal.Draining, drainAndRemove}}

// depart takes this VM out of Azure DevOps; the caller has the VM's turn. If ctx is cancelled it ends where it is: the state
// stays draining, and whoever comes next goes on.
func (b *Boot) depart(parent context.Context, n notice) error {
	d := b.Config.Drain
	now := time.Now()
	end := now.Add(d.Timeout + afterEnd)
	b.drain = drain{until: now, local: n.local}
	if n.wait && d.Enabled {
		b.drain.until = now.Add(d.Timeout)
	}
	if !n.until.IsZero() {
		if latest := n.until.Add(-margin); latest.Before(b.drain.until) {
			b.drain.until = latest
		}
		if end = n.until; end.Before(now.Add(atLeast)) {
			end = now.Add(atLeast)
		}
	}
	before := b.state()
	until := b.drain.until
	if err := b.journal.Update(func(s *journal.State) { s.Leave(n.by, until) }); err != nil {
		return err
	}
	ctx, cancel := context.WithDeadlineCause(parent, end, retry.ErrDeadline)
	defer cancel()
	defer b.drop()
	fields := logrus.Fields{"why": n.why, "waitsUntil": b.drain.until.UTC().Format(time.RFC3339)}
	if !n.until.IsZero() {
		fields["by"] = n.until.UTC().Format(time.RFC3339)
	}
	b.Log.WithFields(fields).Warn("this VM leaves Azure DevOps")
	if err := b.through(ctx, leaving, false); err != nil {
		if parent.Err() != nil {
			return err
		}
		if !n.goes && b.stays(parent, before, err) {
			return err
		}
		last, cancel := context.WithDeadline(parent, time.Now().Add(max(time.Until(end), 0)+atLeast))
		defer cancel()
		return b.leftBehind(last, err)
	}
	b.report.Removed(b.state())
	return b.acknowledge(ctx, n)
}

// acknowledge tells the platform that it need not wait for the event's time.
func (b *Boot) acknowledge(ctx context.Context, n notice) error {
	if n.acknowledge == nil {
		return nil
	}
	if err := n.acknowledge(ctx); err != nil {
		b.Log.WithError(err).Warn("the platform waits until the event's time")
		return nil
	}
	b.Log.WithField("event", n.why).Info("acknowledged: the platform need not wait")
	return nil
}

// stays undoes what was begun on a VM that does not have to go, if its agent still runs: it takes jobs
// again and stands where it stood.
func (b *Boot) stays(ctx context.Context, before journal.State, err error) bool {
	if before.Phase != journal.Ready || !b.agentRuns() {
		return false
	}
	b.letWork(ctx)
	b.record(fault.From(err), func(s *journal.State, why *journal.Failure) {
		drained := s.Agent.Drained
		*s = before
		s.Agent.Drained, s.LastError = drained, why
	})
	return true
}

// letWork enables the agent that a drain has disabled, which came to nothing.
func (b *Boot) letWork(ctx context.Context) {
	if !b.state().Agent.Drained {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), atLeast)
	defer cancel()
	if c, p, there, e := b.registered(ctx); e == nil && there != nil {
		b.Place = p
		if err := b.noteEnabled(ctx, c, there); err != nil {
			b.Log.WithError(err).Error("the state could not be written")
		}
	}
	if b.state().Agent.Drained {
		b.Log.Warn("the agent stays disabled until Azure DevOps answers: then the daemon enables it when it starts")
	}
}

// leftBehind says loudly what stays in Azure DevOps, and at least keeps new jobs from a VM that goes:
// the agent ends when its job has. The state stays "draining", so that the next boot tries again.
func (b *Boot) leftBehind(ctx context.Context, err error) error {
	f := fault.From(err)
	b.report.LeftBehind(b.state(), f)
	b.record(f, besides)
	e := b.retry(ctx, journal.Draining, func() error {
		if b.worksOn() {
			return working(b.state().Agent.Name)
		}
		return b.Runner.Remove(ctx, b.state().Agent.Service)
	}, func(int) {})
	if e != nil {
		b.Log.WithError(e).Error("the agent could not be stopped")
	}
	return f
}

// worksOn reports whether a job runs on this VM that is waited for.
func (b *Boot) worksOn() bool {
	return time.Now().Before(b.drain.until) && b.Runner.Working(b.state().Agent.Service)
}

// ofJob is the subject of faults that are no more than a job that runs.
const ofJob = "job"

func working(agent string) *fault.Error {
	return fault.New(fault.Service, "the agent %s runs a job", cmp.Or(agent, "of this VM")).Passing().Retry(time.Second).
		About(ofJob).Hint("It is waited for up to drain.timeout.")
}

// drainAndRemove removes the agent of the journal from its target, its service and its registration on
// disk.
func drainAndRemove(ctx context.Context, b *Boot) (logrus.Fields, error) {
	known := b.state()
	fields := logrus.Fields{"agent": known.Agent.Name, "id": known.Agent.ID, "target": known.Target.Name}
	if b.state().Registering != nil && !b.drain.local { // cut off in config.sh: what it made is to leave
		if err := b.settleIntent(ctx); err != nil {
			return nil, err
		}
	}
	if err := b.adopt(ctx); err != nil {
		return nil, err
	}
	if err := b.withdraw(ctx); err != nil {
		return nil, err
	}
	if err := b.Runner.Wipe(); err != nil {
		return nil, err
	}
	return fields, b.journal.Update((*journal.State).Left)
}

// adopt finds the agent that is registered on this VM although the journal knows none, because its state was lost: in the configured
// target, by the configured name. If it is not this VM's there, nobody knows where it is, and nothing counts as left.
func (b *Boot) adopt(ctx context.Context) error {
	if b.drain.local || b.state().Agent.ID != 0 {
		return nil
	}
	if id, err := b.Runner.Registered(); err == nil && id == 0 || b.Runner.LaidFor() != b.VM.VMID {
		return nil
	}
	if b.worksOn() {
		return working(b.Agent)
	}
	c, err := b.access.DevOps(ctx)
	if err != nil {
		return err
	}
	if b.Place, err = c.Find(ctx, access.Target(b.Config)); err != nil {
		return err
	}
	a, err := c.Agent(ctx, b.Place, b.Agent)
	switch {
	case err != nil:
		return err
	case a == nil || b.whose(a) != thisVM:
		return fault.New(fault.Target, "this VM's state was lost, and the %s shows no agent %s of this VM", b.Place, b.Agent).
			Hint("Look for it in Azure DevOps by hand; azp-bootstrap deregister --local forgets the registration on this VM.")
	}
	return b.journal.Update(func(s *journal.State) {
		s.Agent = journal.Agent{Name: a.Name, ID: a.ID, ResourceID: a.ResourceID}
		s.Target = b.joining()
	})
}

// withdraw takes the agent that the journal names out of its target: it gets no new job, a running one
// is waited for until b.drain.until, then its service goes and the server removes it. A job is waited for whatever
// the server says, and the server removes this VM's own agent only.
func (b *Boot) withdraw(ctx context.Context) error {
	known := b.state().Agent
	if err := b.waitsHere(); err != nil {
		return err
	}
	if (b.drain.local || known.ID == 0) && b.worksOn() {
		return working(known.Name)
	}
	if b.drain.local || known.ID == 0 {
		return b.Runner.Remove(ctx, known.Service)
	}
	c, place, there, err := b.registered(ctx)
	if err != nil {
		return err
	}
	if there == nil {
		if b.worksOn() {
			return working(known.Name)
		}
		return b.Runner.Remove(ctx, known.Service)
	}
	if err := b.quiet(ctx, c, place, there); err != nil {
		return err
	}
	if err := b.Runner.Remove(ctx, known.Service); err != nil {
		return err
	}
	if err := c.Delete(ctx, place, there); err != nil {
		return err
	}
	switch _, err := c.ByID(ctx, place, there.ID); {
	case err == nil:
		return fault.New(fault.Target, "the server removed the agent %s and still shows it", known.Name).Passing().Hint("It is asked again by itself.")
	case !errors.Is(err, devops.ErrGone):
		return err
	}
	b.Log.WithFields(logrus.Fields{"agent": known.Name, "id": known.ID, "target": place.String()}).Info("the agent is removed from Azure DevOps")
	return nil
}

// quiet lets this VM's agent take no new job, and waits for the running one until b.drain.until.
func (b *Boot) quiet(ctx context.Context, c *devops.Client, place devops.Place, there *devops.Agent) error {
	if there.Enabled {
		// On disk before: who is cut off here enables it when it joins.
		if err := b.journal.Update(func(s *journal.State) { s.Agent.Drained = true }); err != nil {
			return err
		}
		if err := c.Enable(ctx, place, there, false); err != nil {
			return err
		}
		there.Enabled = false
		b.Log.WithField("agent", there.Name).Info("the agent takes no new jobs")
	}
	b.drain.disabled = true
	if !time.Now().Before(b.drain.until) {
		return nil
	}
	now, err := c.ByID(ctx, place, there.ID)
	if errors.Is(err, devops.ErrGone) {
		now, err = &devops.Agent{}, nil
	}
	if err != nil {
		return err
	}
	if now.Busy || b.Runner.Working(b.state().Agent.Service) {
		return working(there.Name).Retry(pollServer)
	}
	return nil
}
