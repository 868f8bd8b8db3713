//go:build linux

package bootstrap_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"azp-bootstrap/bootstrap"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/journal"
	"azp-bootstrap/bootstrap/sim"
)

// A danger is something that happens in Azure or in Azure DevOps to a VM that is ready. want has a
// word for each of the moments at which the VM finds out: "ready" it is ready afterwards, "leaves"
// it has left, "stays(class)" it is ready as before and says why it does not do more, "!class" it
// is not ready and says why, "left(class)" it goes, says that its agent is left behind and
// acknowledges nothing, "failed" it is not ready and waits.
type danger struct {
	name  string
	spoil func(p *play, m *mortal)
	want  string
}

var moments = []string{"its daemon restarts", "deregister", "Terminate"}

func dangers() []danger {
	return []danger{
		{"nothing", func(*play, *mortal) {}, "ready leaves leaves"},
		{
			"its environment is renamed",
			func(p *play, _ *mortal) { p.azure.Rename("environment", "production", "live") },
			"ready leaves leaves",
		},
		{
			"its project is renamed",
			func(p *play, _ *mortal) { p.azure.Rename("project", "Shop", "Store") },
			"ready leaves leaves",
		},
		{
			"its environment is deleted",
			func(p *play, _ *mortal) { p.azure.DeleteTarget("environment", "production") },
			"ready stays(target) left(target)",
		},
		{
			"the PAT's owner may not view the pool",
			func(p *play, _ *mortal) { p.pats("environment-*") },
			"ready stays(target) left(target)",
		},
		{"the PAT is revoked", func(p *play, _ *mortal) { p.pats() }, "ready stays(pat) left(pat)"},
		{
			"its agent is removed by hand",
			func(p *play, m *mortal) { p.azure.Remove(m.agentName()) },
			"ready leaves leaves",
		},
		{
			"its VM resource is deleted, and its agent left in the pool",
			func(p *play, m *mortal) { p.azure.RemoveResource(m.agentName()) },
			"ready leaves leaves",
		},
		{
			"its agent is disabled by a person",
			func(p *play, m *mortal) { p.azure.Enable(m.agentName(), false) },
			"ready leaves leaves",
		},
		{
			"its configuration names a target that does not exist",
			func(_ *play, m *mortal) { m.environment = "nowhere" },
			"stays(target) leaves leaves",
		},
		{"its configuration names the target anew, by another name", func(p *play, m *mortal) {
			p.azure.Rename("environment", "production", "live")
			m.environment = "live"
		}, "ready leaves leaves"},
		{"another VM of its name took its agent over", (*play).takenOver, "!target leaves leaves"},
	}
}

// pats lets the PAT's owner view all pools but those, or, without any, revokes the PAT.
func (p *play) pats(hidden ...string) {
	s, err := sim.Load("")
	if err != nil {
		p.t.Fatal(err)
	}
	s.VMs = p.azure.VMs()
	s.PATs[0].NoView = hidden
	if len(hidden) == 0 {
		s.PATs = nil
	}
	if err := p.azure.Apply(s); err != nil {
		p.t.Fatal(err)
	}
}

// takenOver: the VM was off, and the last one, which has its name, booted meanwhile. It is online
// when the first is back.
func (p *play) takenOver(m *mortal) {
	other := p.all[vms-1]
	m.off()
	if _, err := other.lives(p.ctx, 0, once); err != nil {
		p.t.Fatal(err)
	}
	m.start()
}

func TestDangers(t *testing.T) {
	for _, d := range dangers() {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			var got []string
			for _, moment := range moments {
				synctest.Test(t, func(t *testing.T) { got = append(got, d.meet(t, quickDir(t), moment)) })
			}
			if is := strings.Join(got, " "); is != d.want {
				t.Errorf("got %s, want %s", is, d.want)
			}
		})
	}
}

// meet lets a VM with a job that runs for some minutes meet a danger, and says in a word what
// became of it.
func (d danger) meet(t *testing.T, dir, moment string) (word string) {
	p := newPlay(t, dir, rand.New(rand.NewPCG(1, 1)))
	defer p.end()
	m := p.all[0]
	for _, each := range p.all {
		each.never = false
	}
	if _, err := m.lives(p.ctx, 0, once); err != nil {
		t.Fatal(err)
	}
	d.spoil(p, m)
	m.busyUntil = time.Now().Add(3 * time.Minute)
	before := p.agents()
	event := ""
	var err error
	switch moment {
	case "its daemon restarts":
		_, err = m.lives(p.ctx, 0, once)
	case "deregister":
		_, err = m.lives(p.ctx, 0, leaving(bootstrap.Leaving{}))
	case "Terminate":
		event = p.azure.Schedule([]string{m.name}, "Terminate", takenIn).ID
		_, err = m.lives(p.ctx, 0, daemon)
	}
	if err := m.sound(); err != nil {
		t.Error(err)
	}
	for id, was := range before {
		if is, there := p.agents()[id]; was.InstanceID != m.instance() && (!there || is.Disabled != was.Disabled) {
			t.Errorf("%s: the agent of another VM: %v became %v", moment, was, is)
		}
	}
	s, _, e := journal.Read(m.state)
	if e != nil {
		t.Fatal(e)
	}
	acknowledged := event != "" && !p.azure.Cancel(event)
	defer func() {
		if t.Failed() {
			t.Logf("%s: %v, state %+v\n%s", moment, err, s, m.said.String())
		}
	}()
	if acknowledged != (s.Phase == journal.Removed && event != "") {
		t.Errorf("%s: acknowledged %v in the phase %s", moment, acknowledged, s.Phase)
	}
	switch {
	case err != nil:
		if f := fault.From(err); f.Advice == "" {
			t.Errorf("no next step: %s", err)
		}
		if s.Phase == journal.Ready {
			return fmt.Sprintf("stays(%s)", fault.From(err).Class.Code)
		}
		return "!" + fault.From(err).Class.Code
	case s.Phase == journal.Draining && s.LastError != nil:
		return fmt.Sprintf("left(%s)", s.LastError.Code)
	case s.Phase == journal.Removed:
		for _, a := range p.agents() {
			if a.InstanceID == m.instance() {
				t.Errorf("it has left, and %v is still there", a)
			}
		}
		return "leaves"
	}
	return s.Phase
}

// An event for two VMs is acknowledged by none of them: it would proceed for both.
func TestAnEventForTwoIsNotAcknowledged(t *testing.T) {
	dir := quickDir(t)
	synctest.Test(t, func(t *testing.T) {
		p := newPlay(t, dir, rand.New(rand.NewPCG(1, 1)))
		defer p.end()
		for _, m := range p.all[:2] {
			m.gated = "" // it joins at once
			if _, err := m.lives(p.ctx, 0, once); err != nil {
				t.Fatal(err)
			}
		}
		p.all[1].busyUntil = time.Now().Add(10 * time.Minute)
		e := p.azure.Schedule([]string{p.all[0].name, p.all[1].name}, "Terminate", 15*time.Minute)
		ctx, cancel := context.WithTimeout(p.ctx, 5*time.Minute)
		defer cancel()
		if _, err := p.all[0].lives(ctx, 0, daemon); err != nil {
			t.Error(err)
		}
		if n := p.online(p.all[0].instance()) + p.online(p.all[1].instance()); n != 1 {
			t.Errorf("%d agents are online", n)
		}
		if !p.azure.Cancel(e.ID) {
			t.Error("the first VM to leave let the platform go on with the second")
		}
	})
}
