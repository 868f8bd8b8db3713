//go:build linux

package bootstrap_test

import (
	"cmp"
	"context"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"azp-bootstrap/bootstrap"
	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/journal"
	"azp-bootstrap/bootstrap/secret"
)

// An eccentric is an agent that runs only if config.sh registered it.
type eccentric struct {
	*mortal
	scripts int // how often config.sh registered it
	rests   int // how often the daemon did
	first   int // the ID of its agent
	late    bool
}

func (e *eccentric) Configure(
	ctx context.Context, r agent.Registration, pat secret.PAT, redactor *secret.Redactor, line func(string),
) (int, error) {
	e.scripts++
	e.starts = 0
	return e.mortal.Configure(ctx, r, pat, redactor, line)
}

func (e *eccentric) Enrol(
	ctx context.Context, r agent.Registration, add func(context.Context, agent.Newcomer) (agent.Enrolment, error),
) (int, error) {
	e.rests++
	e.starts = 100 * time.Hour
	return e.mortal.Enrol(ctx, r, func(ctx context.Context, n agent.Newcomer) (made agent.Enrolment, err error) {
		made, err = add(ctx, n)
		e.first = cmp.Or(e.first, made.ID)
		return made, err
	})
}

// runs does run --once with e's agent, cut off at an effect or not.
func (e *eccentric) run(ctx context.Context, cutAt int) (cut bool, err error) {
	return e.lives(ctx, cutAt, func(ctx context.Context, o bootstrap.Options) error {
		o.Agent = e
		return bootstrap.Run(ctx, o)
	})
}

// byRest plays with one VM that is registered by rest.
func byRest(t *testing.T, do func(p *play, m *mortal)) {
	t.Helper()
	dir := quickDir(t)
	synctest.Test(t, func(t *testing.T) {
		p := newPlay(t, dir, rand.New(rand.NewPCG(1, 1)))
		defer p.end()
		m := p.all[0]
		m.registration, m.never = "rest", false
		do(p, m)
		if t.Failed() {
			t.Logf("%+v\n%s", m.disk, m.said.String())
		}
	})
}

func (m *mortal) written(t *testing.T) journal.State {
	t.Helper()
	s, damaged, err := journal.Read(m.state)
	if err != nil || damaged != nil {
		t.Fatal(err, damaged)
	}
	return s
}

// An agent that the daemon registers itself is online without config.sh, and again after somebody removed it.
func TestJoinsByRest(t *testing.T) {
	byRest(t, func(p *play, m *mortal) {
		e := &eccentric{mortal: m}
		e.starts = 0
		for range 2 {
			if _, err := m.lives(p.ctx, 0, once); err != nil {
				p.t.Fatal(err)
			}
			s := m.written(p.t)
			if p.online(m.instance()) != 1 || s.Agent.By != "rest" || s.Fallback != nil || s.Agent.ID != m.disk.id {
				p.t.Errorf("%+v, %v", s, p.azure.Agents())
			}
			if strings.Contains(m.said.String(), "Successfully added") {
				p.t.Error("config.sh was run")
			}
			m.off()
			p.azure.Remove(m.agentName())
		}
	})
}

// Cut off at each effect, a registration by rest is gone on with: one agent, and never one that the journal does not know.
func TestByRestCutOffAnywhere(t *testing.T) {
	t.Parallel()
	cuts := 0
	for cutAt := 1; ; cutAt++ {
		cut := false
		byRest(t, func(p *play, m *mortal) {
			var err error
			if cut, err = m.lives(p.ctx, cutAt, once); !cut && err != nil {
				p.t.Fatal(err)
			}
			m.off()
			if s := m.written(p.t); s.Agent.By == "rest" && s.Registering != nil {
				p.t.Errorf("the journal knows an agent and is about to register one: %+v", s)
			}
			before := p.azure.Agents()
			if m.disk.service {
				m.start()
			}
			if _, err := m.lives(p.ctx, 0, once); err != nil {
				p.t.Errorf("cut at %d: %s", cutAt, err)
			}
			seen := p.azure.Agents()
			if len(seen) != 1 || p.online(m.instance()) != 1 || len(before) == 1 && before[0].ID != seen[0].ID {
				p.t.Errorf("cut at %d: %v became %v", cutAt, before, seen)
			}
		})
		if !cut || t.Failed() {
			break
		}
		cuts++
	}
	if cuts < 15 {
		t.Errorf("it was cut off at %d effects only", cuts)
	}
}

// An agent that came by rest and does not come online is removed from the server and from disk, and registered by config.sh, once.
func TestByRestProvesItself(t *testing.T) {
	byRest(t, func(p *play, m *mortal) {
		e := &eccentric{mortal: m}
		begin := time.Now()
		if _, err := e.run(p.ctx, 0); err != nil {
			p.t.Fatal(err)
		}
		took, s, said := time.Since(begin), m.written(p.t), m.said.String()
		if took < 2*time.Minute || took > 3*time.Minute {
			p.t.Errorf("it took %s", took)
		}
		if e.rests != 1 || e.scripts != 1 || p.online(m.instance()) != 1 || len(p.azure.Agents()) != 1 {
			p.t.Errorf("by rest %d times, by config.sh %d times: %v", e.rests, e.scripts, p.azure.Agents())
		}
		if s.Agent.ID == e.first {
			p.t.Errorf("the agent %d was replaced, not removed", e.first)
		}
		if s.Fallback == nil || !strings.Contains(s.Fallback.Why, "not come online in 2m0s") || s.Agent.By != "" || s.Phase != journal.Ready {
			p.t.Errorf("%+v", s)
		}
		if !strings.Contains(said, "REGISTRATION BY REST FAILED") || strings.Contains(said, "Replacing") {
			p.t.Error("it was not said")
		}
		names := map[string]int{}
		for _, ph := range s.Phases {
			names[ph.Name]++
		}
		if names["register"] != 1 || names["online"] != 1 {
			p.t.Errorf("phases: %v", s.Phases)
		}
		m.off()
		p.azure.Remove(m.agentName())
		if _, err := e.run(p.ctx, 0); err != nil || e.rests != 1 || e.scripts != 2 {
			p.t.Errorf("removed by hand, it is registered by rest again (%d, %d): %v", e.rests, e.scripts, err)
		}
	})
}

// Cut off at each effect of that, it ends likewise.
func TestByRestProvesItselfCutOffAnywhere(t *testing.T) {
	t.Parallel()
	cuts := 0
	for cutAt := 1; ; cutAt++ {
		cut := false
		byRest(t, func(p *play, m *mortal) {
			e := &eccentric{mortal: m}
			m.registration = "rest, onlineTimeout: 12s" // else most effects are questions whether it is online
			var err error
			if cut, err = e.run(p.ctx, cutAt); !cut && err != nil {
				p.t.Fatal(err)
			}
			m.off()
			if m.disk.service && e.starts == 0 {
				m.start()
			}
			if _, err := e.run(p.ctx, 0); err != nil {
				p.t.Errorf("cut at %d: %s", cutAt, err)
			}
			s := m.written(p.t)
			if s.Fallback == nil || s.Agent.By != "" || len(p.azure.Agents()) != 1 || p.online(m.instance()) != 1 {
				p.t.Errorf("cut at %d: %v, %+v", cutAt, p.azure.Agents(), s)
			}
		})
		if !cut || t.Failed() {
			break
		}
		cuts++
	}
	if cuts < 30 {
		t.Errorf("it was cut off at %d effects only", cuts)
	}
}

// One that comes online after it was given up, while nobody looked, is kept: it may have a job.
func TestAnAgentByRestThatComesLate(t *testing.T) {
	byRest(t, func(p *play, m *mortal) {
		e := &eccentric{mortal: m}
		p.front(func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if s := m.written(p.t); s.Fallback != nil && !e.late {
					e.late = true
					m.start()
				}
				next.ServeHTTP(w, r)
			})
		})
		m.busyUntil = time.Now().Add(time.Hour)
		if _, err := e.run(p.ctx, 0); err != nil {
			p.t.Fatal(err)
		}
		if s := m.written(p.t); e.scripts != 0 || s.Fallback != nil || s.Agent.By != "rest" || p.online(m.instance()) != 1 {
			p.t.Errorf("config.sh %d times: %+v", e.scripts, s)
		}
	})
}

// A registration that the server does not understand is config.sh's from then on; one that it refuses for a reason is refused.
func TestWhatTheServerSaysToARegistrationByRest(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		status  int
		body    string
		falls   bool
		class   fault.Class
		passing bool
	}{
		"a field that it does not know": {400, `{"typeKey":"VssPropertyValidationException","message":"x"}`, true, fault.Class{}, false},
		"no ID":                         {200, `{}`, true, fault.Class{}, false},
		"no right":                      {403, `{"typeKey":"AccessDeniedException","message":"x"}`, false, fault.Scope, false},
		"a fault of its own":            {500, `{"typeKey":"Oops","message":"x"}`, false, fault.Network, true},
		"the name is taken":             {409, `{"typeKey":"EnvironmentResourceExistsException","message":"x"}`, false, fault.Target, true},
	} {
		t.Run(name, func(t *testing.T) {
			byRest(t, func(p *play, m *mortal) {
				e := &eccentric{mortal: m}
				p.front(func(next http.Handler) http.Handler {
					return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						if r.Method != http.MethodPost || e.scripts > 0 || !strings.Contains(r.URL.Path, "/virtualmachines") {
							next.ServeHTTP(w, r)
							return
						}
						w.Header().Set("Content-Type", "application/json")
						w.WriteHeader(c.status)
						_, _ = w.Write([]byte(c.body))
					})
				})
				_, err := e.run(p.ctx, 0)
				f := fault.From(err)
				s := m.written(p.t)
				if c.falls {
					if err != nil || e.scripts != 1 || s.Fallback == nil || s.Agent.By != "" {
						p.t.Errorf("config.sh %d times: %v, %+v", e.scripts, err, s)
					}
				} else if f == nil || f.Class != c.class || f.Wait != c.passing || e.scripts != 0 || s.Fallback != nil || len(p.azure.Agents()) != 0 {
					p.t.Errorf("config.sh %d times: %+v, %+v", e.scripts, f, s)
				}
				if !c.passing && e.rests != 1 {
					p.t.Errorf("it was tried %d times", e.rests)
				}
			})
		})
	}
}

// That the server answered nobody says nothing of a registration: neither is it given up, nor told as a fault of ours.
func TestAnOutageIsNoFaultOfARegistrationByRest(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		after  time.Duration // the registration
	}{
		"out of order, at once":            {503, 0},
		"throttled, at once":               {429, 0},
		"out of order, while it starts":    {503, 15 * time.Second},
		"throttled, while it starts":       {429, 15 * time.Second},
		"unreachable, just before the end": {502, 110 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			byRest(t, func(p *play, m *mortal) {
				e := &eccentric{mortal: m}
				var made time.Time
				p.front(func(next http.Handler) http.Handler {
					return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						since := time.Since(made) - c.after
						switch {
						case made.IsZero() || !strings.Contains(r.URL.Path, "/_apis/"):
						case since >= 0 && since < 3*time.Minute:
							http.Error(w, "", c.status)
							return
						case since > 3*time.Minute+30*time.Second && !e.late && m.written(p.t).Phase == journal.Online: // the listener tries each 30 s
							e.late = true
							m.start()
						}
						next.ServeHTTP(w, r)
						if r.Method == http.MethodPost && strings.Contains(r.URL.Path, "/virtualmachines") {
							made = time.Now()
						}
					})
				})
				_, err := e.run(p.ctx, 0)
				if s := m.written(p.t); err != nil || s.Fallback != nil || e.scripts != 0 || p.online(m.instance()) != 1 {
					p.t.Errorf("config.sh %d times: %v, %+v", e.scripts, err, s)
				}
			})
		})
	}
}

// A clock that is wrong is no fault of a registration either, as config.sh would meet it: it is told, and waited for.
func TestAWrongClockIsNoFaultOfARegistrationByRest(t *testing.T) {
	for _, ahead := range []time.Duration{6 * time.Minute, -6 * time.Minute} {
		byRest(t, func(p *play, m *mortal) {
			e := &eccentric{mortal: m}
			begin := time.Now()
			p.front(func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					switch since := time.Since(begin); {
					case since < 6*time.Minute:
						w.Header().Set("Date", time.Now().Add(ahead).UTC().Format(http.TimeFormat))
					case since > 7*time.Minute && !e.late && m.written(p.t).Phase == journal.Online:
						e.late = true
						m.start()
					}
					next.ServeHTTP(w, r)
				})
			})
			_, err := e.run(p.ctx, 0)
			if s := m.written(p.t); err != nil || s.Fallback != nil || e.scripts != 0 || p.online(m.instance()) != 1 {
				p.t.Errorf("config.sh %d times: %v, %+v", e.scripts, err, s)
			}
			if !strings.Contains(m.said.String(), "the VM's clock differs from the server's") {
				p.t.Error("it was not told")
			}
		})
	}
}

// An agent that a person disabled stays so, also if config.sh registers it in the daemon's place: a new one would take jobs.
func TestADisabledAgentByRestStaysDisabled(t *testing.T) {
	byRest(t, func(p *play, m *mortal) {
		if _, err := m.lives(p.ctx, 0, once); err != nil {
			p.t.Fatal(err)
		}
		p.azure.Enable(m.agentName(), false)
		m.off()
		m.disk = disk{}
		e := &eccentric{mortal: m}
		_, err := e.run(p.ctx, 0)
		seen := p.azure.Agents()
		if s := m.written(p.t); err != nil || s.Fallback == nil || e.scripts != 1 || len(seen) != 1 || !seen[0].Disabled || !s.Agent.Disabled {
			p.t.Errorf("config.sh %d times: %v, %v, %+v", e.scripts, err, seen, s)
		}
	})
}
