package bootstrap

import (
	"context"
	"runtime"
	"time"

	"github.com/sirupsen/logrus"

	"azp-bootstrap/bootstrap/devops"
	"azp-bootstrap/bootstrap/journal"
	"azp-bootstrap/bootstrap/retry"
)

// reclaim asks for a proof that no job can forge, if the agent of the journal does not show this VM: who registered an agent last
// has its key, and the server lets no other open a session as that agent. So the agent on this VM is started anew, with its marks
// written anew: if it is ours, it shows them with its new session. If another VM took it over, its key is refused, and that VM
// notices nothing. A job that runs here is not cut for it: then the agent is returned as it is, or the job is waited for.
func (b *Boot) reclaim(ctx context.Context, c *devops.Client, p devops.Place, a *devops.Agent) (*devops.Agent, error) {
	known := b.state().Agent
	if a == nil || b.lost || b.whose(a) == thisVM || !b.provable(a) {
		return a, nil
	}
	if b.worksOn() {
		return nil, working(known.Name)
	}
	if b.Runner.Working(known.Service) {
		return a, nil
	}
	log := b.Log.WithFields(logrus.Fields{"agent": a.Name, "id": a.ID, "instance": a.InstanceID})
	log.Warn("the agent of this VM shows another one: it was taken over, or a job changed its .env; its key tells, so it is started anew")
	ran := b.agentRuns()
	if err := b.Runner.Remove(ctx, known.Service); err != nil {
		return nil, err
	}
	service := b.service()
	service.Agent = known.Name
	if service.Group = p.PoolName; service.Group == "" {
		service.Group = p.Name
	}
	name, err := b.Runner.Start(ctx, service, b.network.CAFile)
	if err != nil {
		return nil, err
	}
	if err := b.journal.Update(func(s *journal.State) { s.Agent.Service = name }); err != nil {
		return nil, err
	}
	for end := time.Now().Add(speaksUp); b.whose(a) != thisVM && time.Now().Before(end) && retry.Pause(ctx, time.Second); {
		now, err := c.ByID(ctx, p, a.ID)
		if err != nil {
			return nil, err
		}
		now.ResourceID, now.Tags = a.ResourceID, a.Tags
		a = now
	}
	if b.whose(a) == thisVM {
		log.Info("it is this VM's: it shows so again")
	} else if !ran {
		return a, b.Runner.Remove(ctx, name)
	}
	return a, nil
}

// provable reports whether reclaim can tell whose an agent is: by a registration of this VM that is whole.
func (b *Boot) provable(a *devops.Agent) bool {
	s := b.state()
	known := s.Agent
	here, err := b.Runner.Registered()
	return runtime.GOOS != "windows" && // there config.cmd alone can make the service anew
		known.Registered != "" && a.ID == known.ID && s.Registering == nil && err == nil && here == a.ID &&
		b.Runner.LaidFor() == b.VM.VMID
}
