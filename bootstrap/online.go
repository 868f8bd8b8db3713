package bootstrap

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"github.com/sirupsen/logrus"

	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/devops"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/journal"
)

// startService makes the agent run.
func startService(ctx context.Context, b *Boot) (logrus.Fields, error) {
	id, err := b.Runner.Registered()
	if err == nil && id == 0 {
		err = fault.New(fault.Agent, "the agent is no longer configured").Hint("Run again: it is registered anew.")
	}
	if err != nil {
		return nil, err
	}
	before := time.Now()
	runs, fresh := false, b.fresh
	if !fresh { // else config.sh has just ended
		runs, _ = b.Runner.Running(b.state().Agent.Service)
	}
	if !runs {
		b.started = before
	}
	b.fresh = false
	name, err := b.Runner.Start(ctx, b.service(), b.network.CAFile)
	if errors.Is(err, agent.ErrGutted) && !fresh { // what is registered and cannot start is registered anew
		return nil, errors.Join(err, b.Runner.Wipe())
	}
	if e := b.journal.Update(func(s *journal.State) { s.Agent.Service = name }); err != nil || e != nil {
		return nil, errors.Join(err, e)
	}
	fields := logrus.Fields{"service": name}
	if name == "" {
		fields = logrus.Fields{"runs": "as a process of the daemon"}
	}
	return fields, nil
}

// service is what the agent's service is made of: the configuration's, the journal's and the server's words, and
// nothing that a job could write.
func (b *Boot) service() agent.Service {
	known := b.state().Agent
	s := agent.Service{ServerURL: b.Config.Server.Base, Group: b.Place.PoolName, Agent: b.Agent, Unit: known.Service,
		Marks: b.marks(known.Registered)}
	if s.Group == "" { // an environment; its pool's name is nobody's business
		s.Group = b.Place.Name
	}
	return s
}

// agentLog is where a person finds what the agent said.
func (b *Boot) agentLog() string {
	if b.asProcess() {
		return filepath.Join(b.StateDir, "agent.log")
	}
	return "journalctl -u '" + b.state().Agent.Service + "'"
}

// comesOnline is how long a started agent may take to show up: the listener waits at most four
// minutes for a session of its own that a crash left open (Agent.Listener, MessageListener.cs).
const comesOnline = 5 * time.Minute

// speaksUp is how long an agent that was just started is listened to before Azure DevOps is asked, which thousands
// of others ask as well. A few seconds are usual.
const speaksUp = 10 * time.Second

// listen waits until an agent that was just started says that it is connected, and reports whether it did.
func (b *Boot) listen(ctx context.Context) (heard bool) {
	since := b.started
	if b.started = (time.Time{}); since.IsZero() {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, speaksUp)
	defer cancel()
	err := b.Runner.Follow(ctx, b.state().Agent.Service, since, func(w agent.Word, _ string) {
		if w == agent.Connected {
			heard = true
			cancel()
		}
	})
	if err != nil && ctx.Err() == nil {
		b.Log.WithError(err).Debug("the agent's output cannot be followed")
	}
	return heard
}

// notOnline is the fault of an agent that does not show online, and whether it runs at all.
func (b *Boot) notOnline() (running bool, f *fault.Error) {
	running, state := b.Runner.Running(b.state().Agent.Service)
	return running, fault.New(fault.Service, "the agent %s is started (%s) but not online in the %s", b.Agent, state, b.Place).
		Hint("Look at its log: %s, or _diag in %s; it must reach Azure DevOps by itself (proxy, CA, firewall).", b.agentLog(), b.Config.Agent.Dir)
}

// online confirms that Azure DevOps shows the agent online.
func online(ctx context.Context, b *Boot) (logrus.Fields, error) {
	heard := b.listen(ctx)
	if ctx.Err() != nil {
		_, notYet := b.notOnline()
		return nil, notYet.Passing()
	}
	c, err := b.access.DevOps(ctx)
	if err != nil {
		return nil, err
	}
	ask := c.Agent
	if heard { // by this VM's own key: it is this VM's
		ask = c.Shown
	}
	a, err := ask(ctx, b.Place, b.Agent)
	switch {
	case err != nil:
		return nil, err
	case a == nil:
		return nil, fault.New(fault.Service, "the server does not show the agent %s in the %s", b.Agent, b.Place).
			Hint("Somebody removed it while the VM was joining, or took the PAT's owner the right to see it; run again.")
	case a.ID != b.state().Agent.ID || !heard && b.whose(a) == anotherVM:
		return nil, b.taken(a)
	case a.Online:
		return logrus.Fields{"agent": a.Name, "id": a.ID, "version": a.Version}, b.confirmed(ctx, c, a)
	}
	running, notYet := b.notOnline()
	waited := time.Since(b.phase)
	if waited > comesOnline {
		return nil, notYet
	}
	if !running && b.asProcess() {
		if _, err := startService(ctx, b); err != nil {
			return nil, err
		}
	}
	return nil, notYet.Passing().Retry(min(100*time.Millisecond+waited/4, 4*time.Second))
}

// confirmed notes by what the agent is known from now on.
func (b *Boot) confirmed(ctx context.Context, c *devops.Client, a *devops.Agent) error {
	if pool, err := c.Pool(ctx, b.Place); err == nil { // an environment's has just been made, or has stood before
		b.Place.PoolID = pool
	}
	if err := b.journal.Update(func(s *journal.State) {
		s.Agent.Version, s.Agent.ResourceID = a.Version, a.ResourceID
		s.Target.PoolID = b.Place.PoolID
	}); err != nil {
		return err
	}
	return b.noteEnabled(ctx, c, a)
}
