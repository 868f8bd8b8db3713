package member

import (
	"context"

	"github.com/sirupsen/logrus"

	"azp-bootstrap/bootstrap/devops"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/journal"
)

// NoteEnabled enables an agent that a drain had disabled. One that somebody disabled stays so, and
// is shown. That of a VM that is paused, or has no room for jobs, takes none, whoever has enabled it.
func (m Member) NoteEnabled(ctx context.Context, c *devops.Client, p devops.Place, a *devops.Agent) error {
	if s := m.State(); s.Paused != nil || s.Shut() {
		return m.hold(ctx, c, p, a)
	}
	note := func(disabled, drained bool) error {
		return m.Journal.Update(func(s *journal.State) { s.Agent.Disabled, s.Agent.Drained = disabled, drained })
	}
	if a.Enabled {
		return note(false, false)
	}
	log := m.Log.WithFields(logrus.Fields{"agent": a.Name, "id": a.ID})
	if !m.State().Agent.Drained {
		log.Warn("the agent is disabled in Azure DevOps: it takes no job until somebody enables it there")
		return note(true, false)
	}
	if err := c.Enable(ctx, p, a, true); err != nil {
		log.WithError(err).
			Warn("the agent, which a drain had disabled, could not be enabled: enable it in Azure DevOps")
		return note(true, true)
	}
	log.Info("the agent, which a drain had disabled, takes jobs again")
	return note(false, false)
}

// SetTags sets tags right that differ from the configuration, over REST: the registration stays. A
// tag is no reason to fail. What it returns is that the target does not list the VM at all, so that
// it gets no job.
func (m Member) SetTags(ctx context.Context, c *devops.Client, p devops.Place) (unlisted error) {
	if p.Kind == devops.Pool {
		return nil
	}
	known := m.State().Agent
	a, err := c.Shown(ctx, p, known.Name)
	if err == nil && (a == nil || a.ID != known.ID) {
		return fault.New(fault.Target, "the %s does not list the agent %s, which stands in its pool and runs: it "+
			"gets no job", p, known.Name).
			Hint("Somebody deleted it on the target's page. azp-bootstrap deregister, then azp-bootstrap " +
				"rejoin, joins anew.")
	}
	if err == nil {
		if err := m.Journal.Update(func(s *journal.State) { s.Agent.ResourceID = a.ResourceID }); err != nil {
			return err
		}
		if a.Tagged(m.VM.AgentTags) {
			return nil
		}
		err = c.SetTags(ctx, p, a, m.VM.AgentTags)
	}
	if err != nil {
		m.Log.WithError(err).Warn("the agent's tags could not be updated")
		return nil
	}
	m.Log.WithFields(logrus.Fields{"agent": a.Name, "tags": m.VM.AgentTags, "before": a.Tags}).
		Info("the tags are updated")
	return nil
}
