package bootstrap

import (
	"context"
	"os"
	"runtime/debug"
	"time"

	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/journal"
)

const (
	lookProcess = 5 * time.Second  // at an agent that is a process of ours: it is ours to start again
	lookService = 30 * time.Second // at a service: the service manager starts it again by itself
	patience    = 2                // looks in a row that find the agent down before it is brought up anew
	lostFor     = 30 * time.Second // an agent that has lost Azure DevOps for so long may have been removed there
)

// watch stays with a VM that is ready, or has left, until ctx ends or another attempt is due: the
// configuration changed, the last one failed and is due again, or the agent is down and needs more than its service
// manager: then fell is true, but not before notBefore. It holds no PAT.
func (b *Boot) watch(ctx context.Context, reload <-chan os.Signal, notBefore time.Time, due <-chan time.Time) (fell bool) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	debug.FreeOSMemory() // from here on little is needed, and what the PAT left in memory is not
	heard := make(chan notice, 1)
	if b.Config.Drain.Enabled && b.state().Phase == journal.Ready {
		go b.listeners(ctx, heard)
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
			return false
		case n := <-heard:
			if err := b.leaveNow(n); err == nil || b.state().Phase == journal.Draining {
				continue // from now on there is nothing to watch but the end
			}
			return false
		case <-due:
			return false
		case <-reload:
			if b.accepts() {
				return false
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
			if s.Phase != journal.Ready {
				continue
			}
			if before != journal.Ready { // another command has worked on this VM
				return false
			}
			b.lookForKills()
			early := time.Now().Before(notBefore)
			// The listener of an agent that was removed gets no token any more, which it takes for an outage
			// (MessageListener.cs: a VssOAuthTokenRequestException is tried again).
			if at := b.report.LostSince(); !at.IsZero() && time.Since(at) > lostFor && !early {
				b.report.Asks()
				b.Log.WithField("agent", s.Agent.Name).Info("the agent has lost Azure DevOps for a while: it is asked whether the agent was removed")
				return true
			}
			if missing && !early {
				b.Log.WithField("agent", s.Agent.Name).Warn("the agent says that the server lets it in no more: Azure DevOps is asked")
				return true
			}
			if running, state := b.Runner.Running(s.Agent.Service); running {
				down = 0
				b.report.Live.AgentDown(false)
				continue
			} else if down++; !b.asProcess() && down < patience {
				continue
			} else if b.report.Live.AgentDown(true); !early {
				b.Log.WithField("service", state).Warn("the agent is down: it is brought up again")
				return true
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
		if !pause(ctx, lookService) {
			return
		}
	}
}

// listeners hear of the VM's end.
func (b *Boot) listeners(ctx context.Context, heard chan<- notice) {
	for _, l := range []listener{scheduledEvents{b.imds, b.VM.Name, b.Log}} {
		l.listen(ctx, heard)
	}
}

// leaveNow departs on a context of its own: whatever ends the daemon must not end this.
func (b *Boot) leaveNow(n notice) error {
	ctx := context.Background()
	unlock, err := b.turn(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	return b.depart(ctx, n)
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

// leave ends what must not outlive the daemon. A stop is not a failure.
func (b *Boot) leave(ctx context.Context) error {
	if b.Once {
		return context.Cause(ctx)
	}
	if b.Config != nil && b.Config.Drain.OnShutdown && b.state().Phase == journal.Ready && shuttingDown() {
		if err := b.leaveNow(notice{why: "shutdown", goes: true, wait: true}); err != nil {
			return err
		}
	}
	if b.asProcess() {
		return b.Runner.Stop()
	}
	return nil
}
