package bootstrap

import (
	"context"
	"errors"
	"time"

	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/azure"
	"azp-bootstrap/bootstrap/config"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/journal"
	"azp-bootstrap/bootstrap/member"
)

// wake lets agents start whose VM this is, once in each boot: their services wait for the word that
// it is. It needs no PAT, and counts whatever has become of configuration and state. A work folder
// on a disk that came back empty is made anew before, if the configuration is known (m); an agent
// whose disk is not there yet sleeps on.
func (p *program) wake(ctx context.Context, m *member.Member, here func(agent.Sleeper) bool) {
	if p.Agent != nil { // a simulated one, which no service keeps
		return
	}
	if m != nil && m.Once() { // it starts when the server has said that it has begun no job
		return
	}
	walled := m == nil // then the wall is the last one's
	for _, s := range agent.Sleepers() {
		if !here(s) {
			continue
		}
		if !walled {
			walled = true
			p.wall(ctx, *m) //nolint:errcheck // said when it was looked whether it holds
		}
		var err error
		if m != nil {
			if err = m.Agent.WorkFolder(m.Setup.Work); awaitsDisk(err) {
				p.Log.WithError(err).WithField("service", s.Unit).Warn("the agent is not started yet")
				continue
			}
		}
		if err = errors.Join(err, s.Wake(ctx)); err != nil {
			p.Log.WithError(err).WithField("service", s.Unit).Warn("the agent could not be started as it stands")
		}
	}
}

// awaitsDisk reports whether a work folder could not be made because its disk is not mounted: then no
// job can run, and what would be written hides below the disk when it comes.
func awaitsDisk(err error) bool { return err != nil && fault.From(err).Class == fault.Disk }

// wakeAnyway is wake for a configuration that is refused: IMDS is asked where it is by default.
func (p *program) wakeAnyway(ctx context.Context, m *member.Member) {
	if p.shut(m) || p.Agent != nil || len(agent.Sleepers()) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	imds := azure.NewIMDS(config.DefaultIMDS(), p.Dial)
	if p.stoodBy() {
		if in, err := imds.InStandbyPool(ctx); in || err != nil {
			return
		}
	}
	if i, err := imds.Instance(ctx); err == nil {
		p.wake(ctx, m, func(s agent.Sleeper) bool { return s.Instance == i.VMID })
	}
}

// runOn starts the agent of a VM that stood ready, where it is the daemon's own process and ended
// with the daemon before: it needs no PAT, and a service manager would have started it as well,
// whatever has become of the configuration.
func (a *attempt) runOn(ctx context.Context, stood journal.State) {
	m := a.member
	ours := !a.lost && m.VM.Known() && m.VM.AsProcess() && !m.Once() && untouched(stood, m.State())
	if ctx.Err() != nil || !ours || a.held(&m) || m.Runs() || m.Agent.LaidFor() != m.VM.Instance.VMID {
		return
	}
	if id, err := m.Agent.Registered(); err != nil || id != m.State().Agent.ID {
		return
	}
	if err := m.Agent.WorkFolder(m.Setup.Work); awaitsDisk(err) { // it was waited for
		return
	}
	if _, err := m.Agent.Start(ctx, m.ServiceAt(member.PlaceOf(m.State().Target)), m.Network.CAFile); err != nil {
		a.Log.WithError(err).Warn("the agent could not be started as it stands")
	}
}
