package bootstrap

import (
	"context"
	"runtime/debug"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/azure"
	"azp-bootstrap/bootstrap/journal"
	"azp-bootstrap/bootstrap/leave"
	"azp-bootstrap/bootstrap/retry"
)

const (
	lookProcess = 5 * time.Second  // at an agent that is a process of ours: it is ours to start again
	lookService = 30 * time.Second // at a service: the service manager starts it again by itself
	patience    = 2                // looks in a row that find the agent down before it is brought up anew
	lostFor     = 30 * time.Second // an agent that has lost Azure DevOps for so long may have been removed there
)

// watch stays with a VM that is ready, or has left, until ctx ends, a notice is heard or another
// attempt is due: the configuration changed, the last one failed and is due again, the VM that
// Azure took away stays after all, another command left work half done, or the agent is down and
// needs more than its service manager: then fell is true, but not before notBefore. It holds no
// PAT.
func (a *attempt) watch(ctx context.Context, notBefore time.Time, due <-chan time.Time) (fell bool, n *leave.Notice) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	a.member.Access.Drop()
	debug.FreeOSMemory() // from here on little is needed, and what the PAT left in memory is not
	back := make(chan struct{})
	if a.journal.State().Phase == journal.Removed && a.journal.State().ByAzure() {
		go leave.AwaitReturn(ctx, a.sources.IMDS, a.member.VM.Instance.Name, back)
	}
	said := make(chan saying)
	if s := a.journal.State(); s.Phase == journal.Ready {
		since := a.report.LostSince()
		if since.IsZero() && s.ReadyAt != nil {
			since = *s.ReadyAt
		}
		go a.follow(ctx, s.Agent.Service, since, said)
	}
	secrets := make(chan azure.Secret)
	go a.askForSecrets(ctx, secrets)
	kept := make(chan struct{})
	go func() {
		defer close(kept)
		var both sync.WaitGroup
		both.Go(func() { a.keepDisk(ctx) })
		both.Go(func() { a.keepWall(ctx) })
		both.Wait()
	}()
	retires, awaited := a.awaitRetirement(ctx)
	defer func() { // whoever comes next finds nobody at work on this VM
		cancel()
		for _, ended := range []chan struct{}{kept, awaited} {
			select {
			case <-ended:
			case <-time.After(hangs):
			}
		}
	}()
	a.lookForKills()
	lost, missing := !a.report.LostSince().IsZero(), false
	paused, at := a.journal.State().Paused != nil, a.journal.State().Phase
	interval := lookService
	if a.member.VM.AsProcess() {
		interval = lookProcess
	}
	look := time.NewTicker(interval)
	defer look.Stop()
	for down := 0; ; {
		select {
		case <-ctx.Done():
			return false, nil
		case n := <-a.hears.Heard:
			return false, &n
		case n := <-retires.retires:
			return false, &n
		case <-retires.fell:
			if time.Now().Before(notBefore) {
				continue
			}
			a.report.Live.AgentDown(true)
			a.Log.WithField("agent", a.journal.State().Agent.Name).
				Warn("the agent, which has begun no job, is down: it is brought up again")
			return true, nil
		case <-due:
			return false, nil
		case <-back:
			return false, nil
		case <-a.reload:
			if a.accepts() {
				return false, nil
			}
		case s := <-secrets:
			a.noteSecret(s)
		case s := <-said:
			if s.word == agent.Job {
				a.jobs.lookNow()
				continue
			}
			switch {
			case s.word == agent.Updating:
				a.sayUpdates(s.line)
				continue
			case s.word == agent.Missing:
				missing = true // at the next look: it says so again and again
			case s.word == agent.Lost && !lost:
				a.report.Lost(a.journal.State(), s.line)
			case s.word == agent.Connected && lost:
				a.report.Found(a.journal.State())
			}
			lost = s.word == agent.Lost
		case <-look.C:
			if err := a.journal.Refresh(); err != nil {
				a.Log.WithError(err).Debug("the state cannot be read")
			}
			s := a.journal.State()
			before := at // as this loop saw it last: others refresh the state, too
			at = s.Phase
			if before == journal.Ready && (s.Phase == journal.Draining || s.Phase == journal.Removed) {
				a.Log.WithFields(logrus.Fields{"agent": s.Agent.Name, "removedBy": s.RemovedBy}).
					Warn("another command takes this VM out of Azure DevOps: it is watched over no more")
			}
			if s.Phase == journal.Draining && a.abandoned() {
				return false, nil
			}
			if !s.Stands() && a.nobodyWorks() { // it was lost or damaged: the VM finds out anew where it stands
				return false, nil
			}
			if s.Phase != journal.Ready {
				continue
			}
			if before != journal.Ready { // another command has worked on this VM
				return false, nil
			}
			if is := s.Paused != nil; is != paused {
				paused = is
				a.report.Paused(s)
			}
			a.pausedNow(s)
			if s.Paused != nil && !s.Paused.Held && a.nobodyWorks() { // cut off before the server was asked
				return false, nil
			}
			a.lookForKills()
			early := time.Now().Before(notBefore)
			// The listener of an agent that was removed gets no token any more, which it takes for
			// an outage (MessageListener.cs: a VssOAuthTokenRequestException is tried again).
			if at := a.report.LostSince(); !at.IsZero() && time.Since(at) > lostFor && !early {
				a.report.Asks()
				a.Log.WithField("agent", s.Agent.Name).
					Info("the agent has lost Azure DevOps for a while: it is asked whether the agent was removed")
				return true, nil
			}
			if missing && !early {
				a.Log.WithField("agent", s.Agent.Name).
					Warn("the agent says that the server lets it in no more: Azure DevOps is asked")
				return true, nil
			}
			if a.member.Once() && s.Spent() { // it ends with its job
				continue
			}
			if running, state := a.member.Agent.Running(s.Agent.Service); running {
				down = 0
				a.report.Live.AgentDown(false)
				continue
			} else if a.restarts.Load() {
				continue
			} else if down++; a.member.Once() || !a.member.VM.AsProcess() && down < patience { // the server is asked first
				continue
			} else if a.report.Live.AgentDown(true); !early {
				a.Log.WithField("service", state).Warn("the agent is down: it is brought up again")
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

// follow hands on what the agent says, whatever becomes of the way it is heard. An agent may have lost
// Azure DevOps, or come back, while nobody listened: what it said since then is heard as well.
func (a *attempt) follow(ctx context.Context, service string, since time.Time, said chan<- saying) {
	hear := func(w agent.Word, line string) {
		select {
		case said <- saying{w, a.Redactor.Redact(line)}:
		case <-ctx.Done():
		}
	}
	for {
		begun := time.Now()
		if err := a.member.Agent.Follow(ctx, service, since, hear); err != nil && ctx.Err() == nil {
			a.Log.WithError(err).Debug("the agent's output cannot be followed")
		}
		if since = begun; !retry.Pause(ctx, lookService) {
			return
		}
	}
}

// abandoned reports whether nobody goes on with a departure: the command that began it was killed.
func (a *attempt) abandoned() bool {
	if !a.nobodyWorks() {
		return false
	}
	a.Log.Warn("a deregistration was cut off: it is gone on with")
	return true
}

// nobodyWorks reports whether no other run is at work on this VM.
func (a *attempt) nobodyWorks() bool {
	release, err := a.journal.Take()
	if err == nil {
		release()
	}
	return err == nil
}

// lookForKills says it if the kernel killed steps of a job for want of memory. The agent goes on,
// and the job's own log says no more than that a step ended with 137.
func (a *attempt) lookForKills() {
	known := a.journal.State().Agent
	count, ok := agent.OOMKills(known.Service)
	if !ok {
		return
	}
	if more := a.report.Live.OOMKills(count); more > 0 {
		a.Log.WithFields(logrus.Fields{"agent": known.Name, "killed": more,
			"hint": "Give the VM more memory (a larger size), or its jobs less to do at once."}).
			Warn("the kernel killed processes of the agent's jobs: the VM is out of memory")
	}
}
