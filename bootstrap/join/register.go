package join

import (
	"context"
	"errors"
	"time"

	"azp-bootstrap/bootstrap/access"
	"azp-bootstrap/bootstrap/devops"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/journal"
	"azp-bootstrap/bootstrap/member"
	"azp-bootstrap/bootstrap/phase"
)

// register makes the agent known to the server, once: what a crash left half done, on the server or
// on disk, is recognized and mended. fresh says that config.sh has just done it.
func register(ctx context.Context, m member.Member, t *Try) (fresh bool, f phase.Fields, err error) {
	if err := m.HeldUp(&t.Drain); err != nil {
		return false, nil, err
	}
	if err := mayRun(m, t.At.Place); err != nil { // before anything is changed
		return false, nil, err
	}
	c, err := m.Access.DevOps(ctx)
	if err != nil {
		return false, nil, err
	}
	if err := m.SettleIntent(ctx, t.At.Place); err != nil {
		return false, nil, err
	}
	there, err := c.Agent(ctx, t.At.Place, m.VM.AgentName)
	if err == nil {
		there, err = m.Reclaim(ctx, c, t.At.Place, there, &t.Drain)
	}
	if err == nil && m.Once() && !c.TellsOfJobs() {
		err = fault.New(fault.Target, "the server is too old for retire.jobs: 1: it does not tell which job an agent finished "+
			"last").
			Hint("Use Azure DevOps Services, or Azure DevOps Server 2019 Update 1 or later; or set retire.jobs: 0.")
	}
	if err == nil {
		err = m.MayServe(there)
	}
	if err != nil {
		return false, nil, err
	}
	replace := m.VM.Config.Agent.Replace
	if situationOf(m, t.At.Place, there).decide(replace) == keeps {
		if err := m.Journal.Update(func(s *journal.State) { s.Target = m.VM.TargetAt(t.At.Place) }); err != nil {
			return false, nil, err
		}
		_ = m.SetTags(ctx, c, t.At.Place) // it is listed: it was found by name
		return false, phase.Fields{"agent": m.VM.AgentName, "id": there.ID}, nil
	}
	if t.At.ByID { // config.sh knows names only: what bears the configured one by now is what the VM joins
		p, err := c.Find(ctx, access.Target(m.VM.Config))
		if err != nil {
			return false, nil, err
		}
		t.At = Place{Place: p}
		if there, err = c.Agent(ctx, p, m.VM.AgentName); err != nil {
			return false, nil, err
		}
	}
	switch situationOf(m, t.At.Place, there).decide(replace) {
	case asks:
		if err := mayReturn(ctx, m, c, t); err != nil {
			return false, nil, err
		}
	case refuses:
		return false, nil, taken(m, t.At.String(), there)
	}
	if err := makeRoom(ctx, m, c, t, there); err != nil {
		return false, nil, err
	}
	f, err = enrol(ctx, m, t, there)
	return err == nil, f, err
}

// makeRoom makes room for a registration at t.At: an agent of this VM that runs elsewhere, or here,
// makes way when its job has ended, and one that a deleted resource left behind is removed.
func makeRoom(ctx context.Context, m member.Member, c *devops.Client, t *Try, there *devops.Agent) (err error) {
	var left *devops.Agent
	if there == nil && t.met {
		if left, err = leftover(ctx, m, c, t.At.Place); err != nil {
			return err
		}
	}
	if err := mayBeLaid(m); err != nil {
		return err
	}
	if err := leaveFormer(ctx, m, t); err != nil {
		return err
	}
	if err := restsHere(ctx, m, c, t, there); err != nil {
		return err
	}
	if left == nil {
		return nil
	}
	m.Log.WithFields(phase.Fields{"agent": left.Name, "id": left.ID}).
		Warn("the agent of this name that a deleted resource left in the pool behind the target is removed")
	return c.Delete(ctx, t.At.Place, left)
}

// makeWay takes the VM out of its former target, if another one is configured and the VM can join
// that.
func makeWay(ctx context.Context, m member.Member, t *Try) error {
	if m.StandsAt(t.At.Place) && m.State().Agent.Name == m.VM.AgentName {
		return nil
	}
	if err := m.HeldUp(&t.Drain); err != nil {
		return err
	}
	if err := mayRun(m, t.At.Place); err != nil {
		return err
	}
	c, err := m.Access.DevOps(ctx)
	if err != nil {
		return err
	}
	if err := m.SettleIntent(ctx, t.At.Place); err != nil {
		return err
	}
	there, err := c.Agent(ctx, t.At.Place, m.VM.AgentName)
	if err != nil {
		return err
	}
	if err := MayTake(m, t.At.Place, there); err != nil {
		return err
	}
	if err := c.Manages(ctx, t.At.Place); err != nil {
		return err
	}
	if there == nil {
		left, err := leftover(ctx, m, c, t.At.Place)
		if err != nil {
			return err
		}
		t.met = left != nil
	}
	if err := mayBeLaid(m); err != nil {
		return err
	}
	return leaveFormer(ctx, m, t)
}

// mayRun refuses what would be registered and could never run.
func mayRun(m member.Member, at devops.Place) error {
	if err := m.ServiceAt(at).Check(); err != nil {
		return err
	}
	return m.Agent.Runnable()
}

// mayReturn decides whether a VM whose agent the target shows no more may register anew: only if
// the server says that the agent of the journal is gone, and not if agent.reregister is off.
func mayReturn(ctx context.Context, m member.Member, c *devops.Client, t *Try) error {
	a, err := c.ByID(ctx, t.At.Place, m.State().Agent.ID)
	if err == nil {
		a, err = m.Reclaim(ctx, c, t.At.Place, a, &t.Drain)
	}
	switch {
	case err == nil && m.Whose(a) == member.ThisVM:
		// A VM resource was deleted and left its agent in the pool, where config.sh would meet it.
		return c.Delete(ctx, t.At.Place, a)
	case err == nil:
		return taken(m, t.At.String(), a)
	case !errors.Is(err, devops.ErrGone):
		return err
	}
	if m.Once() {
		return fault.New(fault.Target, "the agent %s was removed from the %s, and nobody knows whether it had begun its "+
			"only job (retire.jobs: 1)", m.VM.AgentName, t.At).
			Hint("Let this VM go. Or, if it may take a job: azp-bootstrap deregister --local, then azp-bootstrap rejoin.")
	}
	if !m.VM.Config.Agent.Reregister {
		return fault.New(fault.Target, "the agent %s was removed from the %s, and agent.reregister "+
			"is off", m.VM.AgentName, t.At).
			Hint("Set agent.reregister: true, or let this VM go.")
	}
	return nil
}

// leaveFormer takes the VM out of the target it was in before the configuration changed, when its
// job has ended: at most one agent of a VM, ever.
func leaveFormer(ctx context.Context, m member.Member, t *Try) error {
	known := m.State().Agent
	if known.ID == 0 || m.StandsAt(t.At.Place) && known.Name == m.VM.AgentName {
		return nil
	}
	beginDrain(m, t)
	if err := m.Withdraw(ctx, &t.Drain); err != nil {
		return err
	}
	if err := m.Agent.Wipe(); err != nil { // else it would look like a registration whose state was lost
		return err
	}
	return m.Journal.Update(func(s *journal.State) { s.Agent, s.Target = journal.Agent{Full: s.Agent.Full}, journal.Target{} })
}

// mayBeLaid looks whether the agent's package is in place before an agent that runs is stopped for
// it.
func mayBeLaid(m member.Member) error {
	if !m.Runs() {
		return nil
	}
	_, err := m.Agent.Verify()
	return err
}

// beginDrain sets until when a job is waited for, once an attempt.
func beginDrain(m member.Member, t *Try) {
	if d := m.VM.Config.Drain; t.Drain.Until.IsZero() && d.Enabled {
		t.Drain.Until = time.Now().Add(d.Timeout)
	}
}

// restsHere waits for the job of an agent that is to be registered anew where it stands: its
// service is about to stop.
func restsHere(ctx context.Context, m member.Member, c *devops.Client, t *Try, there *devops.Agent) error {
	if !m.Runs() && !m.Works() { // also one of which a lost journal told
		return nil
	}
	beginDrain(m, t)
	if there != nil && m.Whose(there) == member.ThisVM {
		return m.Quiet(ctx, c, t.At.Place, there, &t.Drain)
	}
	if m.Waits(&t.Drain) {
		return member.Busy(m.VM.AgentName)
	}
	return nil
}
