package bootstrap

import (
	"context"
	"errors"
	"time"

	"github.com/sirupsen/logrus"

	"azp-bootstrap/bootstrap/access"
	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/azure"
	"azp-bootstrap/bootstrap/config"
	"azp-bootstrap/bootstrap/devops"
	"azp-bootstrap/bootstrap/journal"
)

// enrol runs config.sh, over the agent that stands there, if any. The intent is on disk before it begins.
func (b *Boot) enrol(ctx context.Context, there *devops.Agent) (logrus.Fields, error) {
	existing, drained := 0, false
	if there != nil {
		existing = there.ID
		drained = !there.Enabled && (b.whose(there) != thisVM || b.state().Agent.Drained)
		b.Log.WithFields(logrus.Fields{"agent": there.Name, "id": there.ID, "online": there.Online}).Info("the agent of this name is taken over")
	}
	if err := b.journal.Update(func(s *journal.State) {
		if made := s.Registering; made == nil || made.Name != b.Agent || made.Target.ID != b.Place.ID {
			s.Registering = &journal.Registering{Name: b.Agent, Existing: existing, Target: b.joining()}
		}
		s.Registering.Drained = s.Registering.Drained || drained
	}); err != nil {
		return nil, err
	}
	if err := b.Runner.Remove(ctx, b.state().Agent.Service); err != nil {
		return nil, err
	}
	if err := b.Runner.WorkFolder(b.Config.Agent.Work); err != nil {
		return nil, err
	}
	r, err := b.registration(there != nil)
	if err != nil {
		return nil, err
	}
	id, err := b.Runner.Configure(ctx, r, b.access.PAT(), b.Redactor, b.logOutput())
	if errors.Is(err, agent.ErrKeptPAT) {
		b.unmake(ctx)
	}
	b.met = errors.Is(err, agent.ErrInPool) // then it is looked at when this is tried again
	if err != nil {
		return nil, err
	}
	b.fresh = true
	if err := b.journal.Update(func(s *journal.State) {
		s.Target = b.joining()
		s.Agent = journal.Agent{Name: b.Agent, ID: id, Registered: r.Registered, Drained: s.Registering.Drained}
		s.Registering = nil
	}); err != nil {
		return nil, err
	}
	return logrus.Fields{"agent": b.Agent, "id": id}, nil
}

// unmake removes the agent that config.sh has just registered and that must not stay.
func (b *Boot) unmake(ctx context.Context) {
	c, err := b.access.DevOps(ctx)
	if err != nil {
		return
	}
	if a, err := c.Agent(ctx, b.Place, b.Agent); err == nil && a != nil && b.whose(a) == thisVM {
		_ = c.Delete(ctx, b.Place, a)
	}
}

// maxOutput is how many lines of config.sh's output are logged; an honest run writes about thirty.
const maxOutput = 1000

// logOutput logs what config.sh writes. One that floods must not fill the journal.
func (b *Boot) logOutput() func(line string) {
	lines := 0
	log := b.Log.WithFields(logrus.Fields{"phase": journal.Register, "from": agent.Script})
	return func(line string) {
		if line == "" {
			return
		}
		switch lines++; {
		case lines <= maxOutput:
			log.Info(line)
		case lines == maxOutput+1:
			log.Warnf("%d lines were logged; the rest of the output is read, but not logged", maxOutput)
		}
	}
}

// marks are what the agent tells of this VM.
func (b *Boot) marks(registered string) agent.Marks {
	return agent.Marks{InstanceID: b.VM.VMID, ScaleSet: b.VM.ScaleSet, ResourceGroup: b.VM.ResourceGroup,
		SubscriptionID: b.VM.SubscriptionID, Registered: registered}
}

func (b *Boot) registration(replace bool) (agent.Registration, error) {
	c, t := b.Config, b.Config.Target
	proxy, err := b.network.Through()
	r := agent.Registration{
		Kind: t.Kind(), Project: t.Project(), Name: t.Name(), Tags: b.Tags, URL: c.Server.Base,
		AgentName: b.Agent, Work: c.Agent.Work, Replace: replace,
		Proxy: proxy, NoProxy: b.network.NoProxy, CAFile: b.network.CAFile, SystemCAs: azure.Bundle(),
		Marks:     b.marks(time.Now().UTC().Format(time.RFC3339Nano)),
		ScopeHint: access.Target(b.Config).ScopeHint(c.Credential.Entra, c.Server.Hosted), Timeout: c.Agent.ConfigureTimeout,
	}
	if !c.Server.Hosted && t.Kind() != config.KindPool {
		r.URL, r.Collection = c.Server.Root, c.Server.Collection
	}
	return r, err
}
