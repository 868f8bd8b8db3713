package member

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/sirupsen/logrus"

	"azp-bootstrap/bootstrap/devops"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/journal"
)

// pollServer is how soon the server is asked again for the end of a job that no longer, or not yet,
// runs on this VM.
const pollServer = 2 * time.Second

// A Drain is one way of this VM's agent out of its target, or of its registration to a new one,
// over all its tries.
type Drain struct {
	Until time.Time // until then a running job is waited for
	Local bool      // nothing is asked of the server at all
	Lost  bool      // another VM has taken the agent over: that is known

	disabled bool    // the agent takes no new job: nothing is asked of the server while one runs here
	found    *Listed // what Find found
}

func (d *Drain) waits() bool { return time.Now().Before(d.Until) }

// Waits reports whether a job runs on this VM that is waited for.
func (m Member) Waits(d *Drain) bool { return d.waits() && m.Works() }

// Busy is the fault of an agent that runs a job, which is waited for.
func Busy(agent string) *fault.Error {
	return fault.New(fault.Service, "the agent %s runs a job", cmp.Or(agent, "of this VM")).
		Passing().
		Retry(time.Second).
		About(fault.OfJob).
		Hint("It is waited for up to drain.timeout.")
}

// HeldUp is the fault of a VM whose agent takes no new job, and that runs one: until it ends nobody
// is asked, and nothing is held.
func (m Member) HeldUp(d *Drain) error {
	if !d.disabled || !m.Waits(d) {
		return nil
	}
	m.Access.Drop()
	return Busy(m.State().Agent.Name)
}

// Withdraw takes the agent that the journal names out of its target: it gets no new job, a running
// one is waited for until d.Until, then its service goes and the server removes it. A job is waited
// for whatever the server says, and the server removes this VM's own agent only.
func (m Member) Withdraw(ctx context.Context, d *Drain) error {
	known := m.State().Agent
	if err := m.HeldUp(d); err != nil {
		return err
	}
	var at Listed
	if !d.Local && known.ID != 0 {
		var err error
		if at, err = m.Find(ctx, d); err != nil {
			return err
		}
	}
	if at.Agent == nil { // nothing of it is on the server, or nobody asks
		if m.Waits(d) {
			return Busy(known.Name)
		}
		return m.Agent.Remove(ctx, known.Service)
	}
	if err := m.Quiet(ctx, at.Client, at.Place, at.Agent, d); err != nil {
		return err
	}
	if err := m.Agent.Remove(ctx, known.Service); err != nil {
		return err
	}
	if err := m.noteLast(ctx, at); err != nil {
		return err
	}
	if err := at.Client.Delete(ctx, at.Place, at.Agent); err != nil {
		return err
	}
	switch _, err := at.Client.ByID(ctx, at.Place, at.Agent.ID); {
	case err == nil:
		return fault.New(fault.Target, "the server removed the agent %s and still shows it", known.Name).
			Passing().
			Hint("It is asked again by itself.")
	case !errors.Is(err, devops.ErrGone):
		return err
	}
	m.Log.WithFields(logrus.Fields{"agent": known.Name, "id": known.ID, "target": at.Place.String()}).
		Info("the agent is removed from Azure DevOps")
	return nil
}

// disable lets this VM's agent take no new job.
func (m Member) disable(ctx context.Context, c *devops.Client, p devops.Place, there *devops.Agent) error {
	if !there.Enabled {
		return nil
	}
	// On disk before: who is cut off here enables it when it joins.
	if err := m.Journal.Update(func(s *journal.State) { s.Agent.Drained = true }); err != nil {
		return err
	}
	if err := c.Enable(ctx, p, there, false); err != nil {
		return err
	}
	there.Enabled = false
	m.Log.WithField("agent", there.Name).Info("the agent takes no new jobs")
	return nil
}

// Quiet lets this VM's agent take no new job, and waits for the running one until d.Until.
func (m Member) Quiet(ctx context.Context, c *devops.Client, p devops.Place, there *devops.Agent, d *Drain) error {
	if err := m.disable(ctx, c, p, there); err != nil {
		return err
	}
	d.disabled = true
	if !d.waits() {
		return nil
	}
	now, err := c.ByID(ctx, p, there.ID)
	if errors.Is(err, devops.ErrGone) {
		now, err = &devops.Agent{}, nil
	}
	if err != nil {
		return err
	}
	if now.Busy || m.Works() {
		return Busy(there.Name).Retry(pollServer)
	}
	return nil
}
