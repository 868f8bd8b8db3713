package bootstrap

import (
	"context"
	"errors"
	"time"

	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/azure"
	"azp-bootstrap/bootstrap/config"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/journal"
	"azp-bootstrap/bootstrap/retry"
)

// bringUp is one attempt, from start to ready, when it is this run's turn. What it fails by is on record when the turn ends.
func (b *Boot) bringUp(ctx context.Context) error {
	unlock, err := b.turn(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return err
		}
		return b.refused(err)
	}
	defer unlock()
	err = b.attempt(ctx)
	if err == nil {
		return nil
	}
	b.runOn(ctx)
	if context.Cause(ctx) != errNotice && b.stillReady() { // else it leaves in a moment
		b.letWork(ctx)
	}
	b.drop()
	if ctx.Err() != nil { // told to end: no failure
		return err
	}
	return b.failed(err)
}

// wake lets agents start whose VM this is, once in each boot: their services wait for the word that it is. It needs no PAT, and
// counts whatever has become of configuration and state. A work folder on a disk that came back empty is made anew before.
func (b *Boot) wake(ctx context.Context, here func(agent.Sleeper) bool) {
	if b.Options.Agent != nil { // a simulated one, which no service keeps
		return
	}
	for _, s := range agent.Sleepers() {
		if !here(s) {
			continue
		}
		var err error
		if b.Runner != nil {
			err = b.Runner.WorkFolder(b.Config.Agent.Work)
		}
		if err = errors.Join(err, s.Wake(ctx)); err != nil {
			b.Log.WithError(err).WithField("service", s.Unit).Warn("the agent could not be started as it stands")
		}
	}
}

// wakeAnyway is wake for a configuration that is refused: IMDS is asked where it is by default.
func (b *Boot) wakeAnyway(ctx context.Context) {
	if b.Options.Agent != nil || len(agent.Sleepers()) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if vm, err := azure.NewIMDS(config.DefaultIMDS(), b.Dial).Instance(ctx); err == nil {
		b.wake(ctx, func(s agent.Sleeper) bool { return s.Instance == vm.VMID })
	}
}

// runOn starts the agent of a VM that stood ready, where it is the daemon's own process and ended with the daemon before:
// it needs no PAT, and a service manager would have started it as well, whatever has become of the configuration.
func (b *Boot) runOn(ctx context.Context) {
	if ctx.Err() != nil || b.VM.VMID == "" || !b.asProcess() || b.agentRuns() || !b.untouched() || b.Runner.LaidFor() != b.VM.VMID {
		return
	}
	if id, err := b.Runner.Registered(); err != nil || id != b.state().Agent.ID {
		return
	}
	if _, err := b.Runner.Start(ctx, b.service(), b.network.CAFile); err != nil {
		b.Log.WithError(err).Warn("the agent could not be started as it stands")
	}
}

// refused records that an attempt could not even begin: its configuration is refused, or another run has its turn.
func (b *Boot) refused(err error) error {
	f := fault.From(err)
	if !b.apart(func() { _ = b.failed(err) }) {
		b.report.Failed(b.state().At(), f)
	}
	return f
}

// apart does what is to be done between attempts, with the state as it is by now: another run may have changed it. It reports
// whether it could: while another run works, the state is that run's to write.
func (b *Boot) apart(do func()) bool {
	release, err := b.journal.Take()
	if err != nil {
		return false
	}
	defer release()
	b.stood = b.state()
	do()
	return true
}

func (b *Boot) attempt(ctx context.Context) error {
	limited, cancel := context.WithTimeoutCause(ctx, b.Config.Deadline, retry.ErrDeadline)
	defer cancel()
	b.stood = b.state()
	b.report.Live.Working(b.Runner.Working)
	settled := b.stood.Stands()
	if err := b.journal.Update(func(s *journal.State) {
		s.Package = prepared(b.home)
		if !settled {
			s.Attempt++
		}
	}); err != nil {
		return err
	}
	if !settled {
		go b.Runner.Warm(limited)
	}
	if err := b.through(limited, phases[:1], settled); err != nil {
		return err
	}
	b.report.Live.Working(b.Runner.Working) // IMDS may have named another folder or account
	b.wake(ctx, func(s agent.Sleeper) bool { return s.Instance == b.VM.VMID })
	if p := b.state().Phase; p != journal.Draining && (p != journal.Removed || b.Once) { // who leaves may leave
		if err := b.Runner.Guarded(); err != nil {
			return err
		}
	}
	switch stood := b.state().Phase; { // another instance's standing is none: discover sees to that
	case stood == journal.Ready && b.joined(limited):
		b.report.Ready(b.state(), true)
		return nil
	case stood == journal.Draining && !b.returns(limited): // cut off, or what was to be removed was left behind
		if err := b.depart(ctx, b.leftOver()); err != nil || !b.Once {
			return err
		}
	case stood == journal.Removed && !b.Once && !b.returns(limited):
		b.report.Removed(b.state())
		return nil
	case stood == journal.Ready && b.agentRuns():
		if err := b.moveOut(ctx, limited); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if settled {
		if err := b.journal.Update((*journal.State).Again); err != nil {
			return err
		}
	}
	works := b.agentRuns() || b.Runner.Working(b.state().Agent.Service) // also one of which a lost state told
	if settled || works {                                               // what it took to leave is no part of it, nor is a job that is waited for
		limit := b.Config.Deadline
		if b.Config.Drain.Enabled && works {
			limit += b.Config.Drain.Timeout
		}
		limited, cancel = context.WithTimeoutCause(ctx, limit, retry.ErrDeadline)
		defer cancel()
	}
	if err := b.through(limited, phases[1:], false); err != nil {
		return err
	}
	if err := b.journal.Update((*journal.State).Joined); err != nil {
		return err
	}
	b.report.Ready(b.state(), false)
	return nil
}

// returns reports whether a VM that Azure took away is to join again: it is there, and its end is announced no more.
func (b *Boot) returns(ctx context.Context) bool {
	s := b.state()
	back := s.RemovedBy == journal.ByShutdown || s.ByAzure() && !announced(ctx, b.imds, b.VM.Name)
	if back {
		b.Log.WithField("removedBy", s.RemovedBy).Info("this VM, which Azure had taken away, is there again: it joins again")
	}
	return back
}

// leftOver is the notice of a departure that was cut off.
func (b *Boot) leftOver() notice {
	s := b.state()
	n := notice{why: "left behind", by: s.RemovedBy, goes: true}
	if s.DrainUntil != nil && time.Now().Before(*s.DrainUntil) { // the daemon was restarted meanwhile
		n.wait, n.until = true, s.DrainUntil.Add(margin)
	}
	return n
}

// moveOut takes a VM whose agent runs out of its former target, if another is configured. Nothing is touched before it is
// known that the VM can join the new one, and until then the VM stands where it stood. How long its job is waited
// for, drain.timeout says: it is no part of the deadline.
func (b *Boot) moveOut(ctx, limited context.Context) error {
	if err := b.through(limited, phases[1:3], true); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, b.Config.Deadline+b.Config.Drain.Timeout, retry.ErrDeadline)
	defer cancel()
	return b.through(ctx, []Phase{{journal.Register, move}}, true)
}

// turn waits for this run's turn: one at a time works on a VM.
func (b *Boot) turn(ctx context.Context) (unlock func(), err error) {
	c := b.Config
	ctx, cancel := context.WithTimeoutCause(ctx, c.Deadline, retry.ErrDeadline)
	defer cancel()
	err = b.retry(ctx, journal.Waiting, func() (err error) {
		unlock, err = b.journal.Take()
		return err
	}, func(int) { b.drop() })
	return unlock, err
}

// failed records why an attempt failed. A VM that was ready, and whose agent runs as it did, stays ready with an error
// beside. A VM that leaves or has left is not made to join by a failure.
func (b *Boot) failed(err error) error {
	f := fault.From(err)
	b.report.Failed(b.state().At(), f)
	ready := b.stillReady()
	b.record(f, func(s *journal.State, why *journal.Failure) {
		switch {
		case ready:
			drained := s.Agent.Drained
			*s = b.stood
			s.Agent.Drained, s.LastError = drained, why
		case s.Phase == journal.Draining, s.Phase == journal.Removed:
			s.LastError = why
		default:
			s.Fail(why)
		}
	})
	if ready {
		b.report.StaysReady(b.state(), f)
	}
	return f
}

// record keeps a fault in the journal.
func (b *Boot) record(f *fault.Error, how func(*journal.State, *journal.Failure)) {
	why := journal.Why(f, b.Redactor.Redact)
	if err := b.journal.Update(func(s *journal.State) { how(s, why) }); err != nil {
		b.Log.WithError(err).Error("the failure could not be recorded")
	}
}

// besides is an error that does not change where the VM stands.
func besides(s *journal.State, why *journal.Failure) {
	s.LastError = why
}
