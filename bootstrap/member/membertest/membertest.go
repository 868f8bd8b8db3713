// Package membertest is for tests: members of an Azure DevOps in memory.
package membertest

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"azp-bootstrap/bootstrap/access"
	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/azure"
	"azp-bootstrap/bootstrap/config"
	"azp-bootstrap/bootstrap/health"
	"azp-bootstrap/bootstrap/journal"
	"azp-bootstrap/bootstrap/member"
	"azp-bootstrap/bootstrap/phase"
	"azp-bootstrap/bootstrap/secret"
	"azp-bootstrap/bootstrap/vm"
)

// The instances of the VM that is tested, and of another.
const (
	ThisInstance  = "5c7a1b1e-0001-4d3a-9a00-000000000001"
	OtherInstance = "ffffffff-0002-4d3a-9a00-000000000002"
)

// A Pool is an Azure DevOps with one pool and one agent in it, in memory, on a fake clock.
type Pool struct {
	Begin    time.Time
	JobEnds  time.Duration // 0 = no job
	Trouble  func(since time.Duration) int
	Takes    time.Duration // each answer
	Disabled time.Duration // when, -1 = never
	Deleted  time.Duration
	Enabled  bool
	Requests int

	StandsOn string // the instance that the agent shows; "" = this VM's, "-" = none
	Mark     string // the registration that it shows
	Renamed  bool   // the pool has another name
	Hidden   bool   // the PAT's owner may not view the pool

	HidesDeleted bool // nor when the agent is removed
	KeepsDeleted bool // the agent is shown although it was removed
}

// NewPool is a pool whose agent is enabled and was never touched.
func NewPool() *Pool { return &Pool{Begin: time.Now(), Enabled: true, Deleted: -1, Disabled: -1} }

// RoundTrip answers as Azure DevOps does.
func (p *Pool) RoundTrip(r *http.Request) (*http.Response, error) {
	p.Requests++
	time.Sleep(p.Takes)
	since := time.Since(p.Begin)
	answer := func(status int, body any) (*http.Response, error) {
		data, _ := json.Marshal(body)
		return &http.Response{
			StatusCode: status, Header: http.Header{"Content-Type": {"application/json"}},
			Body: io.NopCloser(strings.NewReader(string(data))), Request: r, ProtoMajor: 1,
		}, nil
	}
	if p.Trouble != nil {
		if status := p.Trouble(since); status != 0 {
			return answer(status, map[string]any{})
		}
	}
	list := func(items ...any) (*http.Response, error) { return answer(200, map[string]any{"value": items}) }
	gone := p.Deleted >= 0 && !p.KeepsDeleted
	switch path := r.URL.Path; {
	case strings.HasSuffix(path, "/connectionData"):
		return answer(
			200,
			map[string]any{"authenticatedUser": map[string]any{"id": "1", "providerDisplayName": "Build"}},
		)
	case strings.HasSuffix(path, "/pools") && p.Renamed:
		return list()
	case strings.HasSuffix(path, "/pools"):
		return list(map[string]any{"id": 1, "name": "Default"})
	case strings.Contains(path, "/pools/1") && (p.Hidden || p.HidesDeleted && gone):
		return answer(404, map[string]any{"typeKey": "TaskAgentPoolNotFoundException"})
	case strings.HasSuffix(path, "/pools/1"):
		return answer(200, map[string]any{"id": 1, "name": "Default"})
	case strings.HasSuffix(path, "/agents/7") && gone && r.Method != http.MethodDelete:
		return answer(404, map[string]any{"typeKey": "TaskAgentNotFoundException"})
	case strings.HasSuffix(path, "/agents") && gone:
		return list()
	case strings.HasSuffix(path, "/agents"):
		return list(p.agent(since))
	case r.Method == http.MethodPatch:
		var b struct{ Enabled bool }
		_ = json.NewDecoder(r.Body).Decode(&b)
		if p.Enabled = b.Enabled; !b.Enabled {
			p.Disabled = since
		}
		return answer(200, p.agent(since))
	case r.Method == http.MethodDelete:
		p.Deleted = since
		return answer(204, nil)
	}
	return answer(200, p.agent(since))
}

func (p *Pool) agent(since time.Duration) map[string]any {
	standsOn := p.StandsOn
	if standsOn == "" {
		standsOn = ThisInstance
	}
	body := map[string]any{"id": 7, "name": "web-1", "status": "online", "enabled": p.Enabled}
	if standsOn != "-" {
		body["systemCapabilities"] = map[string]string{
			"AZP_BOOTSTRAP_INSTANCE_ID": standsOn,
			"AZP_BOOTSTRAP_REGISTERED":  p.Mark,
		}
	}
	if since < p.JobEnds {
		body["assignedRequest"] = map[string]any{"requestId": 1}
	}
	return body
}

// Denies is a pool that refuses one method.
type Denies struct {
	*Pool
	Method string
}

// RoundTrip answers as the pool does, or with 403.
func (r Denies) RoundTrip(q *http.Request) (*http.Response, error) {
	if q.Method != r.Method {
		return r.Pool.RoundTrip(q)
	}
	p := &Pool{Begin: r.Begin, Trouble: func(time.Duration) int { return http.StatusForbidden }}
	return p.RoundTrip(q)
}

// A Worker is an agent on this VM that runs a job for a while.
type Worker struct {
	agent.Runner
	Until   time.Time
	Stopped time.Time
}

// Working reports whether the job runs.
func (w *Worker) Working(string) bool { return time.Now().Before(w.Until) }

// Workers are the job's.
func (w *Worker) Workers(service string) ([]string, error) {
	if w.Working(service) {
		return []string{"4711 1"}, nil
	}
	return nil, nil
}

// Running reports whether nobody has stopped it.
func (w *Worker) Running(string) (bool, string) { return w.Stopped.IsZero(), "in a test" }

// Remove stops it.
func (w *Worker) Remove(context.Context, string) error {
	if w.Stopped.IsZero() {
		w.Stopped = time.Now()
	}
	return nil
}

// New is a member of which nothing is known, with a journal of its own and what it reports.
func New(t *testing.T) (member.Member, phase.Runner) {
	t.Helper()
	log := logrus.New()
	log.SetOutput(io.Discard)
	live := health.NewLive()
	j, err := journal.Open(t.TempDir(), log, live.Set)
	if err != nil {
		t.Fatal(err)
	}
	redactor := &secret.Redactor{}
	m := member.Member{Journal: j, Log: log, Redactor: redactor}
	r := phase.Runner{
		Journal: j, Report: &health.Reporter{Log: log, Live: live}, Log: log, Redact: redactor.Redact,
		Drop: func() {}, Runs: func() bool { return false },
	}
	return m, r
}

// Wrote changes what the journal says.
func Wrote(t *testing.T, j *journal.Journal, change func(*journal.State)) {
	t.Helper()
	if err := j.Update(change); err != nil {
		t.Fatal(err)
	}
}

// Access reaches Azure DevOps by way of a transport, with a PAT given by hand.
func Access(t *testing.T, s config.Server, by http.RoundTripper) *access.Access {
	t.Helper()
	pat, err := secret.NewPAT("opaque-token")
	if err != nil {
		t.Fatal(err)
	}
	return access.New(
		access.Way{Server: s, Given: pat, Client: &http.Client{Transport: by}, Redactor: &secret.Redactor{}},
	)
}

// Joined is a VM that is ready, with its agent in the pool: by default one that is not there on
// disk.
func Joined(t *testing.T, p *Pool, drain config.Drain) (member.Member, phase.Runner) {
	t.Helper()
	m, r := New(t)
	m.VM = vm.VM{Instance: azure.Instance{VMID: ThisInstance}, Config: &config.Config{
		Drain: drain, Agent: config.Agent{Service: "process"}, Deadline: 30 * time.Minute,
		Target: config.Target{Pool: &config.Pool{Name: "Default"}},
		Server: config.Server{Hosted: true, Name: "contoso", Base: "https://dev.azure.com/contoso"},
	}}
	m.Access = Access(t, m.VM.Config.Server, p)
	m.Agent = Runner(t, m)
	r.Drop, r.Runs = m.Access.Drop, m.Runs
	Wrote(t, m.Journal, func(s *journal.State) {
		s.InstanceID = ThisInstance
		s.Target, s.Agent = m.VM.Target(), journal.Agent{Name: "web-1", ID: 7}
		s.Target.ID, s.Target.PoolID = 1, 1
		s.Joined()
	})
	return m, r
}

// Runner is Microsoft's agent in a folder where it is not.
func Runner(t *testing.T, m member.Member) agent.Runner {
	return agent.Runner{Home: agent.Home{Dir: t.TempDir(), User: "nobody"}, Process: true, State: m.Journal.Dir()}
}
