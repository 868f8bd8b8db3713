package join

import (
	"context"

	"azp-bootstrap/bootstrap/config"
	"azp-bootstrap/bootstrap/journal"
	"azp-bootstrap/bootstrap/line"
	"azp-bootstrap/bootstrap/member"
	"azp-bootstrap/bootstrap/phase"
	"azp-bootstrap/bootstrap/vm"
)

// Discover asks IMDS which VM this is, lets user data and tags complete the configuration, and makes
// what that names. A disk that was another VM's is wiped of that VM's registration; the server is not
// told, because the agent may be the other VM's. If user data or tags are refused, there is a member
// beside the error all the same: a VM that IMDS knows can leave, and its agent can run on.
func Discover(
	ctx context.Context, w member.Means, j *journal.Journal, s *vm.Sources,
) (member.Member, phase.Fields, error) {
	v, refused := s.Identify(ctx)
	if !v.Known() {
		return member.Member{}, nil, refused
	}
	m, err := w.Member(v, j, s.IMDS)
	if err != nil {
		return m, nil, err
	}
	id, before := v.Instance.VMID, m.State().InstanceID
	laid := m.Agent.LaidFor()
	laidForAnother := before == "" && laid != "" && laid != id
	if before != id && (before != "" || laidForAnother) {
		m.Log.WithFields(phase.Fields{"instance": id, "before": before + laid}).
			Warn("this disk was another VM's: its local registration is wiped, this VM boots as new")
		if err := forget(ctx, m); err != nil {
			return m, nil, err
		}
	}
	if unread := config.Unread(v.Config, v.Instance.UserData, v.Instance.Tags); unread != "" {
		m.Log.Warn(line.Shown(unread))
	}
	if before != id {
		if err := j.Update(func(s *journal.State) { s.NewInstance(id) }); err != nil {
			return m, nil, err
		}
	}
	if before != id && before != "" { // what the other VM's agent was set up with counts no more
		if m, err = w.Member(v, j, s.IMDS); err != nil {
			return m, nil, err
		}
	}
	return m, phase.Fields{
		"vm": v.Instance.Name, "instance": id, "location": v.Instance.Location, "agent": v.AgentName,
	}, refused
}

// forget removes another VM's service and registration from this disk.
func forget(ctx context.Context, m member.Member) error {
	if err := m.Agent.Remove(ctx, m.State().Agent.Service); err != nil {
		return err
	}
	if err := m.Agent.Guarded(); err != nil { // only what is root's to empty is emptied
		return err
	}
	return m.Agent.Wipe()
}
