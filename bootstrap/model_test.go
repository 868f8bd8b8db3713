//go:build linux

package bootstrap_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"azp-bootstrap/bootstrap"
	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/journal"
	"azp-bootstrap/bootstrap/sim"
)

var interleavings = flag.Int(
	"interleavings",
	25,
	"sequences of crashes, restarts, clones, renames, takeovers, pauses, full disks and terminations",
)

// TestEveryInterleaving plays sequences of boots, restarts, clones, terminations, jobs, agents that
// somebody removes, disables or enables, pauses, full disks, names that change and VMs of one name, each of them
// cut off at a random effect or not at all, and looks after each step whether what must hold does: no
// agent of another VM is touched but one that is offline and has this VM's name, no job is cut, nobody's
// wish is undone, no event of others is acknowledged, no agent starts in a standby pool.
func TestEveryInterleaving(t *testing.T) {
	for n := range few(*interleavings) {
		s := *seed + uint64(n)
		t.Run(fmt.Sprint("seed ", s), func(t *testing.T) {
			t.Parallel()
			dir := quickDir(t)
			synctest.Test(t, func(t *testing.T) { newPlay(t, dir, rand.New(rand.NewPCG(s, 3))).run() })
		})
	}
}

// A play is one such sequence.
type play struct {
	*fleet
	t        *testing.T
	ctx      context.Context
	end      func()
	r        *rand.Rand
	all      []*mortal
	name     string           // of the environment, by now
	disabled map[int]bool     // IDs of agents that a person has disabled
	replaced map[*mortal]bool // VMs that got another's disk
	story    []string
}

const vms = 4 // the last has the name of the first

func newPlay(t *testing.T, dir string, r *rand.Rand) *play {
	ctx, cancel := context.WithCancel(context.Background())
	p := &play{t: t, ctx: ctx, end: func() { over(cancel) }, r: r, name: "production"}
	p.disabled, p.replaced = map[int]bool{}, map[*mortal]bool{}
	p.fleet = newFleet(ctx, t, dir, vms, func(s *sim.Scenario) { s.VMs[vms-1].ComputerName = s.VMs[0].ComputerName })
	byName := map[string]*mortal{}
	never := r.IntN(2) == 0
	for i := range vms {
		m := &mortal{machine: p.machine(i)}
		m.never = never
		m.registration = []string{"script", "rest"}[r.IntN(2)]
		if i == vms-1 {
			m.called = "web-000000"
		}
		dial := m.dial
		m.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			if !m.powered() {
				return nil, errDead
			}
			return dial(ctx, network, address)
		}
		p.hasADisk(m)
		if r.IntN(2) == 0 {
			p.hasAGate(m)
		}
		p.all = append(p.all, m)
		byName[m.name] = m
	}
	p.front(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			m := byName[r.RemoteAddr]
			drop := func() {
				if c, _, err := http.NewResponseController(w).Hijack(); err == nil {
					_ = c.Close()
				}
			}
			if !m.effect() {
				drop()
				return
			}
			rec := &recorded{header: http.Header{}, status: http.StatusOK}
			next.ServeHTTP(rec, r)
			if !m.effect() {
				drop()
				return
			}
			maps.Copy(w.Header(), rec.header)
			w.WriteHeader(rec.status)
			_, _ = w.Write([]byte(rec.body.String()))
		})
	})
	return p
}

func (p *play) run() {
	defer p.end()
	for range 6 + p.r.IntN(12) {
		if m := p.all[p.r.IntN(vms)]; !m.gone {
			p.step(m)
		}
		if p.t.Failed() {
			break
		}
	}
	p.atLast()
	if p.t.Failed() {
		p.t.Logf("%s\nat last: %v", strings.Join(p.story, "\n"), p.azure.Agents())
		for _, m := range p.all {
			p.t.Logf("%s: %+v\n%s", m.name, m.disk, m.said.String())
		}
	}
}

func once(ctx context.Context, o bootstrap.Options) error { return bootstrap.Run(ctx, o) }

func leaving(how bootstrap.Leaving) func(ctx context.Context, o bootstrap.Options) error {
	return func(ctx context.Context, o bootstrap.Options) error {
		_, err := bootstrap.Deregister(ctx, o, how)
		return err
	}
}

// takenIn is when Azure takes a VM away.
const takenIn = 20 * time.Minute

// roomy is a disk with room for jobs.
const roomy = 50 << 30

// hasADisk gives a VM a work disk, and scripts that make room, or not. While they are at work the server has
// nothing to give a job to.
func (p *play) hasADisk(m *mortal) {
	m.free.Store(roomy)
	m.room = func() agent.Room { return agent.Room{Folder: "/mnt/work", Free: m.free.Load()} }
	m.clean = func(ctx context.Context) error {
		for range 1 + p.r.IntN(30) {
			for _, a := range p.agents() {
				if a.InstanceID == m.instance() && a.Status == "online" && !a.Disabled && m.powered() {
					p.t.Errorf("%s: scripts make room, and the agent %v takes jobs", m.name, a)
				}
			}
			if m.Working("") {
				p.t.Errorf("%s: scripts make room under a job", m.name)
			}
			time.Sleep(4 * time.Second)
			if ctx.Err() != nil || !m.powered() {
				return ctx.Err()
			}
		}
		if p.r.IntN(2) == 0 {
			m.free.Store(roomy)
			return nil
		}
		return errors.New("the scripts make no room")
	}
}

// watching is the daemon for half an hour.
func watching(ctx context.Context, o bootstrap.Options) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Minute)
	defer cancel()
	o.Once, o.Set = false, []string{"health.listen="}
	return bootstrap.Run(ctx, o)
}

// roomAsTold looks whether a VM that was watched takes jobs if it has room for them, and none if it has not.
func (p *play) roomAsTold(m *mortal, cut bool) {
	s, _, err := journal.Read(m.state)
	if cut || err != nil || s.Phase != journal.Ready || s.InstanceID != m.instance() {
		return
	}
	for _, a := range p.agents() {
		if a.InstanceID != m.instance() || a.ID != s.Agent.ID {
			continue
		}
		full := m.free.Load() < roomy
		switch {
		case full && !a.Disabled && !m.Working(""):
			p.t.Errorf("%s has no room, and its agent %v takes jobs", m.name, a)
		case !full && a.Disabled && s.Paused == nil && !p.disabled[a.ID] && !p.replaced[m]:
			p.t.Errorf("%s has room, and its agent %v takes none", m.name, a)
		}
	}
}

// daemon watches until the VM has left Azure DevOps, or is about to be gone.
func daemon(ctx context.Context, o bootstrap.Options) error {
	ctx, cancel := context.WithTimeout(ctx, takenIn-time.Second)
	defer cancel()
	o.Once, o.Set = false, []string{"health.listen="}
	go func() {
		for ctx.Err() == nil {
			time.Sleep(time.Second)
			if s, _, err := journal.Read(o.StateDir); err == nil && s.Phase == journal.Removed {
				time.Sleep(5 * time.Second) // an acknowledgement comes after
				cancel()
			}
		}
	}()
	return bootstrap.Run(ctx, o)
}

// step is one thing that happens to a VM or that it does.
func (p *play) step(m *mortal) {
	cutAt := 0
	if p.r.IntN(3) > 0 {
		cutAt = 1 + p.r.IntN(50)
	}
	before, was := p.agents(), m.pause()
	what, ends := "", m.leavesForAnOperator() // a pause may be over then
	own := true                               // the product did it: it may touch its own agent only
	var cut bool
	var err error
	m.mayCut = false
	switch p.r.IntN(22) {
	case 0, 1, 2:
		what = "boots"
		m.off()
		m.boots()
		cut, err = m.lives(p.ctx, cutAt, once)
	case 3, 4:
		what = "its daemon restarts"
		cut, err = m.lives(p.ctx, cutAt, once)
	case 5:
		what, own = "the power goes", false
		m.off()
	case 6:
		from := p.all[p.r.IntN(vms)]
		if from == m || from.gone {
			return
		}
		what, own, ends = "gets a copy of the disk of "+from.name, false, true
		m.off()
		m.clone(from)
		p.replaced[m] = true
	case 7:
		what, own = "somebody removes its agent", false
		p.azure.Remove(m.agentName())
	case 8:
		what, m.mayCut, ends = "is terminated", true, true
		if cut, err = m.lives(p.ctx, cutAt, leaving(bootstrap.Leaving{Now: true})); err == nil && !cut {
			m.off()
			m.gone = true
		}
	case 9:
		what, ends = "is deregistered", true
		cut, err = m.lives(p.ctx, cutAt, leaving(bootstrap.Leaving{}))
	case 10:
		what, own = "gets a job", false
		m.busyUntil = time.Now().Add(time.Duration(1+p.r.IntN(8)) * time.Minute)
	case 11:
		what, own = "somebody disables its agent", false
		for _, a := range before {
			if a.InstanceID == m.instance() && !a.Disabled {
				p.azure.Enable(a.Name, false)
				p.disabled[a.ID] = was == nil // while the VM is paused, nobody can tell
			}
		}
	case 12:
		to := map[string]string{"production": "live", "live": "production"}[p.name]
		what, own = "the environment is renamed to "+to, false
		p.azure.Rename("environment", p.name, to)
		p.name = to
		for _, each := range p.all {
			if p.r.IntN(2) == 0 {
				each.environment = to // who keeps the old name in the configuration stays where it is all the same
			}
		}
	case 13:
		other := p.all[p.r.IntN(vms)]
		resources := []string{m.name}
		if other != m {
			resources = append(resources, other.name)
		}
		e := p.azure.Schedule(resources, "Terminate", takenIn)
		what = "Azure takes it away, together with " + other.name
		m.off()
		m.boots()
		cut, err = m.lives(p.ctx, cutAt, daemon)
		if started := !p.azure.Cancel(e.ID); started && other != m {
			p.t.Errorf("%s acknowledged the end of %s", m.name, other.name)
		}
	case 14:
		what = "is paused"
		how := bootstrap.Pausing{By: "alice", Wait: p.r.IntN(2) == 0, Timeout: time.Hour}
		cut, err = m.lives(p.ctx, cutAt, func(ctx context.Context, o bootstrap.Options) error {
			_, err := bootstrap.Pause(ctx, o, how)
			return p.unlessNothingToPause(m, before, err)
		})
		if err == nil && !cut && m.mayPause(before) && m.pause() == nil {
			p.t.Errorf("%s is not paused", m.name)
		}
	case 15:
		what, ends = "is resumed", true
		cut, err = m.lives(p.ctx, cutAt, func(ctx context.Context, o bootstrap.Options) error {
			_, err := bootstrap.Resume(ctx, o)
			return p.unlessNothingToPause(m, before, err)
		})
	case 17, 18, 19, 20:
		m.free.Store([]uint64{roomy, 1 << 30, 1 << 30}[p.r.IntN(3)])
		what = fmt.Sprintf("its daemon watches, with %d GiB of room", m.free.Load()>>30)
		cut, err = m.lives(p.ctx, cutAt, watching)
		p.roomAsTold(m, cut)
	case 21:
		what = "boots in a standby pool, which it leaves later"
		m.off()
		p.azure.SetStandby(m.name, "true")
		m.pooled = true
		m.boots()
		cut, err = m.lives(p.ctx, cutAt, watching)
		m.off()
		m.pooled = false
		p.azure.SetStandby(m.name, "false")
	case 16:
		what, own = "somebody enables its agent", false
		for _, a := range before {
			if a.InstanceID == m.instance() {
				p.azure.Enable(a.Name, true)
				delete(p.disabled, a.ID)
			}
		}
	}
	p.lasts(m, was, ends, own && !cut && err == nil)
	p.story = append(p.story, fmt.Sprintf("%s %s (cut at effect %d: %t): %v", m.name, what, cutAt, cut, err))
	p.judge(m, before, own, err)
}

// pause is this VM's by its journal, which may be another's whose disk it got.
func (m *mortal) pause() *journal.Pause {
	s, _, err := journal.Read(m.state)
	if err != nil || s.InstanceID != m.instance() {
		return nil
	}
	return s.Paused
}

// leavesForAnOperator reports whether a departure that an operator asked for is gone on with.
func (m *mortal) leavesForAnOperator() bool {
	s, _, err := journal.Read(m.state)
	return err == nil && s.Phase == journal.Draining && s.RemovedBy == journal.ByOperator
}

// mayPause reports whether this VM is ready, and its agent there.
func (m *mortal) mayPause(agents map[int]sim.AgentSeen) bool {
	s, _, err := journal.Read(m.state)
	return err == nil && s.InstanceID == m.instance() && s.Phase == journal.Ready && agents[s.Agent.ID].InstanceID == m.instance()
}

// unlessNothingToPause forgives that a VM cannot be paused, or resumed, which does not stand ready.
func (p *play) unlessNothingToPause(m *mortal, before map[int]sim.AgentSeen, err error) error {
	if err != nil && !m.mayPause(before) {
		if c := fault.From(err).Class; c == fault.State || c == fault.Target {
			return nil
		}
	}
	return err
}

// lasts looks whether the pause of a VM is as it was, unless an operator has ended it, and whether its
// agent takes no job if the VM has just found out where it stands.
func (p *play) lasts(m *mortal, was *journal.Pause, ends, stands bool) {
	is := m.pause()
	if was != nil && is == nil && !ends {
		p.t.Errorf("%s: its pause is forgotten", m.name)
	}
	for _, a := range p.agents() {
		if stands && is != nil && a.InstanceID == m.instance() && !a.Disabled && a.Status == "online" {
			p.t.Errorf("%s is paused, and its agent %v takes jobs", m.name, a)
		}
	}
}

// judge looks whether what must hold does.
func (p *play) judge(m *mortal, before map[int]sim.AgentSeen, own bool, err error) {
	if err != nil && !p.allowed(m, before, err) {
		p.t.Errorf("%s", err)
	}
	if err := m.sound(); err != nil && !errors.Is(err, os.ErrNotExist) {
		p.t.Error(err)
	}
	if !own {
		return
	}
	after := p.agents()
	for id, was := range before {
		is, there := after[id]
		mine, taken := was.InstanceID == m.instance(), is.InstanceID == m.instance()
		switch {
		case !mine && taken:
			if was.Status == "online" || !strings.EqualFold(was.Name, m.agentName()) {
				p.t.Errorf("%s took the agent %v over", m.name, was)
			}
			delete(p.disabled, id)
		case !mine && !there && was.Status == "offline" && strings.EqualFold(was.Name, m.agentName()) && !m.never:
			delete(p.disabled, id) // it took it over, and has left with it
		case !mine && (!there || is.Disabled != was.Disabled || is.InstanceID != was.InstanceID):
			p.t.Errorf("what %s did changed the agent of another VM: %v became %v", m.name, was, is)
		case mine && there && p.disabled[id] && !is.Disabled:
			p.t.Errorf("%s enabled the agent %v, which a person had disabled", m.name, was)
		}
	}
}

// allowed are the refusals that the play itself is the reason for: a name that another VM has, or
// that is configured and exists no more.
func (p *play) allowed(m *mortal, before map[int]sim.AgentSeen, err error) bool {
	if m.refusedByGate(err) {
		return true
	}
	if fault.From(err).Class != fault.Target {
		return false
	}
	if m.environment != p.name {
		return true
	}
	for _, a := range before {
		if strings.EqualFold(a.Name, m.agentName()) && a.InstanceID != m.instance() &&
			(a.Status == "online" || m.never) {
			return true
		}
	}
	return false
}

// atLast lets all VMs boot that were not terminated; of two with one name, the first that can.
func (p *play) atLast() {
	names := map[string]bool{}
	for _, m := range p.all {
		m.off()
	}
	for _, m := range p.all {
		if m.gone || p.t.Failed() || names[m.agentName()] {
			continue
		}
		m.environment, m.never = p.name, false
		m.free.Store(roomy)
		names[m.agentName()] = true
		m.gateOpens = true
		m.boots()
		if _, err := m.lives(p.ctx, 0, once); err != nil {
			p.t.Errorf("at last %s does not join: %s", m.name, err)
		}
		if n := p.online(m.instance()); n != 1 && !p.t.Failed() {
			p.t.Errorf("at last %s has %d agents online", m.name, n)
		}
		p.lasts(m, nil, false, true)
		if _, err := bootstrap.Resume(p.ctx, m.options(5*time.Minute)); err != nil {
			p.t.Errorf("at last %s does not resume: %s", m.name, err)
		}
		if _, err := m.lives(p.ctx, 0, watching); err != nil { // what a daemon that was killed has left is a daemon's to mend
			p.t.Errorf("at last %s is not watched over: %s", m.name, err)
		}
		for id, a := range p.agents() {
			lost := p.replaced[m] // with what its journal knew of who had disabled its agent
			if a.InstanceID == m.instance() && a.Disabled && !p.disabled[id] && !lost {
				p.t.Errorf("at last %s has an agent that takes no job, and nobody wanted that: %v", m.name, a)
			}
		}
	}
	for _, m := range p.all {
		if n := p.online(m.instance()); m.gone && n != 0 {
			p.t.Errorf("at last %s, which is gone, has %d agents online", m.name, n)
		}
	}
}

// agents are those on the servers, by ID.
func (f *fleet) agents() map[int]sim.AgentSeen {
	all := map[int]sim.AgentSeen{}
	for _, a := range f.azure.Agents() {
		all[a.ID] = a
	}
	return all
}
