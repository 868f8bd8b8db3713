package leave

import (
	"context"
	"time"

	"github.com/sirupsen/logrus"

	"azp-bootstrap/bootstrap/access"
	"azp-bootstrap/bootstrap/devops"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/journal"
	"azp-bootstrap/bootstrap/member"
	"azp-bootstrap/bootstrap/phase"
	"azp-bootstrap/bootstrap/retry"
)

const (
	margin   = 15 * time.Second // kept free before the VM goes, for deregistering after the wait
	atLeast  = 20 * time.Second // for deregistering when there is hardly any time
	afterEnd = 2 * time.Minute  // for deregistering when nobody sets a time
)

// Within is how long what comes before a departure may take: until the VM goes, if that is known.
func (n Notice) Within(deadline time.Duration) time.Duration {
	if n.Until.IsZero() {
		return deadline
	}
	return max(time.Until(n.Until), atLeast)
}

// times are until when a job is waited for, and when the departure ends.
func (n Notice) times(now time.Time, enabled bool, timeout time.Duration) (drain, end time.Time) {
	drain, end = now, now.Add(timeout+afterEnd)
	if n.Wait && enabled {
		drain = now.Add(timeout)
	}
	if n.Until.IsZero() {
		return drain, end
	}
	if latest := n.Until.Add(-margin); latest.Before(drain) {
		drain = latest
	}
	if end = n.Until; end.Before(now.Add(atLeast)) {
		end = now.Add(atLeast)
	}
	return drain, end
}

// Leave takes this VM out of Azure DevOps, wherever it stands on its way; the caller has the VM's turn,
// and m knows which VM it is. lost says that another VM is known to have its agent. done is false if nothing was registered.
func Leave(ctx context.Context, r phase.Runner, m member.Member, n Notice, lost bool) (done bool, err error) {
	if !n.Goes {
		if stays, err := settle(ctx, r, m, n); stays || err != nil {
			return false, err
		}
	}
	err = depart(ctx, r, m, n, lost)
	return err == nil, err
}

// settle finds out, for an operator, what there is to leave, and changes nothing if that cannot be
// found out. stays is true if there is nothing.
func settle(ctx context.Context, r phase.Runner, m member.Member, n Notice) (stays bool, err error) {
	within, cancel := context.WithTimeoutCause(ctx, n.Within(m.VM.Config.Deadline), retry.ErrDeadline)
	defer cancel()
	if !n.Local {
		if err := r.Retry(within, journal.Waiting, func() error {
			if err := m.SettleIntent(within, devops.Place{}); err != nil {
				return err
			}
			return Adopt(within, m)
		}, nil); err != nil {
			return false, err
		}
	}
	if s := m.State(); !n.Local && s.Agent.ID == 0 && s.Phase != journal.Removed && !registeredHere(m) {
		LookFor(within, m)
	}
	switch s := m.State(); {
	case s.Phase == journal.Removed && s.ByAzure(): // and stays so, by the operator's word
		return true, m.Journal.Update(func(s *journal.State) {
			s.RemovedBy = n.By
			s.Left()
		})
	case s.Phase == journal.Removed:
		return true, nil
	case s.Agent.ID == 0 && !registeredHere(m): // it was on its way, and goes no further
		if err := m.Agent.Remove(within, s.Agent.Service); err != nil { // a config.sh that was left behind
			return true, err
		}
		return true, m.Journal.Update(func(s *journal.State) {
			s.Leave(n.By, time.Now())
			s.Left()
		})
	}
	return false, nil
}

// LookFor finds the agent that this VM registered although neither its journal nor its disk knows:
// somebody deleted both. It asks once: a VM that never joined may have nobody to ask.
func LookFor(ctx context.Context, m member.Member) {
	ctx, cancel := context.WithTimeout(ctx, atLeast)
	defer cancel()
	c, err := m.Access.DevOps(ctx)
	if err == nil {
		_, err = claim(ctx, m, c.Aside(), func(a *devops.Agent) bool {
			if a.Online { // what it shows of its VM a job may have written, and who has its key works elsewhere
				m.Log.WithFields(logrus.Fields{"agent": a.Name, "id": a.ID}).
					Warn("an agent that shows this VM is online, and nothing on this VM says that it is its own: it is left alone")
			}
			return !a.Online
		})
	}
	if err != nil {
		m.Log.WithField("reason", fault.From(err).Error()).
			Warn("nothing on this VM says that it is registered; whether Azure DevOps has an agent of it could not be asked")
	}
}

// claim records this VM's own agent of the configured target and name, if believed says so; found is false if there
// is none.
func claim(
	ctx context.Context, m member.Member, c *devops.Client, believed func(*devops.Agent) bool,
) (found bool, err error) {
	p, err := c.Find(ctx, access.Target(m.VM.Config))
	if err != nil {
		return false, err
	}
	a, err := c.Agent(ctx, p, m.VM.AgentName)
	if err != nil || a == nil || m.Whose(a) != member.ThisVM || !believed(a) {
		return false, err
	}
	return true, m.Journal.Update(func(s *journal.State) {
		s.Agent = journal.Agent{Name: a.Name, ID: a.ID, ResourceID: a.ResourceID}
		s.Target = m.VM.TargetAt(p)
	})
}

// registeredHere reports whether an agent is registered on this VM's disk, whatever the journal knows.
func registeredHere(m member.Member) bool {
	id, err := m.Agent.Registered()
	return (err != nil || id != 0) && m.Agent.LaidFor() == m.VM.Instance.VMID
}

// depart drains, removes and forgets. If ctx is cancelled it ends where it is: the state stays
// draining, and whoever comes next goes on.
func depart(parent context.Context, r phase.Runner, m member.Member, n Notice, lost bool) error {
	c := m.VM.Config.Drain
	until, end := n.times(time.Now(), c.Enabled, c.Timeout)
	d := &member.Drain{Until: until, Local: n.Local, Lost: lost}
	before := m.State()
	if err := m.Journal.Update(func(s *journal.State) { s.Leave(n.By, until) }); err != nil {
		return err
	}
	ctx, cancel := context.WithDeadlineCause(parent, end, retry.ErrDeadline)
	defer cancel()
	defer m.Access.Drop()
	fields := phase.Fields{"why": n.Why, "waitsUntil": until.UTC().Format(time.RFC3339)}
	if !n.Until.IsZero() {
		fields["by"] = n.Until.UTC().Format(time.RFC3339)
	}
	m.Log.WithFields(fields).Warn("this VM leaves Azure DevOps")
	err := r.Run(ctx, journal.Draining, func(ctx context.Context) (phase.Fields, error) { return remove(ctx, m, d) })
	if err == nil {
		r.Report.Removed(m.State())
		n.Answer(ctx, m)
		return nil
	}
	if parent.Err() != nil {
		return err
	}
	if !n.Goes && stays(parent, r, m, before, err) {
		return err
	}
	last, cancel := context.WithDeadline(parent, time.Now().Add(max(time.Until(end), 0)+atLeast))
	defer cancel()
	return leftBehind(last, r, m, d, err)
}

// Answer tells the platform that it need not wait for the event's time.
func (n Notice) Answer(ctx context.Context, m member.Member) {
	if n.Acknowledge == nil {
		return
	}
	if err := n.Acknowledge(ctx); err != nil {
		m.Log.WithError(err).Warn("the platform waits until the event's time")
		return
	}
	m.Log.WithField("event", n.Why).Info("acknowledged: the platform need not wait")
}

// stays undoes what was begun on a VM that does not have to go, if its agent still runs: it takes
// jobs again and stands where it stood.
func stays(ctx context.Context, r phase.Runner, m member.Member, before journal.State, err error) bool {
	if before.Phase != journal.Ready || !m.Runs() {
		return false
	}
	LetWork(ctx, m)
	r.Record(fault.From(err), func(s *journal.State, why *journal.Failure) {
		now, hook, once := s.Agent, s.HookFailed, s.Once
		*s = before
		s.HookFailed, s.Once = hook, once
		s.Agent.Drained, s.Agent.Jobs, s.LastError = now.Drained, now.Jobs, why
	})
	return true
}

// LetWork enables the agent that a drain has disabled, which came to nothing. That of a VM that is
// paused was disabled before.
func LetWork(ctx context.Context, m member.Member) {
	if s := m.State(); !s.Agent.Drained || s.Paused != nil || s.Shut() {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), atLeast)
	defer cancel()
	if at, e := m.Find(ctx, &member.Drain{}); e == nil && at.Agent != nil {
		if err := m.NoteEnabled(ctx, at.Client, at.Place, at.Agent); err != nil {
			m.Log.WithError(err).Error("the state could not be written")
		}
	}
	if m.State().Agent.Drained {
		m.Log.Warn("the agent stays disabled until Azure DevOps answers: then the daemon enables it when it starts")
	}
}

// leftBehind says loudly what stays in Azure DevOps, and at least keeps new jobs from a VM that
// goes: the agent ends when its job has. The state stays draining, so that the next boot tries
// again.
func leftBehind(ctx context.Context, r phase.Runner, m member.Member, d *member.Drain, err error) error {
	f := fault.From(err)
	r.Report.LeftBehind(m.State(), f)
	r.Record(f, phase.Beside)
	e := r.Retry(ctx, journal.Draining, func() error {
		if m.Waits(d) {
			return member.Busy(m.State().Agent.Name)
		}
		return m.Agent.Remove(ctx, m.State().Agent.Service)
	}, nil)
	if e != nil {
		m.Log.WithError(e).Error("the agent could not be stopped")
	}
	return f
}

// remove removes the agent of the journal from its target, its service and its registration on
// disk.
func remove(ctx context.Context, m member.Member, d *member.Drain) (phase.Fields, error) {
	known := m.State()
	fields := phase.Fields{"agent": known.Agent.Name, "id": known.Agent.ID, "target": known.Target.Name}
	if !d.Local {
		if err := m.SettleIntent(ctx, devops.Place{}); err != nil { // cut off in config.sh: what it made is to leave
			return nil, err
		}
		if err := Adopt(ctx, m); err != nil {
			return nil, err
		}
	}
	if err := m.Withdraw(ctx, d); err != nil {
		return nil, err
	}
	// The folder is the jobs' account's: what a job has mounted over it keeps root out, and no VM from going.
	if err := m.Agent.Wipe(); err != nil {
		if m.State().RemovedBy == journal.ByOperator {
			return nil, err
		}
		m.Log.WithError(err).Warn("the agent is removed from Azure DevOps, and its folder on this VM is left as it is")
	}
	return fields, m.Journal.Update((*journal.State).Left)
}

// Adopt finds the agent that is registered on this VM although the journal knows none, because its
// state was lost: in the configured target, by the configured name. If it is not this VM's there,
// nobody knows where it is, and nothing counts as left.
func Adopt(ctx context.Context, m member.Member) error {
	if m.State().Agent.ID != 0 || !registeredHere(m) {
		return nil
	}
	c, err := m.Access.DevOps(ctx)
	if err != nil {
		return err
	}
	found, err := claim(ctx, m, c, func(*devops.Agent) bool { return true }) // it is registered on this disk
	if err == nil && !found {
		return fault.New(fault.Target, "this VM's state was lost, and the target of its configuration shows no agent %s of "+
			"this VM", m.VM.AgentName).
			Hint("Look for it in Azure DevOps by hand; azp-bootstrap deregister --local forgets the registration " +
				"on this VM.")
	}
	return err
}
