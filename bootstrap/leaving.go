package bootstrap

import (
	"context"
	"time"

	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/health"
	"azp-bootstrap/bootstrap/journal"
	"azp-bootstrap/bootstrap/leave"
	"azp-bootstrap/bootstrap/retry"
)

// leaves takes the VM out of Azure DevOps for a notice, which another may overtake. As long as
// nothing could be begun, it is tried again until the VM goes.
func (a *attempt) leaves(ctx context.Context, n leave.Notice) {
	for ctx.Err() == nil {
		over, _, err := a.hears.During(ctx, nil, nil, func(ctx context.Context) error { return a.leaveNow(ctx, n) })
		switch at := a.journal.State().Phase; {
		case over != nil:
			n = n.With(*over)
			continue
		case err == nil || at == journal.Draining || at == journal.Removed || ctx.Err() != nil:
			return
		case n.Until.IsZero() || time.Now().After(n.Until):
			if n.Goes {
				a.report.LeftBehind(a.journal.State(), fault.From(err))
			}
			return
		}
		a.Log.WithError(err).
			WithField("event", n.Why).
			Error("this VM could not leave Azure DevOps yet: it is tried again")
		if over := pauseOr(ctx, leave.PollEvents, nil, a.hears.Heard); over != nil {
			n = n.With(*over)
		}
	}
}

// leaveNow takes this VM out of Azure DevOps, whatever it was about to do.
func (a *attempt) leaveNow(ctx context.Context, n leave.Notice) error {
	release, err := a.turn(ctx)
	if err != nil {
		return err
	}
	defer release()
	defer func() { a.member.Access.Drop() }()
	if a.journal.State().Phase == journal.Removed {
		n.Answer(ctx, a.member)
		return nil
	}
	_, err = a.leave(ctx, n)
	return err
}

// leave takes this VM out of Azure DevOps; the caller has the VM's turn. done is false if nothing
// was registered and the VM stays.
func (a *attempt) leave(ctx context.Context, n leave.Notice) (done bool, err error) {
	if !a.member.VM.Known() { // a clone must not deregister the VM that it was copied from: discover tells
		within, cancel := context.WithTimeoutCause(ctx, n.Within(a.sources.Config.Deadline), retry.ErrDeadline)
		defer cancel()
		err := a.runner().Verify(within, journal.Discover, a.discover)
		if err != nil && !a.member.VM.Known() { // else the journal says what is to leave
			return false, err
		}
	}
	wait := a.leavingNow(&n)
	defer wait(ctx)
	return leave.Leave(ctx, a.runner(), a.member, n, a.lost)
}

// stop ends what must not outlive the daemon; a is nil if the configuration is refused. A stop is
// not a failure.
func (p *program) stop(ctx context.Context, a *attempt, alone bool) error {
	if p.Once {
		return context.Cause(ctx)
	}
	if a == nil {
		return nil
	}
	s := p.journal.State()
	goes := s.Phase == journal.Draining || s.Phase == journal.Ready && a.member.VM.Config.Drain.OnShutdown
	if goes && shuttingDown(ctx) {
		n := leave.Notice{Why: "shutdown", By: journal.ByShutdown, Goes: true, Wait: true}
		if s.Phase == journal.Draining {
			n = leave.CutOff(s)
		}
		if err := a.leaveNow(context.WithoutCancel(ctx), n); err != nil {
			p.Log.WithError(err).Error("this VM could not leave Azure DevOps before it goes")
		}
	}
	if a.member.VM.AsProcess() && alone { // else it is another daemon's
		return a.member.Agent.Stop(context.WithoutCancel(ctx))
	}
	return nil
}

// command is what a command of an operator's works on the VM with.
func command(ctx context.Context, o Options) (*attempt, error) {
	report := newReporter(o, health.NewLive())
	p, err := open(ctx, o, report, nil, nil)
	var a *attempt
	if err == nil {
		a, err = p.prepare()
	}
	if err != nil {
		report.Console.Close()
		return nil, err
	}
	return a, nil
}

// A Leaving says how an operator wants this VM to leave.
type Leaving struct {
	Now   bool // a running job is not waited for
	Local bool // the server is not asked: what stands there stays
}

// Deregister is the command: drain, remove from Azure DevOps, remove the agent's service. done is
// false if nothing was registered.
func Deregister(ctx context.Context, o Options, how Leaving) (done bool, err error) {
	a, err := command(ctx, o)
	if err != nil {
		return false, err
	}
	defer a.report.Console.Close()
	asked, err := a.journal.Ask()
	if err != nil {
		return false, err
	}
	defer asked()
	release, err := a.turn(ctx)
	if err != nil {
		return false, err
	}
	defer release()
	a.endLeft(ctx)
	n := leave.Notice{Why: "deregister", By: journal.ByOperator, Wait: !how.Now, Local: how.Local}
	defer a.hears.Stop()
	a.listen(ctx, a.sources) // Azure may take the VM away meanwhile
	for {
		over, _, err := a.hears.During(ctx, nil, nil, func(ctx context.Context) (err error) {
			done, err = a.leave(ctx, n)
			return err
		})
		if over == nil {
			return done, err
		}
		n = n.With(*over)
	}
}
