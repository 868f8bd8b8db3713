//go:build linux

package bootstrap_test

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"azp-bootstrap/bootstrap"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/journal"
	"azp-bootstrap/bootstrap/sim"
)

// A pooled is a VM of a standby pool whose daemon runs beside the test.
type pooled struct {
	*machine
	t      *testing.T
	ctx    context.Context
	end    context.CancelFunc
	ended  chan struct{}
	pool   atomic.Int32 // how often IMDS was asked for the pool
	broken atomic.Int32 // status of IMDS's answers to that; 0 = none
	away   atomic.Bool  // Azure DevOps and the vault
}

// inPool lets a test play with a VM that stands in a standby pool.
func inPool(t *testing.T, more func(*sim.Scenario), do func(p *pooled)) {
	t.Helper()
	before := func(s *sim.Scenario) {
		s.VMs[0].Standby = "true"
		if more != nil {
			more(s)
		}
	}
	fewVMs(t, 1, before, func(ctx context.Context, t *testing.T, all []*machine) {
		p := &pooled{machine: all[0], t: t, ctx: ctx}
		p.front(func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				pool := r.URL.Path == "/metadata/instance/compute"
				if pool {
					p.pool.Add(1)
				}
				switch status := int(p.broken.Load()); {
				case pool && status != 0:
					w.WriteHeader(status)
				case p.away.Load() && !strings.HasPrefix(r.URL.Path, "/metadata/"):
					w.WriteHeader(http.StatusServiceUnavailable)
				default:
					next.ServeHTTP(w, r)
				}
			})
		})
		do(p)
		p.stopDaemon()
	})
}

func (p *pooled) daemon(set ...string) {
	p.t.Helper()
	p.stopDaemon()
	o := p.options(5 * time.Minute)
	o.Set, o.Once = append(set, "health.listen="), false
	var ctx context.Context
	ctx, p.end = context.WithCancel(p.ctx)
	p.ended = make(chan struct{})
	go func() { defer close(p.ended); _ = bootstrap.Run(ctx, o) }()
}

func (p *pooled) stopDaemon() {
	if p.ended != nil {
		p.end()
		<-p.ended
		p.ended = nil
	}
}

// stands checks where the VM stands.
func (p *pooled) stands(when string, held, runs bool, agents int) {
	p.t.Helper()
	s, _, err := journal.Read(p.state)
	is, _ := p.Running("")
	seen := p.azure.Agents()
	ready := s.Phase == journal.Ready
	if err != nil || s.Held() != held || is != runs || ready != runs || len(seen) != agents || s.Phase == journal.Failed {
		p.t.Errorf("%s: held %v, agent runs %v, %s, %v, %v", when, s.Held(), is, s.Phase, seen, err)
	}
	if len(seen) == 1 && (seen[0].Status == "online") != runs {
		p.t.Errorf("%s: %v", when, seen)
	}
}

// A VM in a standby pool is registered, and its agent does not start, however long that lasts and whatever is
// restarted; when the VM leaves the pool, it does at once.
func TestInAStandbyPool(t *testing.T) {
	t.Parallel()
	inPool(t, nil, func(p *pooled) {
		p.daemon()
		time.Sleep(3 * time.Hour)
		p.stands("in the pool", true, false, 1)
		first := p.azure.Agents()[0].ID
		if n := p.pool.Load(); n < 1000 || n > 3*720+10 {
			t.Errorf("IMDS was asked %d times in three hours", n)
		}
		p.daemon()
		time.Sleep(time.Hour)
		p.stands("the daemon is restarted", true, false, 1)
		p.away.Store(true)
		p.broken.Store(http.StatusServiceUnavailable)
		p.daemon()
		time.Sleep(time.Hour)
		p.stands("nobody answers", true, false, 1)
		p.away.Store(false)
		p.azure.SetStandby(p.name, "false")
		time.Sleep(time.Minute)
		p.stands("IMDS does not tell", true, false, 1)
		p.broken.Store(0)
		time.Sleep(20 * time.Second)
		p.stands("it has left the pool", false, true, 1)
		if at := p.azure.Agents()[0]; at.ID != first {
			t.Errorf("registered twice: %v", at)
		}
		p.daemon()
		time.Sleep(time.Minute)
		p.stands("the daemon is restarted", false, true, 1)
	})
}

// What is no standby pool holds nothing.
func TestOutsideOfAStandbyPool(t *testing.T) {
	for name, c := range map[string]struct {
		word   string
		single bool // no VM of a scale set
		broken int
		set    []string
		asked  bool
		within time.Duration
	}{
		"IMDS has no word":            {word: "", asked: true},
		"it left before":              {word: "False", asked: true},
		"IMDS has no such version":    {word: "true", broken: http.StatusBadRequest, asked: true},
		"no scale set":                {word: "true", single: true},
		"start.hold: never":           {word: "true", set: []string{"start.hold=never"}},
		"nothing is known of a pool":  {word: "true", broken: http.StatusServiceUnavailable, asked: true, within: time.Minute},
		"there is no such thing here": {word: "true", broken: http.StatusNotFound, asked: true, within: time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			inPool(t, func(s *sim.Scenario) {
				s.VMs[0].Standby = c.word
				if c.single {
					s.VMs[0].ScaleSet = ""
				}
			}, func(p *pooled) {
				p.broken.Store(int32(c.broken)) //nolint:gosec // a status
				p.daemon(c.set...)
				time.Sleep(15*time.Second + c.within)
				p.stands(name, false, true, 1)
				if (p.pool.Load() > 0) != c.asked {
					t.Errorf("asked %d times", p.pool.Load())
				}
			})
		})
	}
}

// Azure and an operator take a VM out of its pool as elsewhere; run --once does not wait.
func TestWhoEndsAStandby(t *testing.T) {
	t.Parallel()
	inPool(t, nil, func(p *pooled) {
		f := p.once(p.ctx, time.Minute)
		if f == nil || f.Class != fault.Start || f.Advice == "" {
			t.Errorf("run --once: %v", f)
		}
		p.stands("run --once", true, false, 1)
		p.daemon()
		time.Sleep(time.Minute)
		if done, err := p.leaves(p.ctx); !done || err != nil {
			t.Errorf("deregister: %v, %v", done, err)
		}
		time.Sleep(time.Hour)
		if s, _, _ := journal.Read(p.state); s.Phase != journal.Removed || s.Held() || len(p.azure.Agents()) != 0 {
			t.Errorf("deregister: %s, %v", s.Phase, p.azure.Agents())
		}
	})
	inPool(t, nil, func(p *pooled) {
		p.daemon()
		time.Sleep(time.Minute)
		p.stands("before", true, false, 1)
		e := p.azure.Schedule([]string{p.name}, "Terminate", takenIn)
		time.Sleep(10 * time.Second)
		if len(p.azure.Agents()) != 0 || p.azure.Cancel(e.ID) {
			t.Errorf("Terminate: %v", p.azure.Agents())
		}
		time.Sleep(time.Hour)
		p.stands("the VM stays all the same", true, false, 1)
	})
}
