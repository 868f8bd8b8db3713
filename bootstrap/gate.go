package bootstrap

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
	"github.com/sirupsen/logrus"

	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/gate"
	"azp-bootstrap/bootstrap/journal"
	"azp-bootstrap/bootstrap/member"
	"azp-bootstrap/bootstrap/retry"
)

// A passage is a gate on its way to be passed. It outlives the attempt that began it: that a vault
// does not answer is no reason to cut a script off. It ends with the daemon, and when the VM leaves.
type passage struct {
	gate   gate.Gate
	cancel context.CancelCauseFunc
	ended  chan struct{}
	err    error // once it has ended
}

// errAsked is the cause of a passage's end when an operator asks for the VM.
var errAsked = fault.New(fault.State, "an operator takes this VM out of Azure DevOps").
	Hint("azp-bootstrap rejoin joins it again.")

// underWay reports whether something is still waited for.
func (w *passage) underWay() bool {
	if w == nil {
		return false
	}
	select {
	case <-w.ended:
		return false
	default:
		return true
	}
}

// gateOf is the gate of a VM as far as it is known.
func (p *program) gateOf(m *member.Member) gate.Gate { return gate.Of(m.VM, p.StateDir) }

// held reports whether an agent that stands on this VM may not start: the VM is in a standby pool, as far
// as is known, or its boot's gate was not passed. m is nil if the configuration cannot be read.
func (p *program) held(m *member.Member) bool { return p.stoodBy() || p.shut(m) }

// shut reports whether the gate of this boot was not passed.
func (p *program) shut(m *member.Member) bool {
	if m == nil {
		return gate.Shut(p.StateDir)
	}
	if g := p.gateOf(m); g.Wanted() {
		return !g.Passed()
	}
	return !m.VM.Known() && m.VM.Config.Sources.TrustRemote && gate.Shut(p.StateDir) // user data may name one
}

// gateBegins begins what the agent's start waits for in this boot, unless the VM leaves or has left. An agent that runs
// has passed the gate, or there was none when it was started.
func (a *attempt) gateBegins(ctx context.Context) error {
	g, at := a.gateOf(&a.member), a.journal.State().Phase
	switch {
	case !g.Wanted():
		a.endGate()
		g.Forget()
		a.endLeft(ctx)
		return nil
	case at == journal.Draining, at == journal.Removed && !a.Once:
		a.endLeft(ctx)
		return nil
	case a.gate == nil && !g.Passed() && a.member.Runs():
		return g.Pass()
	}
	return a.openGate(ctx)
}

// openGate begins what the gate waits for, unless that was passed in this boot or is under way. What
// failed before is run again.
func (a *attempt) openGate(ctx context.Context) error {
	if !a.shut(&a.member) {
		if !a.gate.underWay() {
			a.gate = nil // passed meanwhile, by another run: what failed before is over
		}
		return nil
	}
	g := a.gateOf(&a.member)
	if a.gate.underWay() && a.gate.gate.Same(g) {
		return nil
	}
	a.endGate()
	programs := a.member.Agent
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	w := &passage{gate: g, cancel: cancel, ended: make(chan struct{})}
	a.gate = w
	go a.heed(ctx, cancel)
	go func() {
		defer close(w.ended)
		defer cancel(nil)
		w.err = a.pass(ctx, g, programs)
	}()
	return nil
}

// heed ends a passage if an operator asks for the VM.
func (p *program) heed(ctx context.Context, cancel context.CancelCauseFunc) {
	for retry.Pause(ctx, time.Second) {
		s, _, err := journal.Read(p.StateDir) // as another run has left it
		if p.journal.Asked() || err == nil && (s.Phase == journal.Draining || s.Phase == journal.Removed && s.RemovedBy != "") && !p.Once {
			cancel(errAsked)
			return
		}
	}
}

// throughGate waits until the gate is passed, or was found not to be.
func (a *attempt) throughGate(ctx context.Context) error {
	w := a.gate
	if w == nil {
		return nil
	}
	select {
	case <-w.ended:
		if w.err == nil {
			a.gate = nil
		}
		return w.err
	case <-ctx.Done():
	}
	if !errors.Is(context.Cause(ctx), retry.ErrDeadline) {
		return context.Cause(ctx)
	}
	what := "the gate"
	if g := a.journal.State().Gate; g != nil {
		what = g.WaitsFor
	}
	return fault.New(fault.Start, "the agent's start still waits for %s when the deadline has passed", what).
		Hint("Raise deadline, or lower start.timeout: all that is waited for is part of the deadline.")
}

// endGate ends what a gate runs, with all that it started.
func (p *program) endGate() {
	if p.gate == nil {
		return
	}
	p.gate.cancel(nil)
	<-p.gate.ended
	p.gate = nil
}

// pass takes this VM through a gate, and tells of it.
func (p *program) pass(ctx context.Context, g gate.Gate, programs member.Programs) error {
	begun := time.Now()
	log := p.Log.WithField("phase", "gate")
	turn := flock.New(filepath.Join(p.StateDir, gate.LockName), flock.SetPermissions(0o600))
	if got, err := turn.TryLockContext(ctx, time.Second); !got { // another run's scripts are not cut off
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		return fault.New(fault.State, "the gate's lock").Because(err).Hint("Check the rights of %s; run as root.", p.StateDir)
	}
	defer turn.Close() //nolint:errcheck // it ends with the process
	if g.Passed() {
		return nil
	}
	err := g.Through(ctx, gate.Run{
		Program: func(ctx context.Context, what agent.Program, said func(string)) (int, error) {
			return programs.RunProgram(ctx, what, p.Redactor, said)
		},
		Waits: func(what string) {
			p.report.Gate(what)
			p.noteGate(&journal.Gate{WaitsFor: what, Since: journal.Now()})
		},
		Says:  func(of, line string) { log.WithField("from", of).Info(line) },
		Warns: func(message, of string) { log.WithField("from", of).Warn(message) },
		Again: func(w retry.Wait) {
			log.WithFields(logrus.Fields{"retries": w.Retries, "wait": w.Pause.Round(time.Millisecond).String()}).
				Warn(w.Fault.Error())
		},
	})
	p.noteGate(nil)
	switch f := (*fault.Error)(nil); {
	case err == nil:
		p.report.GatePassed(time.Since(begun))
	case errors.As(err, &f):
		log.WithFields(logrus.Fields{"class": f.Class.Code, "hint": f.Advice}).Error(f.Error())
	default:
		log.Info("what the agent's start waited for was ended")
	}
	return err
}

// noteGate lets status say what is waited for. While another run works on the VM, it does not.
func (p *program) noteGate(waits *journal.Gate) {
	if err := p.journal.Update(func(s *journal.State) { s.Gate = waits }); err != nil {
		p.Log.WithError(err).Debug("what the agent's start waits for could not be recorded")
	}
}
