package bootstrap

import (
	"context"
	"os"
	"time"

	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/health"
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
	if b.stillReady() {
		b.letWork(ctx)
	}
	b.drop()
	if ctx.Err() != nil { // told to end: no failure
		return err
	}
	return b.failed(err)
}

// runOn starts the agent of a VM that stood ready, where it is the daemon's own process and ended with the daemon before:
// it needs no PAT, and a service manager would have started it as well, whatever has become of the configuration.
func (b *Boot) runOn(ctx context.Context) {
	if ctx.Err() != nil || !b.asProcess() || b.agentRuns() || !b.untouched() || b.Runner.LaidFor() != b.VM.VMID {
		return
	}
	if id, err := b.Runner.Registered(); err != nil || id != b.journal.Agent.ID {
		return
	}
	if _, err := b.Runner.Start(b.service(), b.network.CAFile); err != nil {
		b.Log.WithError(err).Warn("the agent could not be started as it stands")
	}
}

// refused records that an attempt could not even begin: its configuration is refused, or another run has its turn.
func (b *Boot) refused(err error) error {
	f := fault.From(err)
	if !b.apart(func() { _ = b.failed(err) }) {
		b.report.Failed(b.journal.at(), f)
	}
	return f
}

// apart does what is to be done between attempts, with the state as it is by now: another run may have changed it. It reports
// whether it could: while another run works, the state is that run's to write.
func (b *Boot) apart(do func()) bool {
	lock, err := b.journal.lock()
	if err != nil {
		return false
	}
	defer lock.Close() //nolint:errcheck // only a lock
	if err := b.journal.reload(); err != nil {
		return false
	}
	b.stood = b.journal.State
	do()
	return true
}

func (b *Boot) attempt(ctx context.Context) error {
	limited, cancel := context.WithTimeoutCause(ctx, b.Config.Deadline, errDeadline)
	defer cancel()
	b.stood = b.journal.State
	settled := b.journal.stands()
	if !settled {
		b.journal.Attempt++
		go func() {
			select {
			case <-b.imds.Asked():
				b.Runner.Warm(limited)
			case <-limited.Done():
			}
		}()
	}
	if err := b.through(limited, phases[:1], settled); err != nil {
		return err
	}
	if p := b.journal.Phase; p != health.Draining && (p != health.Removed || b.Once) { // who leaves may leave
		if err := b.Runner.Guarded(); err != nil {
			return err
		}
	}
	switch stood := b.journal.Phase; { // another instance's standing is none: discover sees to that
	case stood == health.Ready && b.joined(limited):
		b.report.Ready(b.journal.State, true)
		return nil
	case stood == health.Draining: // cut off, or what was to be removed was left behind
		n := notice{why: "left behind", goes: true}
		if until := b.journal.DrainUntil; until != nil && time.Now().Before(*until) { // the daemon was restarted meanwhile
			n.wait, n.by = true, until.Add(margin)
		}
		if err := b.depart(limited, n); err != nil || !b.Once {
			return err
		}
		b.journal.again()
	case stood == health.Removed && !b.Once:
		b.report.Removed(b.journal.State)
		return nil
	case stood == health.Ready && b.agentRuns():
		if err := b.moveOut(ctx, limited); err != nil {
			return err
		}
		b.journal.again()
	case settled:
		b.journal.again()
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	joining, cancel := context.WithTimeoutCause(ctx, b.Config.Deadline, errDeadline)
	defer cancel()
	if settled {
		limited = joining // what it took to leave is no part of it
	}
	if err := b.through(limited, phases[1:], false); err != nil {
		return err
	}
	if err := b.journal.ready(); err != nil {
		return err
	}
	b.report.Ready(b.journal.State, false)
	return nil
}

// moveOut takes a VM whose agent runs out of its former target, if another is configured. Nothing is touched before it is
// known that the VM can join the new one, and until then the VM stands where it stood. How long its job is waited
// for, drain.timeout says: it is no part of the deadline.
func (b *Boot) moveOut(ctx, limited context.Context) error {
	if err := b.through(limited, phases[1:3], true); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, b.Config.Deadline+b.Config.Drain.Timeout, errDeadline)
	defer cancel()
	return b.through(ctx, []Phase{{health.Register, move}}, true)
}

// turn waits for this run's turn: one at a time works on a VM.
func (b *Boot) turn(ctx context.Context) (unlock func(), err error) {
	c := b.Config
	ctx, cancel := context.WithTimeoutCause(ctx, c.Deadline, errDeadline)
	defer cancel()
	var lock *os.File
	err = b.retry(ctx, health.Waiting, func() (err error) {
		lock, err = b.journal.lock()
		return err
	}, func(int) { b.drop() })
	if err != nil {
		return nil, err
	}
	if err := b.journal.reload(); err != nil { // another run may have worked meanwhile
		_ = lock.Close()
		return nil, err
	}
	return func() {
		_ = b.journal.settled()
		_ = lock.Close()
	}, nil
}

// failed records why an attempt failed. A VM that was ready, and whose agent runs as it did, stays ready with an error
// beside. A VM that leaves or has left is not made to join by a failure.
func (b *Boot) failed(err error) error {
	f := fault.From(err)
	b.report.Failed(b.journal.at(), f)
	record := b.journal.failed
	switch ready := b.stillReady(); {
	case ready:
		drained := b.journal.Agent.Drained
		b.journal.State = b.stood
		b.journal.Agent.Drained = drained
		record = b.journal.besides
		b.report.StaysReady(b.journal.State, f)
	case b.journal.Phase == health.Draining, b.journal.Phase == health.Removed:
		record = b.journal.besides
	}
	if e := record(f, b.Redactor.Redact); e != nil {
		b.Log.WithError(e).Error("the failure could not be recorded")
	}
	return f
}
