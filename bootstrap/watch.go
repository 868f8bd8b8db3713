package bootstrap

import (
	"context"
	"os"
	"runtime/debug"
	"time"

	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/journal"
	"azp-bootstrap/bootstrap/retry"
)

const (
	lookProcess = 5 * time.Second  // at an agent that is a process of ours: it is ours to start again
	lookService = 30 * time.Second // at a service: the service manager starts it again by itself
	patience    = 2                // looks in a row that find the agent down before it is brought up anew
	lostFor     = 30 * time.Second // an agent that has lost Azure DevOps for so long may have been removed there
)

// watch stays with a VM that is ready, or has left, until ctx ends, a notice is heard or another attempt is due: the
// configuration changed, the last one failed and is due again, the VM that Azure took away stays after all, another command
// left work half done, or the agent is down and needs more than its service manager: then fell is true, but not before
// notBefore. It holds no PAT.
func (b *Boot) watch(ctx context.Context, reload <-chan os.Signal, heard <-chan notice, notBefore time.Time, due <-chan time.Time) (fell bool, n *notice) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	debug.FreeOSMemory() // from here on little is needed, and what the PAT left in memory is not
	back := make(chan struct{})
	if b.state().Phase == journal.Removed && b.state().ByAzure() {
		go b.awaitReturn(ctx, back)
	}
	said := make(chan saying)
	if b.state().Phase == journal.Ready {
		go b.follow(ctx, b.state().Agent.Service, b.report.LostSince(), said)
	}
	b.lookForKills()
	lost, missing := !b.report.LostSince().IsZero(), false
	interval := lookService
	if b.asProcess() {
		interval = lookProcess
	}
	look := time.NewTicker(interval)
	defer look.Stop()
	for down := 0; ; {
		select {
		case <-ctx.Done():
			return false, nil
		case n := <-heard:
			return false, &n
		case <-due:
			return false, nil
		case <-back:
			return false, nil
		case <-reload:
			if b.accepts() {
				return false, nil
			}
		case s := <-said:
			switch {
			case s.word == agent.Missing:
				missing = true // at the next look: it says so again and again
			case s.word == agent.Lost && !lost:
				b.report.Lost(b.state(), s.line)
			case s.word == agent.Connected && lost:
				b.report.Found(b.state())
			}
			lost = s.word == agent.Lost
		case <-look.C:
			before := b.state().Phase
			if err := b.journal.Refresh(); err != nil {
				b.Log.WithError(err).Debug("the state cannot be read")
			}
			s := b.state()
			if s.Phase == journal.Draining && b.abandoned() {
				return false, nil
			}
			if !s.Stands() && b.nobodyWorks() { // it was lost or damaged: the VM finds out anew where it stands
				return false, nil
			}
			if s.Phase != journal.Ready {
				continue
			}
			if before != journal.Ready { // another command has worked on this VM
				return false, nil
			}
			b.lookForKills()
			early := time.Now().Before(notBefore)
			// The listener of an agent that was removed gets no token any more, which it takes for an outage
			// (MessageListener.cs: a VssOAuthTokenRequestException is tried again).
			if at := b.report.LostSince(); !at.IsZero() && time.Since(at) > lostFor && !early {
				b.report.Asks()
				b.Log.WithField("agent", s.Agent.Name).Info("the agent has lost Azure DevOps for a while: it is asked whether the agent was removed")
				return true, nil
			}
			if missing && !early {
				b.Log.WithField("agent", s.Agent.Name).Warn("the agent says that the server lets it in no more: Azure DevOps is asked")
				return true, nil
			}
			if running, state := b.Runner.Running(s.Agent.Service); running {
				down = 0
				b.report.Live.AgentDown(false)
				continue
			} else if down++; !b.asProcess() && down < patience {
				continue
			} else if b.report.Live.AgentDown(true); !early {
				b.Log.WithField("service", state).Warn("the agent is down: it is brought up again")
				return true, nil
			}
		}
	}
}

// A saying is a word of the agent's, with the line that it stands in.
type saying struct {
	word agent.Word
	line string
}

// follow hands on what the agent says, whatever becomes of the way it is heard.
// An agent that was lost may have come back while nobody listened: what it said meanwhile is heard as well.
func (b *Boot) follow(ctx context.Context, service string, lost time.Time, said chan<- saying) {
	hear := func(w agent.Word, line string) {
		select {
		case said <- saying{w, b.Redactor.Redact(line)}:
		case <-ctx.Done():
		}
	}
	if !lost.IsZero() {
		go func() {
			ctx, cancel := context.WithTimeout(ctx, speaksUp)
			defer cancel()
			_ = b.Runner.Follow(ctx, service, lost, hear)
		}()
	}
	for {
		if err := b.Runner.Follow(ctx, service, time.Time{}, hear); err != nil && ctx.Err() == nil {
			b.Log.WithError(err).Debug("the agent's output cannot be followed")
		}
		if !retry.Pause(ctx, lookService) {
			return
		}
	}
}

// awaitReturn tells when the end of a VM that has left is announced no more.
func (b *Boot) awaitReturn(ctx context.Context, back chan<- struct{}) {
	quiet := time.Duration(0)
	for retry.Pause(ctx, pollEvents) {
		if quiet += pollEvents; announced(ctx, b.imds, b.VM.Name) {
			quiet = 0
		}
		if quiet >= vanished {
			close(back)
			return
		}
	}
}

// abandoned reports whether nobody goes on with a departure: the command that began it was killed.
func (b *Boot) abandoned() bool {
	if !b.nobodyWorks() {
		return false
	}
	b.Log.Warn("a deregistration was cut off: it is gone on with")
	return true
}

// nobodyWorks reports whether no other run is at work on this VM.
func (b *Boot) nobodyWorks() bool {
	release, err := b.journal.Take()
	if err == nil {
		release()
	}
	return err == nil
}

// leaveNow takes this VM out of Azure DevOps, whatever it was about to do.
func (b *Boot) leaveNow(ctx context.Context, n notice) error {
	unlock, err := b.turn(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	defer b.drop()
	if s := b.state(); s.Phase == journal.Removed {
		return b.acknowledge(ctx, n)
	}
	_, err = b.leave(ctx, n)
	return err
}

// changed reports whether the configuration is another by now; one that is refused is said, and changes nothing.
func (b *Boot) changed() bool {
	next := b.again()
	if err := next.configure(); err != nil {
		f := fault.From(err)
		b.Log.WithField("hint", f.Advice).Error("the new configuration is refused, the old one goes on: " + f.Error())
		return false
	}
	if next.shows == b.shows {
		return false
	}
	b.Log.Info("the configuration has changed: what is under way begins anew with it")
	return true
}

// accepts reads the configuration anew; one that is refused changes nothing.
func (b *Boot) accepts() bool {
	err := b.again().configure()
	if err == nil {
		b.Log.Info("the configuration is read again")
		return true
	}
	f := fault.From(err)
	b.Log.WithField("hint", f.Advice).Error("the new configuration is refused, the old one goes on: " + f.Error())
	b.apart(func() {
		b.record(f, besides)
	})
	return false
}

// stop ends what must not outlive the daemon. A stop is not a failure.
func (b *Boot) stop(ctx context.Context, alone bool) error {
	if b.Once {
		return context.Cause(ctx)
	}
	s := b.state()
	leaves := s.Phase == journal.Draining || s.Phase == journal.Ready && b.Config != nil && b.Config.Drain.OnShutdown
	if leaves && b.Config != nil && shuttingDown() {
		n := notice{why: "shutdown", by: journal.ByShutdown, goes: true, wait: true}
		if s.Phase == journal.Draining {
			n = b.leftOver()
		}
		if err := b.leaveNow(context.WithoutCancel(ctx), n); err != nil {
			b.Log.WithError(err).Error("this VM could not leave Azure DevOps before it goes")
		}
	}
	if b.asProcess() && alone { // else it is another daemon's
		return b.Runner.Stop(context.WithoutCancel(ctx))
	}
	return nil
}
