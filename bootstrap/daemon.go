package bootstrap

import (
	"context"
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
	"azp-bootstrap/bootstrap/retry"
)

// Run brings this VM to ready and, unless o.Once, watches over it until ctx ends. A daemon does not
// give up: it shows what failed and tries again slowly, so that mending the cause in Azure mends
// the VM. Notices of the VM's end are heard all the while.
func Run(ctx context.Context, o Options) error {
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)
	defer signal.Stop(reload)
	live := health.NewLive()
	served := &health.Server{Live: live, Version: o.Version}
	report := newReporter(o, live)
	defer report.Console.Close()
	report.Begun()
	defer report.Stopping()
	b, err := begin(ctx, o, report, served, reload)
	if err != nil {
		return err
	}
	here := health.Attend(o.StateDir, o.Once, o.Log)
	defer here.Ended()
	b.wake(ctx, agent.Sleeper.Firmware) // before IMDS answers, or without it
	hears, able := newEar(), (*Boot)(nil)
	slow, falls := retry.Slowly(), brake{backoff: retry.Slowly()}
	for ; ; b = b.again() {
		report.PhaseBegun(journal.Waiting)
		err := b.configure()
		if !o.Once { // a daemon shows its health even if its configuration is refused
			b.serveHealth(ctx, served)
		}
		var n *notice
		anew := false
		if err == nil {
			able = b
			b.listenBy(ctx, hears)
			n, anew, err = hears.during(ctx, reload, b.changed, b.bringUp)
		} else {
			b.wakeAnyway(ctx)
			err = b.refused(err)
		}
		b.drop()
		here.Settled()
		if o.Once && n == nil && !anew {
			return err
		}
		ready := b.state().Phase == journal.Ready && b.imds != nil // then its agent runs on, and is watched over
		switch {
		case n != nil || anew || ctx.Err() != nil:
		case err == nil:
			slow.Reset()
			n = falls.watched(func(notBefore time.Time) (fell bool, n *notice) {
				return b.watch(ctx, reload, hears.heard, notBefore, nil)
			})
		case ready:
			due := time.NewTimer(slow.NextBackOff())
			n = falls.watched(func(notBefore time.Time) (fell bool, n *notice) {
				return b.watch(ctx, reload, hears.heard, notBefore, due.C)
			})
			due.Stop()
		default:
			n = pauseOr(ctx, slow.NextBackOff(), reload, hears.heard)
		}
		if n != nil {
			able.leaves(ctx, hears, *n)
		}
		if ctx.Err() != nil {
			return b.stop(ctx, here.Mine())
		}
	}
}

// leaves takes the VM out of Azure DevOps for a notice, which another may overtake. As long as nothing could be begun, it is tried
// again until the VM goes.
func (b *Boot) leaves(ctx context.Context, hears *ear, n notice) {
	for ctx.Err() == nil {
		over, _, err := hears.during(ctx, nil, nil, func(ctx context.Context) error { return b.leaveNow(ctx, n) })
		switch phase := b.state().Phase; {
		case over != nil:
			n = n.with(*over)
			continue
		case err == nil || phase == journal.Draining || phase == journal.Removed || ctx.Err() != nil:
			return
		case n.until.IsZero() || time.Now().After(n.until):
			b.report.LeftBehind(b.state(), fault.From(err))
			return
		}
		b.Log.WithError(err).WithField("event", n.why).Error("this VM could not leave Azure DevOps yet: it is tried again")
		if over := pauseOr(ctx, pollEvents, nil, hears.heard); over != nil {
			n = n.with(*over)
		}
	}
}

// listenBy lets the ear listen as it is configured. run --once is told by its caller when to end.
func (b *Boot) listenBy(ctx context.Context, e *ear) {
	if b.Once || !b.Config.Drain.Enabled {
		e.to(ctx, "")
		return
	}
	e.to(ctx, b.Config.IMDS.Endpoint, scheduledEvents{b.imds, b.Log})
}

func newReporter(o Options, live *health.Live) *health.Reporter {
	r := &health.Reporter{Log: o.Log, Live: live}
	if o.Console {
		r.Console = health.OpenConsole(o.Redactor.Redact)
	}
	return r
}

// begin makes what all attempts of a process share. A daemon whose journal cannot be opened shows that, and waits until it can.
func begin(ctx context.Context, o Options, report *health.Reporter, served *health.Server, reload <-chan os.Signal) (*Boot, error) {
	if err := access.Protect(o.Log); err != nil {
		return nil, err
	}
	for slow := retry.Slowly(); ; {
		j, err := journal.Open(o.StateDir, o.Log, report.Live.Set)
		if err == nil {
			return &Boot{Options: o, journal: j, report: report, begun: time.Now(), stood: j.State()}, nil
		}
		f := fault.From(err)
		report.Failed(journal.Waiting, f)
		if served == nil || o.Once {
			return nil, err
		}
		shown := journal.New()
		shown.Fail(journal.Why(f, o.Redactor.Redact))
		report.Live.Set(shown)
		(&Boot{Options: o}).serveHealth(ctx, served)
		pauseOr(ctx, slow.NextBackOff(), reload, nil)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
	}
}

func (b *Boot) serveHealth(ctx context.Context, s *health.Server) {
	h := config.DefaultHealth()
	if b.Config != nil {
		h = b.Config.Health
	} else if l, err := config.Load(b.ConfigFile, os.Environ(), b.Set); err == nil {
		if c, err := l.Config(); err == nil {
			h = c.Health
		}
	}
	if err := s.Serve(ctx, h.Listen, h.Grace); err != nil {
		f := fault.From(err)
		b.Log.WithFields(logrus.Fields{"class": f.Class.Code, "hint": f.Advice}).Error(f.Error())
	}
}
