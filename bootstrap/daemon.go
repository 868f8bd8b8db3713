// Package bootstrap brings a VM from its first boot to an agent that is online in Azure DevOps, and
// stays until the VM goes.
//
// A VM's stay is a journey of phases, each of which can be cut off at any instant and asked again:
//
//	waiting     one run at a time; the configuration is read
//	discover … online   the way up: package join
//	ready       watched over: health, reload, an agent that is down
//	draining    the way out: package leave
//	removed
//
// A journal on disk (state.json) says how far the VM is. This package is the loop over what can
// happen meanwhile: an attempt ended, a notice of the VM's end was heard, the configuration
// changed, the agent is down.
package bootstrap

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"

	"azp-bootstrap/bootstrap/access"
	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/config"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/health"
	"azp-bootstrap/bootstrap/journal"
	"azp-bootstrap/bootstrap/leave"
	"azp-bootstrap/bootstrap/member"
	"azp-bootstrap/bootstrap/phase"
	"azp-bootstrap/bootstrap/retry"
	"azp-bootstrap/bootstrap/vm"
)

// ErrShutdown is why a daemon is told to end when its system goes, where it is told (Windows).
var ErrShutdown = errors.New("the system shuts down")

// Options say what to run with.
type Options struct {
	member.Means
	Once    bool // end when ready or failed, rather than watch
	Console bool // say what happens on the VM's serial console, too
	Version string
}

// A program is what a run of the program keeps from its first second to its last.
type program struct {
	Options
	journal *journal.Journal
	report  *health.Reporter
	reload  chan os.Signal
	hears   *leave.Ear
	rest    rest
	gate    *passage // of this boot, once it was begun; nil when it was passed
	jobs    *counter
	hooks   hooker
}

// Run brings this VM to ready and, unless o.Once, watches over it until ctx ends. A daemon does not
// give up: it shows what failed and tries again slowly, so that mending the cause in Azure mends
// the VM. Notices of the VM's end are heard all the while.
func Run(ctx context.Context, o Options) error {
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)
	defer signal.Stop(reload)
	served := &health.Server{Live: health.NewLive(), Version: o.Version}
	report := newReporter(o, served.Live)
	defer report.Console.Close()
	report.Begun()
	defer report.Stopping()
	p, err := open(ctx, o, report, served, reload)
	if err != nil {
		return err
	}
	p.endLeft(ctx)
	defer p.endGate()
	defer p.beginHooks(ctx)()
	defer p.countJobs(ctx)()
	defer p.feelsRest(ctx)()
	here := health.Attend(o.StateDir, o.Once, o.Log)
	defer here.Ended()
	slow, falls := retry.Slowly(), brake{backoff: retry.Slowly()}
	var able *attempt // the last one whose configuration was accepted
	for first := true; ; first = false {
		report.PhaseBegun(journal.Waiting)
		p.rested() // this attempt looks at everything
		a, err := p.prepare()
		if first && !p.held(a.known()) {
			p.wake(ctx, a.known(), agent.Sleeper.Firmware) // before IMDS answers, or without it
		}
		if !o.Once { // a daemon shows its health even if its configuration is refused
			here.Serves(p.serveHealth(ctx, served, a))
		}
		var n *leave.Notice
		anew := false
		if err == nil {
			able = a
			p.listen(ctx, a.sources)
			n, anew, err = p.hears.During(ctx, reload, a.changed, a.bringUp)
		} else {
			p.wakeAnyway(ctx, a.known())
			p.hooksAnyway(a.known())
			err = p.refused(err)
		}
		here.AttemptEnded()
		if o.Once && n == nil && !anew {
			return err
		}
		switch {
		case n != nil || anew || ctx.Err() != nil:
		case errors.Is(err, errHeld):
			slow.Reset()
			n = a.standsBy(ctx, reload)
		case err == nil:
			slow.Reset()
			n = falls.watched(func(notBefore time.Time) (bool, *leave.Notice) { return a.watch(ctx, notBefore, nil) })
		case a != nil && p.journal.State().Phase == journal.Ready: // its agent runs on, and is watched over
			due := time.NewTimer(slow.NextBackOff())
			n = falls.watched(
				func(notBefore time.Time) (bool, *leave.Notice) { return a.watch(ctx, notBefore, due.C) },
			)
			due.Stop()
		default:
			pause := slow.NextBackOff()
			p.due(time.Now().Add(pause))
			n = pauseOr(ctx, pause, reload, p.hears.Heard)
		}
		if n != nil || ctx.Err() != nil {
			p.endGate()
		}
		if n != nil {
			able.leaves(ctx, *n)
		}
		if ctx.Err() != nil {
			return p.stop(ctx, a, here.Mine())
		}
	}
}

func newReporter(o Options, live *health.Live) *health.Reporter {
	r := &health.Reporter{Log: o.Log, Live: live}
	if o.Console {
		r.Words = health.FromUnit(o.Redactor.Redact)
		r.Console = health.OpenConsole(o.Redactor.Redact)
	}
	return r
}

// open makes a program. A daemon whose journal cannot be opened shows that, and waits until it can.
func open(
	ctx context.Context,
	o Options,
	report *health.Reporter,
	served *health.Server,
	reload chan os.Signal,
) (*program, error) {
	if err := access.Protect(o.Log); err != nil {
		return nil, err
	}
	for slow := retry.Slowly(); ; {
		j, err := journal.Open(o.StateDir, o.Log, report.Live.Set)
		if err == nil {
			return &program{
				Options: o, journal: j, report: report, reload: reload, hears: leave.NewEar(), hooks: hooker{ctx: ctx},
			}, nil
		}
		if served == nil || o.Once { // the command says it
			return nil, err
		}
		f := fault.From(err)
		report.Failed(journal.Waiting, f)
		shown := journal.New()
		shown.Fail(journal.Why(f, o.Redactor.Redact))
		report.Live.Set(shown)
		p := &program{Options: o, journal: journal.Nowhere()}
		a, _ := p.prepare()
		_ = p.serveHealth(ctx, served, a) // it has said why not
		pauseOr(ctx, slow.NextBackOff(), reload, nil)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
	}
}

// serveHealth serves health where the configuration says; a is nil if that cannot be read.
func (p *program) serveHealth(ctx context.Context, s *health.Server, a *attempt) error {
	h := config.DefaultHealth()
	if a != nil {
		h = a.sources.Config.Health
	}
	err := s.Serve(ctx, h.Listen, h.Grace)
	if err != nil {
		f := fault.From(err)
		p.Log.WithFields(logrus.Fields{"class": f.Class.Code, "hint": f.Advice}).Error(f.Error())
	}
	return err
}

// listen lets the ear listen as it is configured. run --once is told by its caller when to end.
func (p *program) listen(ctx context.Context, s *vm.Sources) {
	if p.Once || !s.Config.Drain.Enabled {
		p.hears.To(ctx, "")
		return
	}
	p.hears.To(ctx, s.Config.IMDS.Endpoint, leave.ScheduledEvents{IMDS: s.IMDS, Log: p.Log})
}

// refused records that an attempt could not even begin: its configuration is refused, or another
// run has its turn.
func (p *program) refused(err error) error {
	f := fault.From(err)
	if !p.apart(func(stood journal.State) { _ = p.failed(err, stood, false) }) {
		p.report.Failed(p.journal.State().At(), f)
	}
	return f
}

// due notes when the next attempt begins.
func (p *program) due(at time.Time) {
	p.apart(func(journal.State) {
		if err := p.journal.Update(func(s *journal.State) { s.Due(at) }); err != nil {
			p.Log.WithError(err).Error("the next attempt's time could not be recorded")
		}
	})
}

// apart does what is to be done between attempts, with the state as it is by now: another run may
// have changed it. It reports whether it could: while another run works, the state is that run's to
// write.
func (p *program) apart(do func(stood journal.State)) bool {
	release, err := p.journal.Take()
	if err != nil {
		return false
	}
	defer release()
	do(p.journal.State())
	return true
}

// failed records why an attempt failed. A VM that was ready when it began, and whose agent runs as
// it did, stays ready with an error beside. A VM that leaves or has left is not made to join by a
// failure. lost says that another VM has its agent.
func (p *program) failed(err error, stood journal.State, lost bool) error {
	f := fault.From(err)
	p.report.Failed(p.journal.State().At(), f)
	ready := p.stillReady(stood, lost)
	p.phases(nil).Record(f, func(s *journal.State, why *journal.Failure) {
		switch {
		case ready:
			now, hook, reach, once, retire := s.Agent, s.HookFailed, s.Metadata, s.Once, s.Retire
			*s = stood
			s.HookFailed, s.Once, s.Retire = hook, once, retire
			s.Agent.Drained, s.Agent.Full, s.Agent.Cleaning, s.LastError = now.Drained, now.Full, now.Cleaning, why
			s.Agent.Setup, s.Agent.Unapplied = now.Setup, now.Unapplied
			s.Agent.Groups, s.Agent.Jobs = now.Groups, now.Jobs
			s.Metadata = reach
		case s.Phase == journal.Draining, s.Phase == journal.Removed:
			s.LastError = why
		default:
			s.Fail(why)
		}
	})
	switch s := p.journal.State(); {
	case ready:
		p.report.StaysReady(s, f)
	case s.Phase == journal.Failed:
		p.report.Over(p.Version, s)
		if stood.Phase != journal.Failed || stood.LastError == nil || stood.LastError.Code != f.Class.Code { // else it is still so
			p.failedNow(s.LastError)
		}
	}
	return f
}

// phases runs phases; drop forgets what is not held through a long wait.
func (p *program) phases(drop func()) phase.Runner {
	if drop == nil {
		drop = func() {}
	}
	return phase.Runner{
		Journal: p.journal,
		Report:  p.report,
		Log:     p.Log,
		Redact:  p.Redactor.Redact,
		Drop:    drop,
		Runs:    p.agentRuns,
	}
}

// agentRuns reports whether the agent of the journal runs, whatever has become of the
// configuration.
func (p *program) agentRuns() bool {
	service := p.journal.State().Agent.Service
	a := p.Agent
	if a == nil {
		a = agent.Runner{Process: service == "", State: p.StateDir}
	}
	running, _ := a.Running(service)
	return running
}

// stillReady reports whether a VM that was ready when an attempt began is so all the same: the
// attempt has touched nothing, and its agent runs. What failed then is news, and no reason to
// replace a VM that works.
func (p *program) stillReady(stood journal.State, lost bool) bool {
	return !lost && untouched(stood, p.journal.State()) && p.agentRuns()
}

// untouched reports whether a VM that was ready stands where it stood.
func untouched(was, is journal.State) bool {
	same := was.InstanceID == is.InstanceID && was.Agent.ID == is.Agent.ID && was.Target.Named(is.Target)
	return was.Phase == journal.Ready && is.Registering == nil && same
}
