package join

import (
	"context"
	"errors"
	"time"

	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/config"
	"azp-bootstrap/bootstrap/devops"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/journal"
	"azp-bootstrap/bootstrap/member"
	"azp-bootstrap/bootstrap/phase"
)

// This file registers without config.sh, and gives that up where it does not do (docs/decisions/by-rest.md).

// byRest reports whether the daemon itself registers this VM's agent.
func byRest(m member.Member) bool {
	return m.VM.Config.Agent.Registration == config.ByRest && m.State().Fallback == nil
}

// enrolByRest registers the agent, over the one that stands there, if any. The server's answer is in
// the journal before anything else happens: who is cut off then finds on the server what the journal
// knows, and nothing whole on disk, and so registers over it.
func enrolByRest(
	ctx context.Context,
	m member.Member,
	t *Try,
	there *devops.Agent,
	r agent.Registration,
) (phase.Fields, error) {
	c, err := m.Access.DevOps(ctx)
	if err != nil {
		return nil, err
	}
	t.session = there != nil && there.Online
	id, err := m.Agent.Enrol(ctx, r, func(ctx context.Context, n agent.Newcomer) (made agent.Enrolment, err error) {
		e, err := c.Register(ctx, t.At.Place, there, devops.Newcomer{
			Name: r.AgentName, Version: n.Version, OSDescription: n.OSDescription, PublicKey: n.Key,
			Capabilities: n.Capabilities, Tags: r.Tags,
		})
		t.met = fault.From(err) != nil && fault.From(err).Subject == devops.OfPool // it is looked at when this is tried again
		if err != nil {
			return made, err
		}
		if err := m.Journal.Update(func(s *journal.State) {
			s.Target = m.VM.TargetAt(t.At.Place)
			s.Agent = journal.Agent{Name: r.AgentName, ID: e.ID, ResourceID: e.ResourceID, Registered: r.Registered, By: config.ByRest,
				Drained: s.Registering.Drained, Setup: m.Setup, Full: s.Agent.Full}
			m.BeginOnce(s)
			s.Registering = nil
		}); err != nil {
			return made, err
		}
		return enrolment(ctx, m, c, t, e)
	})
	if err != nil {
		return nil, err
	}
	m.Log.WithFields(phase.Fields{"agent": r.AgentName, "id": id, "over": there != nil}).
		Info("the daemon has registered the agent itself: no other process had the PAT")
	return phase.Fields{"agent": r.AgentName, "id": id}, nil
}

// enrolment completes what the server said of an agent that it has just registered.
func enrolment(ctx context.Context, m member.Member, c *devops.Client, t *Try, e devops.Enrolled) (made agent.Enrolment, err error) {
	p := t.At.Place
	known := &devops.Agent{ID: e.ID, ResourceID: e.ResourceID, Name: m.VM.AgentName}
	if e.ClientID == "" || e.AuthURL == "" {
		refused := fault.New(fault.Agent, "the server offers no key exchange, as TFS 2015 does not: an agent would have to keep the PAT").
			Hint("Upgrade the server to TFS 2018 Update 2 or newer: this one cannot be joined without leaving the PAT " +
				"where jobs can read it.")
		if err := c.Delete(ctx, p, known); err != nil { // the next attempt finds it by the journal
			return made, errors.Join(refused, err)
		}
		return made, errors.Join(refused, m.Journal.Update(func(s *journal.State) {
			s.Agent, s.Target = journal.Agent{Full: s.Agent.Full}, journal.Target{}
		}))
	}
	if p.PoolID, err = c.Pool(ctx, p); err != nil {
		return made, err
	}
	if p.Kind == devops.DeploymentGroup && len(m.VM.AgentTags) > 0 { // an environment's came with it
		if err := c.SetTags(ctx, p, known, m.VM.AgentTags); err != nil {
			return made, err
		}
	}
	made = agent.Enrolment{
		ID: e.ID, ResourceID: e.ResourceID, TargetID: p.ID, PoolID: p.PoolID, PoolName: p.PoolName, ProjectID: p.ProjectID,
		ServerURL: e.ServerURL, ClientID: e.ClientID, AuthURL: e.AuthURL, OnPremises: !m.VM.Config.Server.Hosted,
	}
	return made, nil
}

// errUnproved says that an agent which the daemon registered itself has not come online.
var errUnproved = errors.New("registered by the daemon itself, it has not come online")

// unproved reports whether the agent of the journal was registered by the daemon itself and was never
// seen online, and nobody has given that up yet.
func unproved(m member.Member) bool {
	s := m.State()
	return s.Fallback == nil && s.Agent.By == config.ByRest && !s.Agent.Confirmed()
}

// provesIn is how long an agent that the daemon registered itself may take to come online.
func provesIn(m member.Member, t *Try) time.Duration {
	if t.session {
		return max(m.VM.Config.Agent.OnlineTimeout, comesOnline)
	}
	return m.VM.Config.Agent.OnlineTimeout
}

// mayBeTheWay reports whether a registration may have failed because the daemon did it, so that
// config.sh may do it.
func mayBeTheWay(f *fault.Error) bool {
	return f != nil && (f.Subject == devops.OfFormat || f.Subject == agent.OfPackage)
}

// fallBack lets config.sh register this VM's agent from now on. What stands on the server and on disk
// is removed by the next registration.
func fallBack(r phase.Runner, m member.Member, why *fault.Error) error {
	if err := m.Journal.Update(func(s *journal.State) { s.FallBack(m.Redactor.Redact(why.Error())) }); err != nil {
		return err
	}
	r.Report.FellBack(m.State(), why)
	return nil
}
