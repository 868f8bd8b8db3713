package member

import (
	"context"
	"errors"

	"azp-bootstrap/bootstrap/devops"
	"azp-bootstrap/bootstrap/journal"
)

// hold keeps the agent of a VM that is paused from taking jobs: a person or, for a new registration,
// the server itself may have enabled it.
func (m Member) hold(ctx context.Context, c *devops.Client, p devops.Place, a *devops.Agent) error {
	if err := m.disable(ctx, c, p, a); err != nil {
		return err
	}
	return m.Journal.Update(func(s *journal.State) {
		s.Agent.Disabled = !s.Agent.Drained
		if s.Paused != nil {
			held := *s.Paused
			held.Held = true
			s.Paused = &held
		}
	})
}

// Resume ends the pause of this VM: the agent that it disabled is enabled, and one that somebody else
// had disabled before stays so. It reports whether the agent takes jobs.
func (m Member) Resume(ctx context.Context, c *devops.Client, p devops.Place, a *devops.Agent) (works bool, err error) {
	before := m.State()
	if before.Shut() { // it is enabled when there is room for its jobs
		return a.Enabled, m.Journal.Update(func(s *journal.State) { s.Paused = nil })
	}
	// On disk before: if this is cut off, the daemon enables the agent, which a pause has drained.
	if err := m.Journal.Update(func(s *journal.State) { s.Paused = nil }); err != nil {
		return false, err
	}
	if !a.Enabled && before.Agent.Drained {
		if err := c.Enable(ctx, p, a, true); err != nil {
			return false, errors.Join(err, m.Journal.Update(func(s *journal.State) { s.Paused = before.Paused }))
		}
		a.Enabled = true
		m.Log.WithField("agent", a.Name).Info("the agent takes jobs again")
	}
	return a.Enabled, m.Journal.Update(func(s *journal.State) {
		s.Agent.Disabled, s.Agent.Drained = !a.Enabled, false
	})
}
