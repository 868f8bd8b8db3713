package bootstrap

import (
	"context"
	"os"
	"time"

	"github.com/sirupsen/logrus"

	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/join"
	"azp-bootstrap/bootstrap/journal"
	"azp-bootstrap/bootstrap/leave"
	"azp-bootstrap/bootstrap/retry"
)

// errHeld is the end of an attempt on a VM that stands in a standby pool: it is registered, as far as it goes,
// and its agent does not start, for it could be stopped with a job at any moment. No failure.
var errHeld = fault.New(fault.Start, "this VM stands in a standby pool: its agent is registered, and does not start").
	Hint("It starts when the VM leaves the pool: the daemon (azp-bootstrap run) waits for that. start.hold: never " +
		"lets it start in the pool, too.")

// asksPool is how long a VM that has just been told who it is asks where it stands.
const asksPool = 30 * time.Second

// lookStandby is how often IMDS is asked whether the VM has left its pool.
const lookStandby = 5 * time.Second

// lookAtPool finds out whether the agent's start is held. An agent that runs is left alone. What is on disk
// holds it in the next boot, until IMDS has been asked.
func (a *attempt) lookAtPool(ctx context.Context) error {
	v, in := a.member.VM, false
	was := a.journal.State().Standby
	if v.Config.Start.Holds() && v.Instance.ScaleSet != "" && !a.member.Runs() {
		limited, cancel := context.WithTimeoutCause(ctx, asksPool, retry.ErrDeadline)
		defer cancel()
		err := a.runner().Retry(limited, journal.Discover, func() (err error) {
			in, err = a.sources.IMDS.InStandbyPool(limited)
			return err
		}, nil)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil { // what was last known counts
			in = was != nil
			a.Log.WithError(err).WithField("held", in).Warn("IMDS does not tell whether this VM stands in a standby pool")
		}
	}
	a.inPool = in
	switch {
	case in && was == nil:
		return a.journal.Update(func(s *journal.State) { s.Standby = &journal.Standby{Since: journal.Now()} })
	case !in && was != nil:
		if err := a.journal.Update(func(s *journal.State) { s.Standby = nil }); err != nil {
			return err
		}
		a.report.LeftPool()
	}
	return nil
}

// registeredInPool reports whether there is nothing to do for a VM in a pool: what stands on its disk is the agent
// that it is to have. Nobody is asked, so that no outage counts.
func (a *attempt) registeredInPool() bool {
	s := a.journal.State()
	leaves := s.Phase == journal.Draining || s.Phase == journal.Removed
	if !a.inPool || leaves || s.Agent.ID == 0 || s.Registering != nil || a.member.Agent.Guarded() != nil {
		return false
	}
	return join.Whole(a.member)
}

// throughPool is the way past the pool and the gate, in this order: what the gate waits for goes on meanwhile.
func (a *attempt) throughPool(ctx context.Context) error {
	if a.inPool {
		return errHeld
	}
	return a.throughGate(ctx)
}

// standsBy waits until the VM has left its pool, a notice is heard, the configuration has changed, or
// an operator has done something.
func (a *attempt) standsBy(ctx context.Context, reload chan os.Signal) *leave.Notice {
	a.member.Access.Drop()
	a.report.Held(a.journal.State())
	defer a.report.Live.Held(false)
	look := time.NewTicker(lookStandby)
	defer look.Stop()
	var silent time.Time // since when IMDS does not tell
	said := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case n := <-a.hears.Heard:
			return &n
		case <-reload:
			if a.accepts() {
				return nil
			}
		case <-look.C:
			if err := a.journal.Refresh(); err != nil {
				a.Log.WithError(err).Debug("the state cannot be read")
			}
			if s := a.journal.State(); s.Standby == nil || s.Phase == journal.Draining || s.Phase == journal.Removed {
				return nil
			}
			in, err := a.sources.IMDS.InStandbyPool(ctx)
			switch {
			case err == nil && !in:
				return nil
			case err == nil:
				silent, said = time.Time{}, false
			case silent.IsZero(): // it stands there until IMDS says otherwise
				silent = time.Now()
			case !said && time.Since(silent) >= asksPool:
				said = true
				f := fault.From(err)
				a.Log.WithFields(logrus.Fields{"class": f.Class.Code, "hint": f.Advice}).
					Warn("IMDS does not tell whether this VM has left its standby pool, and until it does the agent does not start: " + f.Error())
			}
		}
	}
}

// stoodBy reports whether this VM was in a standby pool when it was looked at last.
func (p *program) stoodBy() bool {
	s, _, err := journal.Read(p.StateDir)
	return err == nil && s.Standby != nil
}
