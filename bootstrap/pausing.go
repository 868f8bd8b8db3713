package bootstrap

import (
	"context"
	"fmt"
	"strings"
	"time"

	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/health"
	"azp-bootstrap/bootstrap/journal"
	"azp-bootstrap/bootstrap/leave"
	"azp-bootstrap/bootstrap/line"
	"azp-bootstrap/bootstrap/member"
	"azp-bootstrap/bootstrap/retry"
)

const (
	askedFor      = 2 * time.Minute // Azure is asked before a pause or its end fails: a person waits
	longestReason = 200             // bytes
)

// A Pausing says how an operator wants this VM to pause.
type Pausing struct {
	By      string // the account that asks for it
	Reason  string
	Wait    bool // until no job runs
	Timeout time.Duration
}

// Pause is the command: the agent takes no new job, until Resume, whatever the daemon does meanwhile.
// The running job goes on. done is what a person is told.
func Pause(ctx context.Context, o Options, how Pausing) (done string, err error) {
	how.Reason = strings.TrimSpace(how.Reason)
	if wrong := line.Wrong(how.Reason, longestReason); wrong != "" {
		return "", fault.New(fault.Usage, "--reason %s", wrong).Hint("Write one short line.")
	}
	a, err := command(ctx, o)
	if err != nil {
		return "", err
	}
	defer a.report.Console.Close()
	defer func() { a.member.Access.Drop() }()
	var before *journal.Pause
	p := &journal.Pause{Since: journal.Now(), By: how.By, Reason: how.Reason}
	d := &member.Drain{Until: time.Now().Add(askedFor + how.Timeout)}
	if err := a.asks(ctx, func(ctx context.Context) error {
		before = a.journal.State().Paused
		return a.pause(ctx, p, d)
	}); err != nil {
		return "", err
	}
	if how.Wait {
		if err := a.rests(ctx, how.Timeout, d); err != nil {
			return "", err
		}
	}
	agent, runs := line.Shown(a.journal.State().Agent.Name), ""
	switch {
	case how.Wait:
		runs = "; no job runs"
	case a.member.Works(): // else the server may have given it one just before
		runs = "; the running one goes on"
	}
	if before != nil {
		return fmt.Sprintf("Paused already, %s: the agent %s takes no new job%s.",
			health.Pause(*before), agent, runs), nil
	}
	return fmt.Sprintf("Paused: the agent %s takes no new job until azp-bootstrap resume%s.", agent, runs), nil
}

// Resume is the command that ends a pause. done is what a person is told.
func Resume(ctx context.Context, o Options) (done string, err error) {
	a, err := command(ctx, o)
	if err != nil {
		return "", err
	}
	defer a.report.Console.Close()
	defer func() { a.member.Access.Drop() }()
	err = a.asks(ctx, func(ctx context.Context) (err error) {
		done, err = a.resume(ctx)
		return err
	})
	return done, err
}

// asks does what asks Azure, for as long as a person waits. The VM's turn is taken for each try alone: a
// notice of the VM's end must not have to wait.
func (a *attempt) asks(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, min(askedFor, a.sources.Config.Deadline), retry.ErrDeadline)
	defer cancel()
	return a.runner().Retry(ctx, journal.Waiting, func() error {
		release, err := a.journal.Take()
		if err != nil {
			_ = a.journal.Refresh()                    // else it is what it was
			if s := a.journal.State(); s.Gate != nil { // that may take long: the person knows then what to wait for
				return fault.New(fault.State, "this VM's agent does not start yet: it waits for %s since %s",
					s.Gate.WaitsFor, s.Gate.Since.UTC().Format(time.RFC3339)).
					Passing().
					Hint("Wait until it has started: azp-bootstrap status --wait.")
			}
			return err
		}
		defer release()
		return do(ctx)
	}, nil)
}

// pause disables this VM's agent, and remembers why; if that fails nothing has changed.
func (a *attempt) pause(ctx context.Context, why *journal.Pause, d *member.Drain) error {
	before := a.journal.State()
	if err := joined(before); err != nil {
		return err
	}
	at, err := a.own(ctx, d)
	if err != nil {
		return err
	}
	if at.Agent == nil {
		return fault.New(fault.Target, "Azure DevOps has no agent %s of this VM any more: there is nothing to pause",
			before.Agent.Name).
			Hint("Look at azp-bootstrap status: the daemon registers it anew, or says why not. Then pause again.")
	}
	if before.Paused == nil { // on disk before: if this is cut off here, the daemon disables the agent
		why.Reason = a.Redactor.Redact(why.Reason) // by now the PAT is known that a reason might hold
		if err := a.journal.Update(func(s *journal.State) { s.Paused = why }); err != nil {
			return err
		}
	}
	err = a.member.NoteEnabled(ctx, at.Client, at.Place, at.Agent)
	if err == nil || before.Paused != nil {
		return err
	}
	if e := a.journal.Update(func(s *journal.State) { s.Paused = nil }); e != nil {
		return e
	}
	leave.LetWork(ctx, a.member) // nobody knows whether the server has disabled it
	return err
}

// resume enables the agent that the pause has disabled, and forgets the pause; if the server cannot be
// asked nothing has changed. Where the VM does not stand ready, the agent is enabled when it joins.
func (a *attempt) resume(ctx context.Context) (done string, err error) {
	s := a.journal.State()
	name := line.Shown(s.Agent.Name)
	switch {
	case s.Paused == nil && s.Phase == journal.Ready:
		return "This VM is not paused.", nil
	case s.Paused == nil:
		return "", joined(s)
	case s.Phase != journal.Ready:
		return "Resumed: this VM is not ready; its agent takes jobs when it is.",
			a.journal.Update(func(s *journal.State) { s.Paused = nil })
	}
	at, err := a.own(ctx, &member.Drain{})
	if err != nil {
		return "", err
	}
	if at.Agent == nil {
		return "Resumed: Azure DevOps has no agent " + name + " of this VM any more; the daemon sees to that.",
			a.journal.Update(func(s *journal.State) { s.Paused = nil })
	}
	works, err := a.member.Resume(ctx, at.Client, at.Place, at.Agent)
	if !works && (s.Retires() || s.Spent()) {
		return "Resumed: the agent " + name + " takes no more jobs; this VM goes on leaving.", err
	}
	if !works && s.Shut() {
		return "Resumed: the agent " + name + " takes jobs when there is room on its work disk.", err
	}
	if !works {
		return "Resumed: the agent " + name + " stays disabled, as somebody disabled it in Azure DevOps.", err
	}
	return "Resumed: the agent " + name + " takes jobs again.", err
}

// joined is the fault of a VM that has no agent whose jobs an operator could hold up.
func joined(s journal.State) error {
	switch s.Phase {
	case journal.Ready:
		return nil
	case journal.Draining, journal.Removed:
		return fault.New(fault.State, "this VM leaves Azure DevOps, or has left it (%s): it takes no job", s.Phase).
			Hint("azp-bootstrap rejoin joins it again when it has left.")
	}
	return fault.New(fault.State, "this VM has not joined Azure DevOps (%s)", s.Phase).
		Hint("Wait until it has: azp-bootstrap status --wait.")
}

// own finds the agent of the journal, on the VM that the journal is of.
func (a *attempt) own(ctx context.Context, d *member.Drain) (member.Listed, error) {
	if !a.member.VM.Known() {
		v, err := a.sources.Identify(ctx)
		if !v.Known() {
			return member.Listed{}, err
		}
		m, err := a.means.Member(v, a.journal, a.sources.IMDS) // the journal says where the agent is, whatever tags say
		if err != nil {
			return member.Listed{}, err
		}
		a.member = m
	}
	if id := a.journal.State().InstanceID; id != a.member.VM.Instance.VMID {
		return member.Listed{}, fault.New(fault.State, "this disk was another VM's (%s): this VM has not joined "+
			"Azure DevOps", id).
			Hint("Start the daemon, or run azp-bootstrap run --once: this VM then joins as new.")
	}
	return a.member.Find(ctx, d)
}

// rests waits until this VM's agent runs no job. While one runs here nobody is asked and nothing held.
func (a *attempt) rests(ctx context.Context, timeout time.Duration, d *member.Drain) error {
	limited, cancel := context.WithTimeoutCause(ctx, timeout, retry.ErrDeadline)
	defer cancel()
	until := time.Now().Add(timeout).UTC().Format(time.RFC3339)
	said := false
	err := a.runner().Retry(limited, journal.Waiting, func() error {
		if err := a.journal.Refresh(); err != nil {
			return err
		}
		s := a.journal.State()
		if err := joined(s); err != nil {
			return err
		}
		if s.Paused == nil {
			return fault.New(fault.State, "another command has resumed this VM meanwhile").
				Hint("Find out who needs it; then pause again.")
		}
		if a.member.Works() && !said {
			said = true
			a.Log.WithField("until", until).Info("the running job is waited for")
		}
		if err := a.member.HeldUp(d); err != nil {
			return err
		}
		release, err := a.journal.Take()
		if err != nil {
			return err
		}
		defer release()
		anew := &member.Drain{Until: d.Until} // somebody may have enabled it meanwhile
		at, err := a.own(limited, anew)
		if err != nil {
			return err
		}
		if at.Agent == nil { // gone, or another VM's: what runs here counts
			if a.member.Works() {
				return member.Busy(s.Agent.Name)
			}
			return nil
		}
		return a.member.Quiet(limited, at.Client, at.Place, at.Agent, anew)
	}, nil)
	if err == nil || ctx.Err() != nil {
		return err
	}
	f := *fault.From(err)
	if f.Subject == fault.OfJob {
		return fault.New(fault.Service, "the agent %s still runs a job after %s; this VM is paused and takes no "+
			"new one", a.journal.State().Agent.Name, timeout).
			Hint("Wait on: azp-bootstrap pause --wait --timeout 2h. Or let it take jobs again: azp-bootstrap resume.")
	}
	if a.journal.State().Paused != nil {
		f.Message += "; this VM is paused, and takes no new job"
	}
	return &f
}
