package bootstrap

import (
	"context"
	"time"

	"github.com/sirupsen/logrus"

	"azp-bootstrap/bootstrap/devops"
)

// joined reports whether this VM was ready before and still is, so that there is nothing to do. The
// agent lives without the vault and without a PAT, so trouble in asking Azure DevOps is logged, not
// a reason to begin again.
func (b *Boot) joined(ctx context.Context) bool {
	id, err := b.Runner.Registered()
	if err != nil || id == 0 || b.journal.Target != b.target() || id != b.journal.Agent.ID || b.journal.Agent.Name != b.Agent || b.Runner.LaidFor() != b.VM.VMID {
		return false
	}
	if running, _ := b.Runner.Running(b.journal.Agent.Service); !running {
		return false
	}
	there, err := b.standing(ctx, b.journal.Agent.ID)
	if err != nil {
		b.Log.WithError(err).Warn("the agent runs, but Azure DevOps could not be asked about it")
		return true
	}
	return there
}

func (b *Boot) standing(ctx context.Context, id int) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	c, err := b.devops(ctx)
	if err != nil {
		return false, err
	}
	if b.Place, err = c.Find(ctx, b.wanted()); err != nil {
		return false, err
	}
	a, err := c.Agent(ctx, b.Place, b.Agent)
	if err != nil || a == nil || a.ID != id || !b.ours(ctx, c, a) {
		return false, err
	}
	if err := b.setTags(ctx, c, a); err != nil {
		b.Log.WithError(err).Warn("the agent's tags could not be set right")
	}
	return true, nil
}

// setTags sets tags right that differ from the configuration, over REST: the registration stays.
func (b *Boot) setTags(ctx context.Context, c *devops.Client, a *devops.Agent) error {
	if a.Tagged(b.Tags) {
		return nil
	}
	if err := c.SetTags(ctx, b.Place, a, b.Tags); err != nil {
		return err
	}
	b.Log.WithFields(logrus.Fields{"agent": a.Name, "tags": b.Tags, "before": a.Tags}).Info("the tags are set right")
	return nil
}
