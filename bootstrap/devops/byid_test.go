package devops

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"azp-bootstrap/bootstrap/fault"
)

// Only the server's own word that the agent is not there means gone: a pool that may not be seen is a 404, too.
func TestByIDTellsGoneFromNotVisible(t *testing.T) {
	for _, c := range []struct {
		status int
		body   string
		gone   bool
	}{
		{404, `{"typeKey":"TaskAgentNotFoundException","message":"Agent with ID 7 was not found."}`, true},
		{500, `{"typeKey":"TaskAgentNotFoundException","message":"Agent with ID 7 was not found."}`, true},
		{404, `{"typeKey":"TaskAgentPoolNotFoundException","message":"Pool with ID 1 was not found."}`, false},
		{404, "", false},
		{404, "<html>", false},
		{403, `{"typeKey":"AccessDeniedException"}`, false},
		{503, "", false},
	} {
		place := Place{Target: Target{Pool, "", "x"}, ID: 1, PoolID: 1}
		a, err := server(t, func(*http.Request) (int, string) { return c.status, c.body }).ByID(t.Context(), place, 7)
		if a != nil || err == nil || errors.Is(err, ErrGone) != c.gone {
			t.Errorf("%d %s: %+v, %v", c.status, c.body, a, err)
		}
		if f := fault.From(err); f.Class == fault.Internal || f.Advice == "" {
			t.Errorf("nobody classified %v", err)
		}
	}
}

// What an agent tells of its VM; and when it was registered: by the server, or later by the VM that took it over.
func TestByIDReadsTheMarks(t *testing.T) {
	day := func(n int) time.Time { return time.Date(2026, 11, n, 0, 0, 0, 0, time.UTC) }
	for _, c := range []struct {
		created, registered string
		want                time.Time
	}{
		{`"2026-11-01T00:00:00Z"`, "2026-11-02T00:00:00Z", day(2)},
		{`"2026-11-03T00:00:00Z"`, "2026-11-02T00:00:00Z", day(3)},
		{`"2026-11-01T00:00:00Z"`, "", day(1)},
		{`"2026-11-01T00:00:00Z"`, "yesterday", day(1)},
		{`null`, "2026-11-02T00:00:00Z", time.Time{}}, // the VM's clock alone proves nothing
	} {
		body := `{"id":7,"name":"web-1","status":"offline","statusChangedOn":null,"createdOn":` + c.created + `,"systemCapabilities":{
			"AZP_BOOTSTRAP_INSTANCE_ID":"ID","AZP_BOOTSTRAP_SCALE_SET":"web","AZP_BOOTSTRAP_RESOURCE_GROUP":"shop",
			"AZP_BOOTSTRAP_SUBSCRIPTION_ID":"1","AZP_BOOTSTRAP_REGISTERED":"` + c.registered + `"}}`
		place := Place{Target: Target{DeploymentGroup, "Shop", "x"}, ID: 1, PoolID: 2}
		a, err := server(t, func(r *http.Request) (int, string) {
			if !strings.HasSuffix(r.URL.Path, "/pools/2/agents/7") || r.URL.Query().Get("includeCapabilities") != "true" {
				t.Errorf("asked for %s", r.URL)
			}
			return 200, body
		}).ByID(t.Context(), place, 7)
		if err != nil || a.ID != 7 || a.InstanceID != "id" || a.ScaleSet != "web" || a.ResourceGroup != "shop" || a.SubscriptionID != "1" {
			t.Errorf("%+v, %v", a, err)
		} else if !a.Created.Equal(c.want) || !a.Since.IsZero() {
			t.Errorf("%s, %s: registered %s", c.created, c.registered, a.Created)
		}
	}
}

// The resource goes with its agent; an agent whose resource went before goes from the pool; another's resource of the
// same name stays.
func TestDeleteByID(t *testing.T) {
	for _, c := range []struct{ name, kind, resources, deleted string }{
		{"an agent of a pool", Pool, "", "/pools/1/agents/7"},
		{"a VM resource", Environment, `{"id":3,"name":"web-1","agent":{"id":7,"name":"web-1"}}`, "/environments/1/providers/virtualmachines/3"},
		{"a target", DeploymentGroup, `{"id":3,"agent":{"id":7,"name":"web-1"}}`, "/deploymentgroups/1/targets/3"},
		{"left behind", Environment, "", "/pools/2/agents/7"},
		{"left behind, the name is taken", DeploymentGroup, `{"id":4,"agent":{"id":8,"name":"web-1"}}`, "/pools/2/agents/7"},
	} {
		var deleted []string
		client := server(t, func(r *http.Request) (int, string) {
			switch {
			case r.Method == http.MethodDelete:
				_, path, _ := strings.Cut(r.URL.Path, "_apis/")
				deleted = append(deleted, path)
				return 204, ""
			case strings.HasSuffix(r.URL.Path, "/pool"):
				return 200, `{"id":2}`
			}
			return 200, `{"value":[` + c.resources + `]}`
		})
		place := Place{Target: Target{c.kind, "Shop", "x"}, ID: 1, PoolID: map[string]int{Pool: 1, DeploymentGroup: 2}[c.kind], area: "pipelines"}
		a := &Agent{ID: 7, Name: "web-1"}
		if c.kind == Pool {
			a.ResourceID = 7
		}
		if err := client.DeleteByID(t.Context(), place, a); err != nil || len(deleted) != 1 || !strings.HasSuffix(deleted[0], c.deleted) {
			t.Errorf("%s: %v, %v", c.name, deleted, err)
		}
	}
}

// The pool behind an environment is made with its first VM.
func TestAllOfAnEnvironmentWithoutVMs(t *testing.T) {
	for _, status := range []int{404, 500} {
		all, err := server(t, func(*http.Request) (int, string) {
			return status, `{"typeKey":"EnvironmentPoolNotFoundException","message":"No pool."}`
		}).All(t.Context(), Place{Target: Target{Environment, "Shop", "x"}, ID: 1, area: "pipelines"})
		if err != nil || len(all) != 0 {
			t.Errorf("%d: %v, %v", status, all, err)
		}
	}
}
