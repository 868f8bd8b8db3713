package bootstrap

import (
	"context"
	"time"

	"azp-bootstrap/bootstrap/azure"
	"azp-bootstrap/bootstrap/config"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/journal"
	"azp-bootstrap/bootstrap/leave"
	"azp-bootstrap/bootstrap/member"
	"azp-bootstrap/bootstrap/retry"
)

// spent reports whether this VM's agent has begun the only job that it may.
func (a *attempt) spent() bool { return a.member.Once() && a.journal.State().Spent() }

// leavesSpent takes a VM out whose agent has begun the only job that it may: it never starts again. While it
// runs, or its job does, the VM is watched over. ended is false only if an operator lets it join anew.
func (a *attempt) leavesSpent(ctx context.Context, lost bool) (ended bool, err error) {
	s := a.journal.State()
	switch {
	case s.Phase == journal.Removed && s.RemovedBy != journal.ByOperator && s.RemovedBy != journal.ByRetired:
		if !a.returns(ctx) { // Azure takes it, or has
			break
		}
		if err := a.journal.Update(func(s *journal.State) { s.RemovedBy = journal.ByRetired }); err != nil {
			return false, err
		}
	case s.Phase == journal.Removed && a.Once && (s.RemovedBy == journal.ByOperator || !a.goes()):
		return false, nil // rejoin
	case s.Phase == journal.Removed:
	case a.member.Runs(), a.member.Works(), s.Paused != nil && s.Phase == journal.Ready:
		if s.Phase != journal.Ready && s.Phase != journal.Draining { // its job came before it was seen online, or the state was lost
			if err := leave.Adopt(ctx, a.member); err != nil {
				return false, err
			}
			if a.journal.State().Agent.ID == 0 { // its folder was lost, too: it leaves when its job has ended
				return false, member.Busy(a.member.VM.AgentName)
			}
			if err := a.journal.Update((*journal.State).Joined); err != nil {
				return false, err
			}
		}
		if s.Phase != journal.Draining {
			a.report.Ready(a.journal.State(), true)
			return true, nil
		}
		fallthrough
	default:
		n := leave.Notice{Why: "retire: it had its job", By: journal.ByRetired, Goes: true, Wait: true}
		switch {
		case s.Phase == journal.Draining:
			n = leave.CutOff(s)
		case s.Agent.ID == 0: // state and disk were lost
			leave.LookFor(ctx, a.member)
		}
		if _, err := leave.Leave(ctx, a.runner(), a.member, n, lost); err != nil {
			return true, err
		}
	}
	if a.Once {
		return true, a.hasRetired()
	}
	a.report.Removed(a.journal.State())
	return true, nil
}

// goes reports whether the VM itself goes when it has retired.
func (a *attempt) goes() bool {
	return a.member.VM.Config.Retire.Outcome() != config.ThenNone
}

// hasRetired is the fault of a VM that has left by itself, and does not join again.
func (a *attempt) hasRetired() error {
	return fault.New(fault.State, "this VM has left Azure DevOps by itself (retire), and goes: %s", a.member.VM.Config.Retire.Then).
		Hint("To keep it, set retire.then: none; then azp-bootstrap rejoin joins it anew.")
}

const (
	takenAgain = 30 * time.Minute // after Azure has taken a VM that is still there it is asked again
	stillHere  = 5 * time.Minute  // after Azure is done with a VM that is still there, that is said
)

// takeAway lets this VM go when it has retired: its agent is gone by then. What fails is told and tried
// again slowly; the VM takes no job any more.
func (a *attempt) takeAway(ctx context.Context) {
	then := a.member.VM.Config.Retire.Then
	if s := a.journal.State(); !a.goes() || then == config.ThenPowerOff && s.Retire != nil && !s.Retire.Taken.IsZero() {
		return // it was powered off, and somebody has started it again
	}
	if plan := a.journal.State().Retire; plan != nil && !plan.Taken.IsZero() { // by a daemon before
		if !retry.Pause(ctx, min(time.Until(plan.Taken.Add(takenAgain)), takenAgain)) { // whatever the clock was then
			return
		}
	}
	a.hooksRest(ctx) // each has a time of its own
	for slow := retry.Slowly(); ; {
		pause := takenAgain
		err := a.take(ctx, then)
		if err == nil && then != config.ThenPowerOff && retry.Pause(ctx, stillHere) { // whatever answered
			err = fault.New(fault.Identity, "Azure was asked for %s of this VM and did not refuse it, and the VM is still here", then).
				Hint("Look at the VM's activity log in the portal, and at what answers for Azure Resource Manager on this network. " +
					"It is asked again by itself.")
		}
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			pause = slow.NextBackOff()
			f := fault.From(err)
			a.report.Failed(journal.Removed, f)
			why := journal.Why(f, a.Redactor.Redact)
			why.NextTry = journal.Now().Add(pause)
			if e := a.journal.Update(func(s *journal.State) {
				s.LastError = why
				if s.Retire != nil {
					plan := *s.Retire
					plan.Taken = time.Time{}
					s.Retire = &plan
				}
			}); e != nil {
				a.Log.WithError(e).Error("the state could not be written")
			}
		}
		if !retry.Pause(ctx, pause) {
			return
		}
	}
}

// noteTaken notes that this VM is being taken.
func (a *attempt) noteTaken(at time.Time) error {
	return a.journal.Update(func(s *journal.State) {
		if s.Retire != nil {
			plan := *s.Retire
			plan.Taken = at
			s.Retire, s.LastError = &plan, nil
		}
	})
}

func (a *attempt) take(ctx context.Context, then string) error {
	a.report.Goes(then)
	if then == config.ThenPowerOff {
		if err := a.noteTaken(journal.Now()); err != nil { // before: a VM that is started again stays
			return err
		}
		off := a.PowerOff
		if off == nil {
			off = powerOff
		}
		if err := off(ctx); err != nil {
			return fault.New(fault.Identity, "this VM could not be powered off").Because(err).
				Hint("Power it off by hand: systemctl poweroff. It is tried again by itself.")
		}
		return nil
	}
	client, err := a.member.Network.Client()
	if err != nil {
		return err
	}
	p, err := azure.NewPlatform(a.member.VM.Instance, a.sources.IMDS, a.member.Access.Identity(), client)
	if err != nil {
		return err
	}
	op, err := p.Take(ctx, azure.Fate(then))
	if err != nil {
		return err
	}
	if err := a.noteTaken(journal.Now()); err != nil {
		a.Log.WithError(err).Debug("that Azure takes this VM could not be recorded")
	}
	limited, cancel := context.WithTimeout(ctx, takenAgain)
	defer cancel()
	return op.Wait(limited)
}
