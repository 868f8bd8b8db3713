package bootstrap

import (
	"context"

	"github.com/sirupsen/logrus"

	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/devops"
	"azp-bootstrap/bootstrap/journal"
	"azp-bootstrap/bootstrap/member"
)

// regroup restarts an agent that was started with other groups than those of the configuration by now, when
// it runs no job: a process keeps the groups that it began with. While a group does not exist the agent runs
// on as it is.
func (k *keeper) regroup(ctx context.Context) {
	s, wants := k.journal.State(), k.member.VM.Config.Agent.Groups
	if k.member.Once() || s.Retires() { // it starts for its only job, or never again
		return
	}
	if s.Phase != journal.Ready || s.Agent.Groups == journal.JoinedGroups(wants) || ctx.Err() != nil {
		return
	}
	if !k.member.Runs() || k.held(&k.member) { // whoever starts it gives it its groups
		return
	}
	if _, err := agent.GroupNumbers(wants); err != nil {
		k.trouble(err, "the agent goes on with the groups that it has")
		return
	}
	log := k.Log.WithFields(logrus.Fields{
		"agent": s.Agent.Name, "groups": journal.JoinedGroups(wants), "before": s.Agent.Groups,
	})
	if !k.regroups {
		k.regroups = true
		log.Warn("agent.groups has changed: the agent takes no new job, and is restarted when it runs none")
	}
	if !k.idle(ctx, "the agent could not be disabled, and so it goes on with the groups that it has") {
		return
	}
	err := k.onServer(ctx, func(m member.Member, at member.Listed) error {
		if m.Works() { // begun in the instant before
			return member.Busy(s.Agent.Name)
		}
		k.restarts.Store(true) // it is no agent that is down
		defer k.restarts.Store(false)
		return restart(ctx, m, at.Place)
	})
	if err != nil {
		k.trouble(err, "the agent could not be restarted with its groups")
	} else {
		k.regroups = false
		log.Info("the agent runs with its groups")
	}
	if !k.journal.State().Agent.Full { // else it is enabled when there is room
		k.opens(ctx)
	}
}

// restart starts the agent that stands at p anew, with its service made anew. If it is cut off, the agent is
// down, and the next attempt starts it.
func restart(ctx context.Context, m member.Member, p devops.Place) error {
	known := m.State().Agent
	if err := m.Agent.Remove(ctx, known.Service); err != nil {
		return err
	}
	service := m.ServiceAt(p)
	service.Agent = known.Name
	name, err := m.Agent.Start(ctx, service, m.Network.CAFile)
	if err != nil {
		return err
	}
	return m.Journal.Update(func(s *journal.State) {
		s.Agent.Service, s.Agent.Groups = name, journal.JoinedGroups(service.Groups)
	})
}
