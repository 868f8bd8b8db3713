package bootstrap

import (
	"context"
	"time"

	"github.com/sirupsen/logrus"

	"azp-bootstrap/bootstrap/devops"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/health"
)

const (
	margin     = 15 * time.Second // kept free before the VM goes, for deregistering after the wait
	atLeast    = 20 * time.Second // for deregistering when there is hardly any time
	pollServer = 2 * time.Second  // for the end of a job that runs no longer, or not yet, on this VM

	afterEnd = 2 * time.Minute // for deregistering when nobody sets a time
)

// leaving is the end of a VM's life in Azure DevOps, as a phase like those of its beginning: it can be
// cut off at any instant and asked again.
var leaving = []Phase{{health.Draining, drainAndRemove}}

// depart takes this VM out of Azure DevOps; the caller has the VM's lock. What called for it may have
// ended by now, so the daemon gives it a context that survives.
func (b *Boot) depart(parent context.Context, n notice) error {
	d := b.Config.Drain
	now := time.Now()
	end := now.Add(d.Timeout + afterEnd)
	b.drainUntil, b.disabled = now, false
	if n.wait && d.Enabled {
		b.drainUntil = now.Add(d.Timeout)
	}
	if !n.by.IsZero() {
		if latest := n.by.Add(-margin); latest.Before(b.drainUntil) {
			b.drainUntil = latest
		}
		if end = n.by; end.Before(now.Add(atLeast)) {
			end = now.Add(atLeast)
		}
	}
	before := b.journal.State
	b.journal.DrainUntil = &b.drainUntil
	ctx, cancel := context.WithDeadlineCause(parent, end, errDeadline)
	defer cancel()
	defer b.drop()
	fields := logrus.Fields{"why": n.why, "waitsUntil": b.drainUntil.UTC().Format(time.RFC3339)}
	if !n.by.IsZero() {
		fields["by"] = n.by.UTC().Format(time.RFC3339)
	}
	b.Log.WithFields(fields).Warn("this VM leaves Azure DevOps")
	if err := b.through(ctx, leaving, false); err != nil {
		if !n.goes && b.stays(parent, before, err) {
			return err
		}
		return b.leftBehind(ctx, err)
	}
	b.report.Removed(b.journal.State)
	if n.acknowledge != nil {
		if err := n.acknowledge(ctx); err != nil {
			b.Log.WithError(err).Warn("the platform waits until the event's time")
		} else {
			b.Log.WithField("event", n.why).Info("acknowledged: the platform need not wait")
		}
	}
	return nil
}

// stays undoes what was begun on a VM that does not have to go, if its agent still runs: it takes jobs
// again and stands where it stood.
func (b *Boot) stays(ctx context.Context, before health.State, err error) bool {
	if running, _ := b.Runner.Running(before.Agent.Service); !running || before.Phase != health.Ready {
		return false
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), atLeast)
	defer cancel()
	if c, p, there, e := b.registered(ctx); e == nil && there != nil && !there.Enabled {
		if e := c.Enable(ctx, p, there, true); e != nil {
			b.Log.WithError(e).Warn("the agent stays disabled: enable it in Azure DevOps")
		}
	}
	b.journal.State = before
	if e := b.journal.besides(fault.From(err), b.Redactor.Redact); e != nil {
		b.Log.WithError(e).Error("the failure could not be recorded")
	}
	return true
}

// leftBehind says loudly what stays in Azure DevOps, and at least keeps new jobs from a VM that goes:
// the agent ends when its job has. The state stays "draining", so that the next boot tries again.
func (b *Boot) leftBehind(ctx context.Context, err error) error {
	f := fault.From(err)
	b.report.LeftBehind(b.journal.State, f)
	if e := b.journal.besides(f, b.Redactor.Redact); e != nil {
		b.Log.WithError(e).Error("the failure could not be recorded")
	}
	e := b.retry(ctx, health.Draining, func() error {
		if b.worksOn() {
			return working(b.journal.Agent.Name)
		}
		return b.Runner.Remove(b.journal.Agent.Service)
	}, func(int) {})
	if e != nil {
		b.Log.WithError(e).Error("the agent could not be stopped")
	}
	return f
}

// worksOn reports whether a job runs on this VM that is waited for.
func (b *Boot) worksOn() bool {
	return time.Now().Before(b.drainUntil) && b.Runner.Working(b.journal.Agent.Service)
}

func working(agent string) *fault.Error {
	return fault.New(fault.Service, "the agent %s runs a job", agent).Passing().Retry(time.Second).
		Hint("It is waited for up to drain.timeout.")
}

// drainAndRemove removes the agent of the journal from its target, its service and its registration on
// disk.
func drainAndRemove(ctx context.Context, b *Boot) (logrus.Fields, error) {
	fields := logrus.Fields{"agent": b.journal.Agent.Name, "id": b.journal.Agent.ID, "target": b.journal.Target.Name}
	if err := b.withdraw(ctx); err != nil {
		return nil, err
	}
	if err := b.Runner.Wipe(); err != nil {
		return nil, err
	}
	return fields, b.journal.removed()
}

// withdraw takes the agent that the journal names out of its target: it gets no new job, a running one
// is waited for until b.drainUntil, then its service goes and the server removes it.
func (b *Boot) withdraw(ctx context.Context) error {
	ours := b.journal.Agent
	if ours.ID == 0 {
		return b.Runner.Remove(ours.Service)
	}
	if b.disabled && b.worksOn() {
		b.drop() // a fresh one is fetched when the job has ended
		return working(ours.Name)
	}
	c, place, there, err := b.registered(ctx)
	if err != nil {
		return err
	}
	if there != nil {
		if there.Enabled {
			if err := c.Enable(ctx, place, there, false); err != nil {
				return err
			}
			there.Enabled = false
			b.Log.WithField("agent", there.Name).Info("the agent takes no new jobs")
		}
		b.disabled = true
		if time.Now().Before(b.drainUntil) {
			busy, err := c.Busy(ctx, place, there)
			if err != nil {
				return err
			}
			if busy || b.Runner.Working(ours.Service) {
				return working(there.Name).Retry(pollServer)
			}
		}
	}
	if err := b.Runner.Remove(ours.Service); err != nil {
		return err
	}
	if there == nil {
		return nil
	}
	if err := c.Delete(ctx, place, there); err != nil {
		return err
	}
	if left, err := c.Agent(ctx, place, ours.Name); err != nil {
		return err
	} else if left != nil && left.ID == there.ID {
		return fault.New(fault.Target, "the server removed the agent %s and still shows it", ours.Name).Passing().Hint("It is asked again by itself.")
	}
	b.Log.WithFields(logrus.Fields{"agent": ours.Name, "id": ours.ID, "target": place.String()}).Info("the agent is removed from Azure DevOps")
	return nil
}

// found is the agent of the journal on its server.
type found struct {
	client *devops.Client
	place  devops.Place
	there  *devops.Agent
}

// registered looks for the agent of the journal where the journal says it is, which the configuration
// may no longer name. there is nil if it stands no more. Asked again, it answers from memory.
func (b *Boot) registered(ctx context.Context) (c *devops.Client, p devops.Place, there *devops.Agent, err error) {
	if f := b.found; f != nil {
		return f.client, f.place, f.there, nil
	}
	defer func() {
		if err == nil {
			b.found = &found{c, p, there}
		}
	}()
	t := b.journal.Target
	if c, err = b.devops(ctx); err != nil {
		return nil, p, nil, err
	}
	if t.URL != b.Config.Server.Base {
		c = devops.New(t.URL, t.URL, b.client, b.opens())
	}
	if p, err = c.Find(ctx, devops.Target{Kind: t.Kind, Project: t.Project, Name: t.Name}); err == nil {
		there, err = c.Agent(ctx, p, b.journal.Agent.Name)
	}
	if f := fault.From(err); err != nil && f.Class == fault.Target { // a target that is gone has no agent
		return c, p, nil, nil
	}
	if there != nil && there.ID != b.journal.Agent.ID { // somebody else's by now
		there = nil
	}
	return c, p, there, err
}

// Deregister is the command: drain, remove from Azure DevOps, remove the agent's service. With now, a
// running job is not waited for. done is false if nothing was registered.
func Deregister(ctx context.Context, o Options, now bool) (done bool, err error) {
	b, err := begin(o)
	if err != nil {
		return false, err
	}
	defer b.report.Console.Close()
	if err := b.configure(); err != nil {
		return false, err
	}
	unlock, err := b.turn(ctx)
	if err != nil {
		return false, err
	}
	defer unlock()
	// A clone must not deregister the VM that it was copied from: discover tells.
	within, cancel := context.WithTimeoutCause(ctx, b.Config.Deadline, errDeadline)
	defer cancel()
	if err := b.through(within, phases[:1], true); err != nil {
		return false, err
	}
	if b.journal.Agent.ID == 0 || b.journal.Phase == health.Removed {
		return false, nil
	}
	return true, b.depart(ctx, notice{why: "deregister", wait: !now})
}
