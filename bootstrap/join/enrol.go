package join

import (
	"context"
	"errors"
	"time"

	"azp-bootstrap/bootstrap/access"
	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/azure"
	"azp-bootstrap/bootstrap/config"
	"azp-bootstrap/bootstrap/devops"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/journal"
	"azp-bootstrap/bootstrap/member"
	"azp-bootstrap/bootstrap/phase"
)

// enrol registers the agent, over the one that stands there, if any: by config.sh, or by the daemon
// itself, if that is configured and has not failed on this VM. The intent is on disk before it begins.
func enrol(ctx context.Context, m member.Member, t *Try, there *devops.Agent) (phase.Fields, error) {
	if err := m.MayServe(nil); err != nil { // a registration anew is no way to a second job
		return nil, err
	}
	if err := m.Agent.WorkFolder(m.Setup.Work); err != nil { // before anything is changed
		return nil, err
	}
	if err := noteIntent(m, t.At.Place, there); err != nil {
		return nil, err
	}
	if err := m.Agent.Remove(ctx, m.State().Agent.Service); err != nil {
		return nil, err
	}
	if there != nil && m.State().Unproven(there.ID) {
		if err := m.Agent.Wipe(); err != nil {
			return nil, err
		}
		if there.Enabled || m.State().Agent.Drained { // one that a person disabled is replaced: a new one would take jobs
			c, err := m.Access.DevOps(ctx)
			if err == nil {
				err = c.Delete(ctx, t.At.Place, there)
			}
			if err != nil {
				return nil, err
			}
			there = nil
		}
	}
	r, err := registration(m, there != nil)
	if err != nil {
		return nil, err
	}
	if byRest(m) {
		return enrolByRest(ctx, m, t, there, r)
	}
	id, err := m.Agent.Configure(ctx, r, m.Access.PAT(), m.Redactor, logOutput(m))
	if errors.Is(err, agent.ErrKeptPAT) {
		unmake(ctx, m, t.At.Place)
	}
	t.met = errors.Is(err, agent.ErrInPool) // then it is looked at when this is tried again
	if err != nil {
		return nil, mayPass(err, t)
	}
	err = m.Journal.Update(func(s *journal.State) {
		s.Target = m.VM.TargetAt(t.At.Place)
		s.Agent = journal.Agent{Name: m.VM.AgentName, ID: id, Registered: r.Registered, Drained: s.Registering.Drained, Setup: m.Setup,
			Full: s.Agent.Full}
		m.BeginOnce(s)
		s.Registering = nil
	})
	return phase.Fields{"agent": m.VM.AgentName, "id": id}, err
}

// unknownPauses are what is waited before config.sh is tried again that failed with words that nobody
// knows: they may be of a fault that passes. After that the words are told.
var unknownPauses = []time.Duration{5 * time.Second, 15 * time.Second, 45 * time.Second}

func mayPass(err error, t *Try) error {
	f := fault.From(err)
	if f.Subject != agent.OfWords || t.unknown >= len(unknownPauses) {
		return err
	}
	t.unknown++
	again := *f
	return again.Passing().Retry(unknownPauses[t.unknown-1])
}

// noteIntent writes down what config.sh is about to do, for whoever finds it cut off.
func noteIntent(m member.Member, at devops.Place, there *devops.Agent) error {
	existing, drained := 0, false
	var before journal.Requests
	if once := m.State().Once; once != nil {
		before = once.Before
	}
	if there != nil {
		existing = there.ID
		ours := m.Whose(there) == member.ThisVM
		drained = !there.Enabled && (!ours || m.State().Agent.Drained)
		if !ours {
			before = journal.Requests(there.Given)
		}
		m.Log.WithFields(phase.Fields{"agent": there.Name, "id": there.ID, "online": there.Online}).
			Info("the agent of this name is taken over")
	}
	return m.Journal.Update(func(s *journal.State) {
		if made := s.Registering; made == nil || made.Name != m.VM.AgentName || made.Target.ID != at.ID {
			s.Registering = &journal.Registering{Name: m.VM.AgentName, Existing: existing, Target: m.VM.TargetAt(at),
				Before: before}
		}
		s.Registering.Drained = s.Registering.Drained || drained
	})
}

// unmake removes the agent that config.sh has just registered and that must not stay.
func unmake(ctx context.Context, m member.Member, at devops.Place) {
	c, err := m.Access.DevOps(ctx)
	if err != nil {
		return
	}
	if a, err := c.Agent(ctx, at, m.VM.AgentName); err == nil && a != nil && m.Whose(a) == member.ThisVM {
		_ = c.Delete(ctx, at, a)
	}
}

// maxOutput is how many lines of config.sh's output are logged; an honest run writes about thirty.
const maxOutput = 1000

// logOutput logs what config.sh writes. One that floods must not fill the journal.
func logOutput(m member.Member) func(line string) {
	lines := 0
	log := m.Log.WithFields(phase.Fields{"phase": journal.Register, "from": agent.Script})
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

func registration(m member.Member, replace bool) (agent.Registration, error) {
	c, t := m.VM.Config, m.VM.Config.Target
	proxy, err := m.Network.Through()
	if err != nil {
		return agent.Registration{}, err
	}
	trusted, err := m.Network.Authorities()
	r := agent.Registration{
		Kind: t.Kind(), Project: t.Project(), Name: t.Name(), Tags: m.VM.AgentTags, URL: c.Server.Base,
		AgentName: m.VM.AgentName, Work: m.Setup.Work, Replace: replace,
		Proxy: proxy, Bypass: m.Network.Bypass(), Trusted: trusted, SystemCAs: azure.Bundle(),
		Environment: c.Agent.Environment, Capabilities: m.VM.AgentCapabilities,
		Marks:     m.VM.Marks(time.Now().UTC().Format(time.RFC3339Nano)),
		ScopeHint: access.Target(c).ScopeHint(c.Credential.Entra, c.Server.Hosted), Timeout: c.Agent.ConfigureTimeout,
	}
	if !c.Server.Hosted && t.Kind() != config.KindPool {
		r.URL, r.Collection = c.Server.Root, c.Server.Collection
	}
	return r, err
}
