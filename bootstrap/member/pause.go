package member

import (
	"context"

	"azp-bootstrap/bootstrap/devops"
	"azp-bootstrap/bootstrap/journal"
)

// hold keeps the agent of a VM that is paused from taking jobs: a person or, for a new registration,
// the server itself may have enabled it.
func (m Member) hold(ctx context.Context, c *devops.Client, p devops.Place, a *devops.Agent) error {
	if err := m.disable(ctx, c, p, a); err != nil {
		return err
	}
	return m.Journal.Update(func(s *journal.State) { s.Agent.Disabled = !s.Agent.Drained })
}

// Resume ends the pause of this VM: the agent that it disabled is enabled, and one that somebody else
// had disabled before stays so. It reports whether the agent takes jobs.
func (m Member) Resume(ctx context.Context, c *devops.Client, p devops.Place, a *devops.Agent) (works bool, err error) {
	if m.State().Agent.Full { // it is enabled when there is room for its jobs
		return a.Enabled, m.Journal.Update(func(s *journal.State) { s.Paused = nil })
	}
	if !a.Enabled && m.State().Agent.Drained {
		if err := c.Enable(ctx, p, a, true); err != nil {
			return false, err
		}
		a.Enabled = true
		m.Log.WithField("agent", a.Name).Info("the agent takes jobs again")
	}
	return a.Enabled, m.Journal.Update(func(s *journal.State) {
		s.Paused, s.Agent.Disabled, s.Agent.Drained = nil, !a.Enabled, false
	})
}
