package bootstrap

import (
	"context"
	"errors"
	"runtime"
	"time"

	"github.com/sirupsen/logrus"

	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/azure"
	"azp-bootstrap/bootstrap/config"
	"azp-bootstrap/bootstrap/devops"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/health"
)

// register makes the agent known to the server, once: what a crash left half done, on the server or
// on disk, is recognized and mended.
func register(ctx context.Context, b *Boot) (logrus.Fields, error) {
	c, err := b.devops(ctx)
	if err != nil {
		return nil, err
	}
	look, done := b.look(ctx, c)
	defer done()
	here, err := b.Runner.Registered()
	if err != nil {
		b.Log.WithError(err).Warn("the agent's ID is unreadable; it is registered anew")
	} else if here == 0 && b.untouched() { // a first boot: all is made ready for config.sh while the server is asked
		fields, err := b.enrol(ctx, c, false, 0, func() error {
			there, err := look()
			if err == nil && there != nil {
				err = errStands
			}
			return err
		})
		if !errors.Is(err, errStands) {
			return fields, err
		}
	}
	there, err := look()
	if err != nil {
		return nil, err
	}
	fields := logrus.Fields{"agent": b.Agent}
	if here != 0 && there != nil && there.ID == here && b.Runner.LaidFor() == b.VM.VMID && b.journal.Registering == nil && b.journal.Target == b.target() && b.journal.Agent.Name == b.Agent && b.ours(ctx, c, there) {
		fields["id"] = there.ID
		return fields, b.setTags(ctx, c, there)
	}
	if known := b.journal.Agent; there == nil && known.ID != 0 && known.Name == b.Agent && b.journal.Target == b.target() && b.journal.Registering == nil && !b.Config.Agent.Reregister {
		return nil, fault.New(fault.Target, "the agent %s was removed from the %s, and agent.reregister is off", b.Agent, b.Place).
			Hint("Set agent.reregister: true, or let this VM go.")
	}
	if err := b.leaveFormer(ctx); err != nil {
		return nil, err
	}
	c.Identify(ctx, b.Place, there)
	replace, err := b.mayTake(there)
	if err != nil {
		return nil, err
	}
	existing := 0
	if there != nil {
		existing = there.ID
		b.Log.WithFields(logrus.Fields{"agent": there.Name, "id": there.ID, "online": there.Online}).Info("the agent of this name is taken over")
	}
	return b.enrol(ctx, c, replace, existing, func() error { return nil })
}

// errStands says that an agent of our name stands on the server.
var errStands = errors.New("an agent of this name stands")

// look asks the server for an agent of our name, beside what comes next; done ends that.
func (b *Boot) look(ctx context.Context, c *devops.Client) (look func() (*devops.Agent, error), done func()) {
	ctx, cancel := context.WithCancel(ctx)
	var there *devops.Agent
	var err error
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		there, err = c.Agent(ctx, b.Place, b.Agent)
	}()
	runtime.Gosched() // the question goes first
	look = func() (*devops.Agent, error) {
		<-answered
		return there, err
	}
	return look, func() {
		cancel()
		<-answered
	}
}

// untouched: nothing on this VM tells of an agent.
func (b *Boot) untouched() bool {
	return b.Runner.LaidFor() == "" && b.journal.Registering == nil && b.journal.Agent.ID == 0
}

// enrol runs config.sh, when all is prepared and allowed says nothing against it. The intent is on disk before it begins.
func (b *Boot) enrol(ctx context.Context, c *devops.Client, replace bool, existing int, allowed func() error) (logrus.Fields, error) {
	if err := b.service().Check(); err != nil {
		return nil, err
	}
	if err := b.Runner.Remove(b.journal.Agent.Service); err != nil {
		return nil, err
	}
	if err := b.Runner.WorkFolder(b.Config.Agent.Work); err != nil {
		return nil, err
	}
	r, err := b.registration(replace)
	if err != nil {
		return nil, err
	}
	r.Await = func() error {
		if err := allowed(); err != nil {
			return err
		}
		if b.journal.Registering == nil || b.journal.Registering.Name != b.Agent {
			b.journal.Registering = &health.Registering{Name: b.Agent, Existing: existing}
		}
		return b.journal.write()
	}
	id, err := b.Runner.Configure(ctx, r, b.pat, b.Redactor, b.logOutput())
	if errors.Is(err, agent.ErrKeptPAT) {
		if dead, e := c.Agent(ctx, b.Place, b.Agent); e == nil && dead != nil {
			_ = c.Delete(ctx, b.Place, dead)
		}
	}
	if err != nil {
		return nil, err
	}
	b.journal.Target = b.target()
	b.journal.Agent = health.Agent{Name: b.Agent, ID: id}
	b.journal.Registering = nil
	b.enrolled = true
	// It is written with the next phase's beginning, which is at once; until then the intent tells of the agent.
	return logrus.Fields{"agent": b.Agent, "id": id}, nil
}

// maxOutput is how many lines of config.sh's output are logged; an honest run writes about thirty.
const maxOutput = 1000

// logOutput logs what config.sh writes. One that floods must not fill the journal.
func (b *Boot) logOutput() func(line string) {
	lines := 0
	log := b.Log.WithFields(logrus.Fields{"phase": health.Register, "from": agent.Script})
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

func (b *Boot) registration(replace bool) (agent.Registration, error) {
	c, t := b.Config, b.Config.Target
	proxy, err := b.network.Through()
	r := agent.Registration{
		Kind: t.Kind(), Project: t.Project(), Name: t.Name(), Tags: b.Tags, URL: c.Server.Base,
		AgentName: b.Agent, Work: c.Agent.Work, Replace: replace,
		Proxy: proxy, NoProxy: b.network.NoProxy, CAFile: b.network.CAFile, SystemCAs: azure.Bundle(),
		InstanceID: b.VM.VMID, ScaleSet: b.VM.ScaleSet, SubscriptionID: b.VM.SubscriptionID,
		ScopeHint: b.wanted().ScopeHint(c.Credential.Entra), Timeout: c.Agent.ConfigureTimeout,
	}
	if !c.Server.Hosted && t.Kind() != config.KindPool {
		r.URL, r.Collection = c.Server.Root, c.Server.Collection
	}
	return r, err
}

// mayTake decides about an agent that stands under our name: ours (by its instance ID, or because
// we were about to make it when we were cut off) is taken over; another's by agent.replace.
func (b *Boot) mayTake(there *devops.Agent) (replace bool, err error) {
	if there == nil {
		return false, nil
	}
	i := b.journal.Registering
	ours := there.InstanceID == b.VM.VMID || there.InstanceID == "" && b.journal.Agent.ID == there.ID && b.journal.InstanceID == b.VM.VMID && b.journal.Target == b.target() ||
		i != nil && i.Name == b.Agent && i.Existing == 0 && !there.Online && (there.InstanceID == "" || there.InstanceID == b.VM.VMID)
	policy := b.Config.Agent.Replace
	if ours || policy == "always" || policy == "offline" && !there.Online {
		return true, nil
	}
	return false, b.taken(there)
}

// taken is the fault of a name that another VM's agent bears.
func (b *Boot) taken(by *devops.Agent) *fault.Error {
	state := "offline"
	if by.Online {
		state = "online"
	}
	return fault.New(fault.Target, "the name %s is taken in the %s by another agent, which is %s (ID %d)", by.Name, b.Place, state, by.ID).
		Hint("Give each VM a name of its own (agent.name is a template), delete the other agent, or allow more with agent.replace (now: %s).", b.Config.Agent.Replace)
}

// leaveFormer takes the VM out of the target it was in before the configuration changed, when its job
// has ended: at most one agent of a VM, ever.
func (b *Boot) leaveFormer(ctx context.Context) error {
	former := b.journal.Target
	if b.journal.Agent.ID == 0 || former == b.target() && b.journal.Agent.Name == b.Agent {
		return nil
	}
	if b.drainUntil.IsZero() && b.Config.Drain.Enabled {
		b.drainUntil = time.Now().Add(b.Config.Drain.Timeout)
	}
	if err := b.withdraw(ctx); err != nil {
		return err
	}
	b.journal.Agent, b.journal.Target = health.Agent{}, health.Target{}
	return b.journal.write()
}
