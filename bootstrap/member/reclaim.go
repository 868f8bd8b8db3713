package member

import (
	"context"
	"runtime"
	"time"

	"github.com/sirupsen/logrus"

	"azp-bootstrap/bootstrap/devops"
	"azp-bootstrap/bootstrap/gate"
	"azp-bootstrap/bootstrap/journal"
	"azp-bootstrap/bootstrap/retry"
)

// SpeaksUp is how long an agent that was just started is listened to, or looked at, before it
// counts as silent. A few seconds are usual.
const SpeaksUp = 10 * time.Second

// Reclaim asks for a proof that no job can forge, if the agent of the journal does not show this
// VM: who registered an agent last has its key, and the server lets no other open a session as that
// agent. So the agent on this VM is started anew, with its marks written anew: if it is ours, it
// shows them with its new session. If another VM took it over, its key is refused, and that VM
// notices nothing. A job that runs here is not cut for it: then the agent is returned as it is, or
// the job is waited for. a may be nil.
func (m Member) Reclaim(
	ctx context.Context,
	c *devops.Client,
	p devops.Place,
	a *devops.Agent,
	d *Drain,
) (*devops.Agent, error) {
	known := m.State().Agent
	if a == nil || d.Lost || m.Whose(a) == ThisVM || !m.provable(a) {
		return a, nil
	}
	if m.Once() { // before its only job nobody has changed its marks; after it, it does not start again
		return a, nil
	}
	if d.waits() && m.Works() {
		return nil, Busy(known.Name)
	}
	if m.Works() {
		return a, nil
	}
	if g := gate.Of(m.VM, m.Journal.Dir()); m.State().Standby != nil || g.Wanted() && !g.Passed() { // nothing starts the agent before
		return a, nil
	}
	log := m.Log.WithFields(logrus.Fields{"agent": a.Name, "id": a.ID, "instance": a.InstanceID})
	log.Warn(
		"the agent of this VM shows another one: it was taken over, or a job changed its .env; its key tells, so " +
			"it is started anew",
	)
	ran := m.Runs()
	if err := m.Agent.Remove(ctx, known.Service); err != nil {
		return nil, err
	}
	service := m.ServiceAt(p)
	service.Agent = known.Name
	name, err := m.Agent.Start(ctx, service, m.Network.CAFile)
	if err != nil {
		return nil, err
	}
	if err := m.Journal.Update(func(s *journal.State) { s.Agent.Service = name }); err != nil {
		return nil, err
	}
	for end := time.Now().Add(SpeaksUp); m.Whose(a) != ThisVM && time.Now().Before(end) && retry.Pause(ctx, time.Second); {
		now, err := c.ByID(ctx, p, a.ID)
		if err != nil {
			return nil, err
		}
		now.ResourceID, now.Tags = a.ResourceID, a.Tags
		a = now
	}
	if m.Whose(a) == ThisVM {
		log.Info("it is this VM's: it shows so again")
	} else if !ran {
		return a, m.Agent.Remove(ctx, name)
	}
	return a, nil
}

// provable reports whether Reclaim can tell whose an agent is: by a registration of this VM that is
// whole.
func (m Member) provable(a *devops.Agent) bool {
	s := m.State()
	if runtime.GOOS == "windows" { // there config.cmd alone can make the service anew
		return false
	}
	here, err := m.Agent.Registered()
	whole := err == nil && here == a.ID && m.Agent.LaidFor() == m.VM.Instance.VMID
	return whole && s.Registering == nil && s.Agent.Registered != "" && s.Agent.ID == a.ID
}
