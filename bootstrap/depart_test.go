package bootstrap

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"azp-bootstrap/bootstrap/access"
	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/azure"
	"azp-bootstrap/bootstrap/config"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/journal"
	"azp-bootstrap/bootstrap/retry"
	"azp-bootstrap/bootstrap/secret"
)

// A pool is an Azure DevOps with one pool and one agent in it, in memory, on a fake clock.
type pool struct {
	begin    time.Time
	jobEnds  time.Duration // 0 = no job
	trouble  func(since time.Duration) int
	disabled time.Duration // when, -1 = never
	deleted  time.Duration
	enabled  bool
	requests int

	standsOn string // the instance that the agent shows; "" = this VM's, "-" = none
	mark     string // the registration that it shows
	renamed  bool   // the pool has another name
	hidden   bool   // the PAT's owner may not view the pool

	hidesDeleted bool // nor when the agent is removed
}

const thisInstance = "5c7a1b1e-0001-4d3a-9a00-000000000001"

func (p *pool) RoundTrip(r *http.Request) (*http.Response, error) {
	p.requests++
	since := time.Since(p.begin)
	answer := func(status int, body any) (*http.Response, error) {
		data, _ := json.Marshal(body)
		return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(string(data))), Request: r, ProtoMajor: 1}, nil
	}
	if p.trouble != nil {
		if status := p.trouble(since); status != 0 {
			return answer(status, map[string]any{})
		}
	}
	list := func(items ...any) (*http.Response, error) { return answer(200, map[string]any{"value": items}) }
	standsOn := p.standsOn
	if standsOn == "" {
		standsOn = thisInstance
	}
	body := map[string]any{"id": 7, "name": "web-1", "status": "online", "enabled": p.enabled,
		"systemCapabilities": map[string]string{"AZP_BOOTSTRAP_INSTANCE_ID": standsOn, "AZP_BOOTSTRAP_REGISTERED": p.mark}}
	if since < p.jobEnds {
		body["assignedRequest"] = map[string]any{"requestId": 1}
	}
	if standsOn == "-" {
		delete(body, "systemCapabilities")
	}
	switch path := r.URL.Path; {
	case strings.HasSuffix(path, "/connectionData"):
		return answer(200, map[string]any{"authenticatedUser": map[string]any{"id": "1", "providerDisplayName": "Build"}})
	case strings.HasSuffix(path, "/pools") && p.renamed:
		return list()
	case strings.HasSuffix(path, "/pools"):
		return list(map[string]any{"id": 1, "name": "Default"})
	case strings.Contains(path, "/pools/1") && (p.hidden || p.hidesDeleted && p.deleted >= 0):
		return answer(404, map[string]any{"typeKey": "TaskAgentPoolNotFoundException"})
	case strings.HasSuffix(path, "/pools/1"):
		return answer(200, map[string]any{"id": 1, "name": "Default"})
	case strings.HasSuffix(path, "/agents/7") && p.deleted >= 0 && r.Method != http.MethodDelete:
		return answer(404, map[string]any{"typeKey": "TaskAgentNotFoundException"})
	case strings.HasSuffix(path, "/agents") && p.deleted >= 0:
		return list()
	case strings.HasSuffix(path, "/agents"):
		return list(body)
	case r.Method == http.MethodPatch:
		var b struct{ Enabled bool }
		_ = json.NewDecoder(r.Body).Decode(&b)
		if p.enabled = b.Enabled; !b.Enabled {
			p.disabled = since
		}
		return answer(200, body)
	case r.Method == http.MethodDelete:
		p.deleted = since
		return answer(204, nil)
	}
	return answer(200, body)
}

// reaches lets a VM reach Azure DevOps by way of a transport, with a PAT given by hand.
func reaches(t *testing.T, b *Boot, by http.RoundTripper) {
	t.Helper()
	pat, err := secret.NewPAT("opaque-token")
	if err != nil {
		t.Fatal(err)
	}
	b.access = access.New(access.Way{Server: b.Config.Server, Given: pat, Client: &http.Client{Transport: by}, Redactor: b.Redactor})
}

// joined is a VM that is ready, with its agent in the pool.
func joined(t *testing.T, p *pool, drain config.Drain) *Boot {
	b := boot(t)
	b.Config = &config.Config{Drain: drain, Agent: config.Agent{Service: "process"}, Deadline: 30 * time.Minute, Target: config.Target{Pool: &config.Pool{Name: "Default"}},
		Server: config.Server{Hosted: true, Name: "contoso", Base: "https://dev.azure.com/contoso"}}
	reaches(t, b, p)
	b.Runner = agent.Runner{Home: agent.Home{Dir: t.TempDir(), User: "nobody"}, Process: true, State: b.journal.Dir()}
	b.VM.VMID = thisInstance
	wrote(t, b, func(s *journal.State) {
		s.InstanceID = thisInstance
		s.Target, s.Agent = b.target(), journal.Agent{Name: "web-1", ID: 7}
		s.Target.ID, s.Target.PoolID = 1, 1
		s.Joined()
	})
	return b
}

func TestDepartTakesAsLongAsItMayAndNoLonger(t *testing.T) {
	never := 1000 * time.Hour
	on := config.Drain{Enabled: true, Timeout: 15 * time.Minute}
	for _, c := range []struct {
		name    string
		drain   config.Drain
		wait    bool
		in      time.Duration // the event's NotBefore; 0 = none
		jobEnds time.Duration
		from    time.Duration // when the agent is removed: between these two
		to      time.Duration
	}{
		{"no job", on, true, 5 * time.Minute, 0, 0, time.Second},
		{"the job ends in time", on, true, 10 * time.Minute, 3 * time.Minute, 3 * time.Minute, 3*time.Minute + 2*time.Second},
		{"the job outlasts the event", on, true, 5 * time.Minute, never, 5*time.Minute - margin, 5*time.Minute - margin + 2*time.Second},
		{"the job outlasts drain.timeout", config.Drain{Enabled: true, Timeout: time.Minute}, true, 15 * time.Minute, never, time.Minute, time.Minute + 2*time.Second},
		{"a command, with drain.timeout", on, true, 0, never, 15 * time.Minute, 15*time.Minute + 2*time.Second},
		{"drain is off", config.Drain{Timeout: 15 * time.Minute}, true, 5 * time.Minute, never, 0, time.Second},
		{"spot: no waiting", on, false, 30 * time.Second, never, 0, time.Second},
		{"the event is due", on, true, time.Second, never, 0, time.Second},
		{"the event is over", on, true, -time.Minute, never, 0, time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &pool{begin: time.Now(), jobEnds: c.jobEnds, enabled: true, deleted: -1, disabled: -1}
				b := joined(t, p, c.drain)
				acknowledged := time.Duration(-1)
				n := notice{why: "Terminate", goes: true, wait: c.wait, acknowledge: func(context.Context) error {
					acknowledged = time.Since(p.begin)
					return nil
				}}
				if c.in != 0 {
					n.until = p.begin.Add(c.in)
				}
				if err := b.depart(context.Background(), n); err != nil {
					t.Fatal(err)
				}
				if p.deleted < c.from || p.deleted > c.to {
					t.Errorf("removed after %s, want %s to %s", p.deleted, c.from, c.to)
				}
				if p.disabled != 0 || acknowledged < p.deleted {
					t.Errorf("disabled after %s, removed after %s, acknowledged after %s", p.disabled, p.deleted, acknowledged)
				}
				if b.state().Phase != journal.Removed || b.access.Holds() {
					t.Errorf("phase %s; the PAT is kept: %v", b.state().Phase, b.access.Holds())
				}
			})
		})
	}
}

// A scale set that goes as a whole must not flood the server.
func TestDepartLetsTheServerRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pool{begin: time.Now(), jobEnds: 10 * time.Minute, enabled: true, deleted: -1, disabled: -1}
		b := joined(t, p, config.Drain{Enabled: true, Timeout: 15 * time.Minute})
		if err := b.depart(context.Background(), notice{why: "Terminate", goes: true, wait: true}); err != nil {
			t.Fatal(err)
		}
		if perSecond := float64(p.requests) / (10 * time.Minute).Seconds(); perSecond > 0.6 {
			t.Errorf("%.1f requests a second while a job is waited for", perSecond)
		}
	})
}

// What cannot be removed is left behind: said, kept for the next boot, and not acknowledged.
func TestDepartLeavesBehindWhatItCannotRemove(t *testing.T) {
	on := config.Drain{Enabled: true, Timeout: 15 * time.Minute}
	for name, c := range map[string]struct {
		trouble func(time.Duration) int
		in      time.Duration
		removed bool
		class   fault.Class
		within  time.Duration
	}{
		"an outage that passes":   {func(d time.Duration) int { return map[bool]int{true: 503}[d < 2*time.Minute] }, 5 * time.Minute, true, fault.Class{}, 5 * time.Minute},
		"an outage that does not": {func(time.Duration) int { return 503 }, 5 * time.Minute, false, fault.Network, 5*time.Minute + time.Second},
		"the PAT is revoked":      {func(time.Duration) int { return 401 }, 5 * time.Minute, false, fault.PAT, time.Minute},
		"spot and an outage":      {func(time.Duration) int { return 503 }, 30 * time.Second, false, fault.Network, 31 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &pool{begin: time.Now(), trouble: c.trouble, enabled: true, deleted: -1, disabled: -1}
				b := joined(t, p, on)
				acknowledged := false
				err := b.depart(context.Background(), notice{why: "Terminate", goes: true, wait: true, until: p.begin.Add(c.in), acknowledge: func(context.Context) error {
					acknowledged = true
					return nil
				}})
				if took := time.Since(p.begin); took > c.within {
					t.Errorf("it took %s", took)
				}
				if c.removed != (err == nil) || c.removed != acknowledged || c.removed != (p.deleted >= 0) {
					t.Errorf("removed %v, acknowledged %v: %v", p.deleted >= 0, acknowledged, err)
				}
				want := journal.Draining
				if c.removed {
					want = journal.Removed
				} else if f := fault.From(err); f.Class != c.class {
					t.Errorf("class %s: %v", f.Class.Code, err)
				}
				if s, _, _ := journal.Read(b.journal.Dir()); s.Phase != want {
					t.Errorf("the state is %s", s.Phase)
				}
			})
		})
	}
}

// A source of scheduled events on a fake clock.
type source struct {
	begin time.Time
	slow  time.Duration // the first answer's
	asked []time.Duration
	tell  func(since time.Duration) (int, []azure.Event, error)
}

func (s *source) Events(ctx context.Context) (int, []azure.Event, error) {
	s.asked = append(s.asked, time.Since(s.begin))
	if len(s.asked) == 1 && !retry.Pause(ctx, s.slow) {
		return 0, nil, ctx.Err()
	}
	return s.tell(time.Since(s.begin))
}

func (s *source) Instance(context.Context) (azure.Instance, error) {
	return azure.Instance{Name: "web_1"}, nil
}

func (s *source) Acknowledge(context.Context, string) error { return nil }

func TestScheduledEventsAreHeard(t *testing.T) {
	event := func(kind string, at time.Duration, started bool, vms ...string) azure.Event {
		return azure.Event{ID: kind, Type: kind, Started: started, NotBefore: time.Now().Add(at), Resources: vms}
	}
	for _, c := range []struct {
		name string
		slow time.Duration
		tell func(since time.Duration) (int, []azure.Event, error)
		why  string // the notice's; "" = none within an hour
		by   time.Duration
		wait bool
		ack  bool
	}{
		{"terminate", 0, func(since time.Duration) (int, []azure.Event, error) {
			if since < time.Minute {
				return 1, nil, nil
			}
			return 2, []azure.Event{event("Terminate", 5*time.Minute, false, "web_1")}, nil
		}, "Terminate", time.Minute + pollEvents, true, true},
		{"the first answer takes two minutes", 2 * time.Minute, func(time.Duration) (int, []azure.Event, error) {
			return 1, []azure.Event{event("Terminate", 5*time.Minute, false, "WEB_1")}, nil
		}, "Terminate", 2 * time.Minute, true, true},
		{"spot", 0, func(time.Duration) (int, []azure.Event, error) {
			return 1, []azure.Event{event("Preempt", 30*time.Second, false, "web_1")}, nil
		}, "Preempt", 0, false, true},
		{"for two: the other VM's is not ours to acknowledge", 0, func(time.Duration) (int, []azure.Event, error) {
			return 1, []azure.Event{event("Terminate", 5*time.Minute, false, "web_0", "web_1")}, nil
		}, "Terminate", 0, true, false},
		{"under way already", 0, func(time.Duration) (int, []azure.Event, error) {
			return 1, []azure.Event{event("Terminate", 0, true, "web_1")}, nil
		}, "Terminate", 0, false, false},
		{"a neighbour's, then our own", 0, func(since time.Duration) (int, []azure.Event, error) {
			events := []azure.Event{event("Terminate", 5*time.Minute, false, "web_2")}
			if since < 10*time.Minute {
				return 1, events, nil
			}
			return 2, append(events, event("Terminate", 5*time.Minute, false, "web_1")), nil
		}, "Terminate", 10*time.Minute + pollEvents, true, true},
		{"reboots are no end", 0, func(time.Duration) (int, []azure.Event, error) {
			return 1, []azure.Event{event("Reboot", time.Minute, false, "web_1"), event("Redeploy", time.Minute, false, "web_1"), event("Freeze", time.Minute, false, "web_1")}, nil
		}, "", 0, false, false},
		{"IMDS is away for a while", 0, func(since time.Duration) (int, []azure.Event, error) {
			if since < 20*time.Minute {
				return 0, nil, errors.New("no answer")
			}
			return 1, []azure.Event{event("Terminate", 5*time.Minute, false, "web_1")}, nil
		}, "Terminate", 20*time.Minute + pollTroubled, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				b := boot(t)
				s := &source{begin: time.Now(), slow: c.slow, tell: c.tell}
				heard := make(chan notice)
				go scheduledEvents{s, b.Log}.listen(ctx, heard)
				var n *notice
				select {
				case first := <-heard:
					n = &first
				case <-ctx.Done():
				}
				took := time.Since(s.begin)
				select { // it listens on, and does not repeat itself
				case again := <-heard:
					t.Errorf("%s is told again", again.why)
				case <-ctx.Done():
				}
				synctest.Wait()
				switch {
				case n != nil:
					if n.why != c.why || !n.goes || n.wait != c.wait || c.ack != (n.acknowledge != nil) || took > c.by {
						t.Errorf("heard %q after %s: waits %v, can be acknowledged %v", n.why, took, n.wait, n.acknowledge != nil)
					}
				case c.why != "":
					t.Error("nothing was heard")
				}
				for i := 1; i < len(s.asked); i++ { // IMDS must not be flooded
					if between := s.asked[i] - s.asked[i-1]; between < pollEvents {
						t.Fatalf("asked again after %s", between)
					}
				}
			})
		})
	}
}
