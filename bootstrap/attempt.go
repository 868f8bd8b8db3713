package bootstrap

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/join"
	"azp-bootstrap/bootstrap/journal"
	"azp-bootstrap/bootstrap/leave"
	"azp-bootstrap/bootstrap/member"
	"azp-bootstrap/bootstrap/phase"
	"azp-bootstrap/bootstrap/retry"
	"azp-bootstrap/bootstrap/vm"
)

// An attempt is one way through the phases by one configuration. It knows nothing of the attempt
// before but the journal.
type attempt struct {
	*program
	means   member.Means // with this attempt's begin
	sources *vm.Sources
	member  member.Member // by the sources alone, until IMDS has answered
	lost    bool          // another VM has this VM's agent

	updates  string      // the agent's last word of its update
	inPool   bool        // a standby pool: the agent does not start
	restarts atomic.Bool // the agent is being restarted: it is not down
}

// prepare reads the configuration and makes what follows from it. If only that cannot be made,
// there is an attempt beside the error.
func (p *program) prepare() (*attempt, error) {
	s, err := p.Sources()
	if err != nil {
		return nil, err
	}
	means := p.Means
	means.Begun = time.Now()
	m, err := means.Member(s.Unknown(), p.journal, s.IMDS)
	return &attempt{program: p, means: means, sources: s, member: m}, err
}

// known is the member; nil where the configuration cannot even be read.
func (a *attempt) known() *member.Member {
	if a == nil {
		return nil
	}
	return &a.member
}

// runner runs this attempt's phases.
func (a *attempt) runner() phase.Runner {
	return a.phases(func() { a.member.Access.Drop() }) // of the member as it is by then: discover makes another
}

// bringUp is one attempt, from start to ready, when it is this run's turn. What it fails by is on
// record when the turn ends.
func (a *attempt) bringUp(ctx context.Context) error {
	release, err := a.turn(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return err
		}
		return a.refused(err)
	}
	defer release()
	defer func() { a.member.Access.Drop() }() // of the member as it is by then
	stood := a.journal.State()
	t := &join.Try{}
	err = a.up(ctx, stood, t)
	if err == nil || errors.Is(err, errAsked) || errors.Is(err, errHeld) { // who asks says what becomes of the VM
		return err
	}
	a.lost = t.Drain.Lost
	a.runOn(ctx, stood)
	if context.Cause(ctx) != leave.ErrNotice && a.stillReady(stood, a.lost) { // else it leaves in a moment
		leave.LetWork(ctx, a.member)
	}
	if ctx.Err() != nil { // told to end: no failure
		return err
	}
	return a.failed(err, stood, a.lost)
}

// turn waits for this run's turn: one at a time works on a VM.
func (a *attempt) turn(ctx context.Context) (release func(), err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, a.sources.Config.Deadline, retry.ErrDeadline)
	defer cancel()
	err = a.runner().Retry(ctx, journal.Waiting, func() (err error) {
		release, err = a.journal.Take()
		return err
	}, func(int) { a.member.Access.Drop() })
	return release, err
}

// discover finds out which VM this is. A clone's disk is wiped of its original's registration.
func (a *attempt) discover(ctx context.Context) (phase.Fields, error) {
	m, fields, err := join.Discover(ctx, a.means, a.journal, a.sources)
	if m.Access != nil { // beside an error, too: what IMDS has said counts
		a.member = m
	}
	return fields, err
}

// up takes the VM from where it stood to ready, or on its way out.
func (a *attempt) up(ctx context.Context, stood journal.State, t *join.Try) error {
	deadline := a.sources.Config.Deadline
	limited, cancel := context.WithTimeoutCause(ctx, deadline, retry.ErrDeadline)
	defer cancel()
	a.hooksOf(a.member)
	a.report.Live.AskForJobs(a.member.Agent.Working)
	stoodBefore := stood.Stands()
	if err := a.journal.Update(func(s *journal.State) {
		s.Package = prepared(a.sources.Config.Agent.Dir, a.sources.Config.Agent.User)
		if !a.gate.underWay() { // of a daemon that was killed
			s.Gate = nil
		}
		s.Metadata = nil                      // of an earlier boot, maybe
		if !stoodBefore && s.Standby == nil { // what a pool held up goes on
			s.Attempt++
		}
	}); err != nil {
		return err
	}
	run := a.runner().Verify
	if !stoodBefore {
		go a.member.Agent.Warm(limited)
		run = a.runner().Run
	}
	if err := run(limited, journal.Discover, a.discover); err != nil {
		return err
	}
	a.hooksOf(a.member)
	a.report.Live.AskForRoom(roomOf(a.member))
	a.keepFromMetadata(limited, false)
	if err := a.lookAtPool(limited); err != nil {
		return err
	}
	if err := a.planRetirement(); err != nil {
		return err
	}
	if err := a.gateBegins(ctx); err != nil { // before the disk is waited for: a script may mount it
		return err
	}
	if a.registeredInPool() {
		return errHeld
	}
	if err := a.furnish(limited); err != nil {
		return err
	}
	a.report.Live.AskForJobs(a.member.Agent.Working) // IMDS may have named another folder or account
	if a.journal.State().Phase == journal.Ready {    // its agent would start by itself
		if err := a.throughPool(limited); err != nil {
			return err
		}
	}
	if !a.held(&a.member) {
		a.wake(ctx, &a.member, func(s agent.Sleeper) bool { return s.Instance == a.member.VM.Instance.VMID })
	}
	if ended, err := a.stands(ctx, limited, t); ended || err != nil {
		return err
	}
	if err := a.openGate(ctx); err != nil {
		return err
	}
	if stoodBefore {
		if err := a.journal.Update((*journal.State).Rejoin); err != nil {
			return err
		}
		if err := a.planRetirement(); err != nil { // of a VM that had left
			return err
		}
	}
	works := a.member.Runs() || a.member.Works() // also one of which a lost state told
	if stoodBefore ||
		works { // what it took to leave is no part of it, nor is a job that is waited for
		limit := a.member.VM.Config.Deadline
		if drain := a.member.VM.Config.Drain; drain.Enabled && works {
			limit += drain.Timeout
		}
		limited, cancel = context.WithTimeoutCause(ctx, limit, retry.ErrDeadline)
		defer cancel()
	}
	if err := join.Up(limited, a.runner(), a.member, t, a.throughPool); err != nil {
		if errors.Is(err, member.ErrSpent) {
			_, err = a.leavesSpent(ctx, t.Drain.Lost)
		}
		return err
	}
	if err := a.journal.Update((*journal.State).Joined); err != nil {
		return err
	}
	a.hooks.left = false
	a.report.Ready(a.journal.State(), false)
	return nil
}

// stands looks where the VM stands by its journal. ended is true if there is nothing to do; else
// the VM joins, if there is no error. limited is ctx with the deadline of joining.
func (a *attempt) stands(ctx, limited context.Context, t *join.Try) (ended bool, err error) {
	if a.spent() {
		if ended, err := a.leavesSpent(ctx, t.Drain.Lost); ended || err != nil {
			return ended, err
		}
	}
	at := a.journal.State().Phase // another instance's standing is none: discover sees to that
	retired := a.journal.State().RemovedBy == journal.ByRetired
	leaves := at == journal.Draining || at == journal.Removed && !a.Once
	if !leaves { // who leaves may leave
		if err := a.member.Agent.Guarded(); err != nil {
			return false, err
		}
	}
	switch {
	case at == journal.Ready && join.Verify(limited, a.runner(), a.member, t):
		a.report.Ready(a.journal.State(), true)
		return true, nil
	case at == journal.Draining && !a.returns(limited): // cut off, or what was to be removed was left behind
		_, err := leave.Leave(ctx, a.runner(), a.member, leave.CutOff(a.journal.State()), t.Drain.Lost)
		if err == nil && a.Once && retired {
			err = a.hasRetired()
		}
		if err != nil || !a.Once {
			return true, err
		}
	case at == journal.Removed && a.Once && retired && a.goes():
		return true, a.hasRetired()
	case at == journal.Removed && !a.Once && !a.returns(limited):
		a.report.Removed(a.journal.State())
		return true, nil
	case at == journal.Ready && a.member.Runs():
		if err := join.Move(ctx, limited, a.runner(), a.member, t); err != nil {
			return false, err
		}
	}
	return false, ctx.Err()
}

// returns reports whether a VM that Azure took away is to join again: it is there, and its end is
// announced no more.
func (a *attempt) returns(ctx context.Context) bool {
	s := a.journal.State()
	announced := func() bool { return leave.Announced(ctx, a.sources.IMDS, a.member.VM.Instance.Name) }
	back := s.RemovedBy == journal.ByShutdown || s.ByAzure() && !announced()
	if back {
		a.Log.WithField("removedBy", s.RemovedBy).
			Info("this VM, which Azure had taken away, is there again: it joins again")
	}
	return back
}

// changed reports whether the configuration is another by now; one that is refused is said, and
// changes nothing.
func (a *attempt) changed() bool {
	if a.rested() {
		return true
	}
	next, err := a.prepare()
	if err != nil {
		a.sayRefused(err)
		return false
	}
	if next.sources.Same(a.sources) {
		return false
	}
	a.Log.Info("the configuration has changed: what is under way begins anew with it")
	return true
}

// accepts reads the configuration anew; one that is refused changes nothing.
func (a *attempt) accepts() bool {
	if a.rested() {
		return true
	}
	_, err := a.prepare()
	if err == nil {
		a.Log.Info("the configuration is read again")
		return true
	}
	f := a.sayRefused(err)
	a.apart(func(journal.State) { a.runner().Record(f, phase.Beside) })
	return false
}

func (p *program) sayRefused(err error) *fault.Error {
	f := fault.From(err)
	p.Log.WithField("hint", f.Advice).Error("the new configuration is refused, the old one goes on: " + f.Error())
	return f
}
