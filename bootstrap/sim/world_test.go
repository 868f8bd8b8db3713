package sim

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

const pat = "simulatedpersonalaccesstoken234567abcdefghijklmnopqr"

// A world is one simulated Azure and who asks it.
type world struct {
	*testing.T
	sim *Sim
	pat string
}

func newWorld(t *testing.T) world {
	t.Helper()
	s, err := Load("")
	if err != nil {
		t.Fatal(err)
	}
	sim, err := New(s, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sim.file.Close() })
	return world{t, sim, pat}
}

// apply changes VMs, PATs, faults and quirks; a scenario without PATs keeps the default's.
func (w world) apply(text string) {
	w.Helper()
	var s Scenario
	if err := yaml.Unmarshal([]byte(text), &s); err != nil {
		w.Fatal(err)
	}
	if s.PATs == nil {
		s.PATs = w.sim.scenario.PATs
	}
	if err := w.sim.Apply(&s); err != nil {
		w.Fatal(err)
	}
}

type result struct {
	status  int
	TypeKey string
	Message string
	ID      int
	Name    string
	Count   int
	Tags    []string
	Agent   map[string]any
	Value   []map[string]any
	Pool    map[string]any
	raw     map[string]any
}

// ask asks Azure DevOps Services.
func (w world) ask(method, path, body string) (r result) {
	w.Helper()
	q := httptest.NewRequest(method, "https://dev.azure.com/contoso"+path, strings.NewReader(body))
	q.Header.Set("Accept", "application/json; api-version=7.1-preview")
	q.SetBasicAuth("", w.pat)
	rec := httptest.NewRecorder()
	w.sim.front(rec, q)
	r.status = rec.Code
	_ = json.Unmarshal(rec.Body.Bytes(), &r)
	_ = json.Unmarshal(rec.Body.Bytes(), &r.raw)
	return r
}

func (w world) good(method, path, body string) result {
	w.Helper()
	r := w.ask(method, path, body)
	if r.status/100 != 2 {
		w.Fatalf("%s %s: %d %s %s", method, path, r.status, r.TypeKey, r.Message)
	}
	return r
}

func (w world) refused(method, path, body string, status int, key, words string) {
	w.Helper()
	if r := w.ask(method, path, body); r.status != status || r.TypeKey != key || !strings.Contains(r.Message, words) {
		w.Errorf(
			"%s %s: got %d %s %q, want %d %s %q",
			method,
			path,
			r.status,
			r.TypeKey,
			r.Message,
			status,
			key,
			words,
		)
	}
}

// A place is a target with an agent in it; both kinds of group have members.
type place struct {
	kind, path, members, pool string
	member, agent             int
}

func (p place) inPool() string { return p.pool + "/agents/" + strconv.Itoa(p.agent) }
func (p place) one() string    { return p.members + "/" + strconv.Itoa(p.member) }

// add adds an agent as config.sh does.
func (w world) add(kind, name string) place {
	w.Helper()
	agent := fmt.Sprintf(`{"name": %q, "version": "4.1.0", "systemCapabilities": {"A": "1", "B": "2"}}`, name)
	switch kind {
	case "pool":
		p := place{
			kind: kind,
			pool: fmt.Sprintf(
				"/_apis/distributedtask/pools/%v",
				w.good("GET", "/_apis/distributedtask/pools?poolName=Default", "").Value[0]["id"],
			),
		}
		p.path, p.members = p.pool, p.pool+"/agents"
		p.agent = w.good("POST", p.members, agent).ID
		p.member = p.agent
		return p
	case "deploymentGroup":
		g := w.good("GET", "/Shop/_apis/distributedtask/deploymentgroups?name=web-servers", "").Value[0]
		p := place{
			kind: kind,
			path: fmt.Sprintf("/Shop/_apis/distributedtask/deploymentgroups/%v", g["id"]),
			pool: fmt.Sprintf("/_apis/distributedtask/pools/%v", g["pool"].(map[string]any)["id"]),
		}
		p.members = p.path + "/targets"
		got := w.good("POST", p.members, `{"agent": `+agent+`}`)
		p.member, p.agent = got.ID, int(got.Agent["id"].(float64))
		return p
	}
	g := w.good("GET", "/Shop/_apis/pipelines/environments?name=production", "").Value[0]
	p := place{kind: kind, path: fmt.Sprintf("/Shop/_apis/pipelines/environments/%v", g["id"])}
	p.members = p.path + "/providers/virtualmachines"
	got := w.good("POST", p.members, `{"virtualMachineResource": {"name": "`+name+`", "agent": `+agent+`}}`)
	p.member, p.agent = got.ID, int(got.Agent["id"].(float64))
	p.pool = fmt.Sprintf("/_apis/distributedtask/pools/%d", w.good("GET", p.members+"/pool", "").ID)
	return p
}

var kinds = []string{"pool", "deploymentGroup", "environment"}

// online lets an agent have a session, without an agent.
func (w world) online(name string) {
	w.sim.eachServer(func(v *server) {
		for _, p := range v.pools {
			for _, a := range p.agents {
				if a.name == name {
					a.session, a.seen = guid(), time.Now()
				}
			}
		}
	})
}
