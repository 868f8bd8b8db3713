package join

import (
	"context"
	"errors"
	"fmt"
	"time"

	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/devops"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/journal"
	"azp-bootstrap/bootstrap/member"
	"azp-bootstrap/bootstrap/phase"
)

// hold keeps the agent of a VM that is paused, or has no room for jobs, from taking a job before it starts: the server has
// enabled one that was just registered. If the server does not show yet whose it is, online looks again.
func hold(ctx context.Context, m member.Member, at devops.Place) error {
	if s := m.State(); s.Paused == nil && !s.Shut() {
		return nil
	}
	c, err := m.Access.DevOps(ctx)
	if err != nil {
		return err
	}
	a, err := c.ByID(ctx, at, m.State().Agent.ID)
	if err != nil || m.Whose(a) != member.ThisVM {
		return err
	}
	return m.NoteEnabled(ctx, c, at, a)
}

// startService makes the agent run. fresh says that config.sh has just registered it. since is when
// it was started; zero: it ran already.
func startService(
	ctx context.Context,
	m member.Member,
	at devops.Place,
	fresh bool,
) (since time.Time, f phase.Fields, err error) {
	id, err := m.Agent.Registered()
	if err == nil && id == 0 {
		err = fault.New(fault.Agent, "the agent is no longer configured").Hint("Run again: it is registered anew.")
	}
	if err != nil {
		return since, nil, err
	}
	if m.Once() {
		if runs, err := serves(ctx, m, at, fresh); runs || err != nil {
			return since, phase.Fields{"service": m.State().Agent.Service}, err
		}
	}
	if fresh || !m.Runs() {
		since = time.Now()
	}
	name, err := m.Agent.Start(ctx, m.ServiceAt(at), m.Network.CAFile)
	if errors.Is(err, agent.ErrGutted) && !fresh { // what is registered and cannot start is registered anew
		return since, nil, errors.Join(err, m.Agent.Wipe())
	}
	if e := m.Journal.Update(func(s *journal.State) {
		s.Agent.Service = name
		if err == nil && !since.IsZero() { // else it runs on as it was started
			s.Agent.Groups = journal.JoinedGroups(m.VM.Config.Agent.Groups)
		}
	}); err != nil || e != nil {
		return since, nil, errors.Join(err, e)
	}
	if name == "" {
		return since, phase.Fields{"runs": "as a process of the daemon"}, nil
	}
	return since, phase.Fields{"service": name}, nil
}

// serves finds out whether the agent that runs one job only may be started: not if it runs, as it may
// have ended when it would be started; and not before the server has said that it has begun none, but
// for one that was just registered.
func serves(ctx context.Context, m member.Member, at devops.Place, fresh bool) (runs bool, err error) {
	if fresh {
		return false, nil
	}
	if m.Runs() {
		return true, nil
	}
	c, err := m.Access.DevOps(ctx)
	if err != nil {
		return false, err
	}
	a, err := c.ByID(ctx, at, m.State().Agent.ID)
	if err != nil {
		return false, err
	}
	return false, m.MayServe(a)
}

// comesOnline is how long a started agent may take to show up: the listener waits at most four
// minutes for a session of its own that a crash left open (Agent.Listener, MessageListener.cs).
const comesOnline = 5 * time.Minute

// listen waits until an agent that was started at since says that it is connected, and reports
// whether it did. Azure DevOps, which thousands of others ask as well, need not be asked before.
func listen(ctx context.Context, m member.Member, since time.Time) (heard bool) {
	if since.IsZero() {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, member.SpeaksUp)
	defer cancel()
	err := m.Agent.Follow(ctx, m.State().Agent.Service, since, func(w agent.Word, _ string) {
		if w == agent.Connected {
			heard = true
			cancel()
		}
	})
	if err != nil && ctx.Err() == nil {
		m.Log.WithError(err).Debug("the agent's output cannot be followed")
	}
	return heard
}

// online confirms that Azure DevOps shows the agent online. heard says that the agent has told of
// its connection, begun when the waiting began or the last outage ended. since is when the agent was started once more;
// zero: it was not. proves is how long one may take that the daemon registered itself.
func online(
	ctx context.Context,
	m member.Member,
	at devops.Place,
	heard bool,
	begun time.Time,
	proves time.Duration,
) (since time.Time, f phase.Fields, err error) {
	if ctx.Err() != nil {
		_, notYet := notOnline(m, at)
		return since, nil, notYet.Passing()
	}
	c, err := m.Access.DevOps(ctx)
	if err != nil {
		return since, nil, err
	}
	ask := c.Agent
	if heard { // by this VM's own key: it is this VM's
		ask = c.Shown
	}
	a, err := ask(ctx, at, m.VM.AgentName)
	switch {
	case err != nil:
		return since, nil, err
	case a == nil:
		return since, nil, fault.New(fault.Service, "the server does not show the agent %s in "+
			"the %s", m.VM.AgentName, at).
			Hint("Somebody removed it while the VM was joining, or took the PAT's owner the right to see it; run " +
				"again.")
	case a.ID != m.State().Agent.ID || !heard && m.Whose(a) == member.AnotherVM:
		return since, nil, taken(m, at.String(), a)
	}
	served := m.MayServe(a) // one that runs a job stands as well as one that waits for it
	switch {
	case served != nil && !a.Online:
		return since, nil, served
	case a.Online:
		return since, phase.Fields{"agent": a.Name, "id": a.ID, "version": a.Version}, confirm(ctx, m, c, at, a)
	}
	if unproved(m) && c.Skewed() { // config.sh would say so
		return since, nil, agent.OfClock()
	}
	running, notYet := notOnline(m, at)
	waited := time.Since(begun)
	if unproved(m) && waited > proves {
		return since, nil, notYet.Because(fmt.Errorf("%w in %s", errUnproved, proves))
	}
	if waited > comesOnline {
		return since, nil, notYet
	}
	if !running && m.VM.AsProcess() {
		if since, _, err = startService(ctx, m, at, false); err != nil {
			return since, nil, err
		}
	}
	return since, nil, notYet.Passing().Retry(min(100*time.Millisecond+waited/4, 4*time.Second))
}

// notOnline is the fault of an agent that does not show online, and whether it runs at all.
func notOnline(m member.Member, at devops.Place) (running bool, f *fault.Error) {
	running, state := m.Agent.Running(m.State().Agent.Service)
	return running, fault.New(fault.Service, "the agent %s is started (%s) but not online in the %s", m.VM.AgentName, state, at).
		Hint("Look at its log: %s, or _diag in %s; it must reach Azure DevOps by itself (proxy, CA, firewall).",
			m.AgentLog(), m.Setup.Dir)
}

// confirm notes by what the agent is known from now on.
func confirm(ctx context.Context, m member.Member, c *devops.Client, at devops.Place, a *devops.Agent) error {
	if pool, err := c.Pool(ctx, at); err == nil { // an environment's has just been made, or has stood before
		at.PoolID = pool
	}
	if err := m.Journal.Update(func(s *journal.State) {
		if s.Unproven(a.ID) { // it has come all the same
			s.Fallback = nil
		}
		s.Agent.Version, s.Agent.ResourceID = a.Version, a.ResourceID
		s.Target.PoolID = at.PoolID
	}); err != nil {
		return err
	}
	return m.NoteEnabled(ctx, c, at, a)
}
