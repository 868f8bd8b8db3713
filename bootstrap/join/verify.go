package join

import (
	"context"
	"errors"
	"time"

	"azp-bootstrap/bootstrap/devops"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/journal"
	"azp-bootstrap/bootstrap/member"
	"azp-bootstrap/bootstrap/phase"
)

// Verify reports whether this VM, which was ready before, still is, so that there is nothing to do.
// The agent lives without the vault and without a PAT, so trouble in asking Azure DevOps is logged,
// not a reason to begin again.
func Verify(ctx context.Context, r phase.Runner, m member.Member, t *Try) bool {
	if !Whole(m) || !m.Runs() {
		return false
	}
	there, err := standing(ctx, m, t)
	if err != nil && ctx.Err() != nil { // told to do something else
		return true
	}
	if err != nil {
		m.Log.WithError(err).Warn("the agent runs, but Azure DevOps does not confirm it")
		r.Record(fault.From(err), phase.Beside)
		return true
	}
	return there
}

// Whole reports whether the agent that stands on this VM's disk is the one that it is to have.
func Whole(m member.Member) bool {
	id, err := m.Agent.Registered()
	s := m.State()
	whole := err == nil && id != 0 && id == s.Agent.ID && m.Agent.LaidFor() == m.VM.Instance.VMID
	return whole && s.Target.Named(m.VM.Target()) && s.Agent.Name == m.VM.AgentName
}

// standing asks Azure DevOps for the agent of the journal. false means that it is gone, or another
// VM's by now.
func standing(ctx context.Context, m member.Member, t *Try) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	c, err := m.Access.DevOps(ctx)
	if err != nil {
		return false, err
	}
	p, err := m.Placed(ctx, c)
	if err != nil {
		return false, err
	}
	t.At = Place{p, true}
	a, err := c.ByID(ctx, p, m.State().Agent.ID)
	switch {
	case errors.Is(err, devops.ErrGone):
		return false, nil
	case err != nil:
		return false, err
	}
	if a, err = m.Reclaim(ctx, c, p, a, &t.Drain); err != nil {
		return false, err
	}
	switch m.Whose(a) {
	case member.AnotherVM:
		t.Drain.Lost = true
		return false, nil
	case member.NobodyKnows:
		return false, member.Unclear(p, a)
	}
	if pool, err := c.Pool(ctx, p); err == nil {
		p.PoolID = pool
		t.At.Place = p
	}
	if err := m.NoteGiven(a); err != nil {
		return false, err
	}
	registered := m.Journal.Update(func(s *journal.State) {
		if s.Agent.Registered == "" { // of an earlier version
			s.Agent.Registered = a.Registered
		}
	})
	return true, errors.Join(registered, m.NotePlace(p), m.NoteEnabled(ctx, c, p, a), m.SetTags(ctx, c, p))
}
