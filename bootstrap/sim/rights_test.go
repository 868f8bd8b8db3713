package sim

import (
	"fmt"
	"strings"
	"testing"
)

// limit takes rights from the PAT's owner.
func (w world) limit(rights string) {
	w.apply(`pats: [{value: ` + pat + `, user: a@contoso.com, scopes: [full], ` + rights + `}]`)
}

func TestWithoutView(t *testing.T) {
	for _, hidden := range []string{"", "notFound", "empty"} {
		for _, kind := range kinds {
			w := newWorld(t)
			p := w.add(kind, "web-1")
			name := w.good("GET", p.pool, "").Name
			w.limit(fmt.Sprintf(`noView: [%q], hidden: %q`, strings.Split(name, "-")[0]+"*", hidden))

			id := p.pool[strings.LastIndex(p.pool, "/")+1:]
			w.refused(
				"GET",
				p.pool,
				"",
				404,
				"TaskAgentPoolNotFoundException",
				"No agent pool found with identifier "+id+".",
			)
			for _, list := range []string{"?poolName=" + name, "?poolType=deployment&poolName=" + name} {
				if got := w.good("GET", "/_apis/distributedtask/pools"+list, ""); got.Count != 0 {
					t.Errorf("the list shows %v", got.Value)
				}
			}
			if hidden == "empty" {
				if got := w.good("GET", p.pool+"/agents", ""); got.Count != 0 || got.Value == nil {
					t.Errorf("agents: %v", got.raw)
				}
				w.refused("GET", p.inPool(), "", 404, "TaskAgentNotFoundException", "No agent found for pool "+id)
			} else {
				w.refused("GET", p.pool+"/agents", "", 404, "TaskAgentPoolNotFoundException", id)
				w.refused("GET", p.inPool(), "", 404, "TaskAgentPoolNotFoundException", id)
			}
			w.refused("DELETE", p.inPool(), "", 404, "TaskAgentPoolNotFoundException", id)
			if kind == "pool" {
				continue
			}
			// A member shows its agent by ID and no more.
			if got := w.good("GET", p.members, "").Value[0]["agent"].(map[string]any); len(got) != 1 ||
				got["id"] != float64(p.agent) {
				t.Errorf("%s: the agent shows as %v", kind, got)
			}
			if kind == "environment" {
				w.refused("GET", p.members+"/pool", "", 404, "EnvironmentPoolNotFoundException", "")
			} else if got := w.good("GET", p.path, "").Pool; len(got) != 1 {
				t.Errorf("the group shows its pool as %v", got)
			}
		}
	}
}

func TestWithoutManage(t *testing.T) {
	for _, kind := range kinds {
		w := newWorld(t)
		p := w.add(kind, "web-1")
		name := w.good("GET", p.pool, "").Name
		w.limit(fmt.Sprintf(`noManage: [%q]`, name))
		words := "Access denied. a@contoso.com needs Manage permissions for pool " + name + " to perform the action."
		denied := func(method, path, body string) {
			t.Helper()
			w.refused(method, path, body, 403, "AccessDeniedException", words)
		}
		agent := fmt.Sprintf(`{"id": %d, "name": "web-2"}`, p.agent)
		denied("POST", p.pool+"/agents", agent)
		denied("PUT", p.inPool(), agent)
		denied("PATCH", p.inPool(), `{"enabled": false}`)
		denied("DELETE", p.inPool(), "")
		denied("DELETE", p.one(), "")
		switch kind {
		case "deploymentGroup":
			denied("POST", p.members, `{"agent": `+agent+`}`)
			denied("PUT", p.one(), `{"agent": `+agent+`}`)
			denied("PATCH", p.members, fmt.Sprintf(`[{"id": %d, "tags": ["a"]}]`, p.member))
		case "environment":
			denied("POST", p.members, `{"virtualMachineResource": {"name": "web-2", "agent": `+agent+`}}`)
			denied("PUT", p.members, fmt.Sprintf(`{"id": %d, "agent": %s}`, p.member, agent))
			denied("PATCH", p.members, fmt.Sprintf(`{"id": %d, "agent": %s}`, p.member, agent))
		}
		w.good("GET", p.pool, "")
		w.good("GET", p.inPool(), "")
		w.refused("GET", p.pool+"?actionFilter=manage", "", 404, "TaskAgentPoolNotFoundException", "")
		for _, filter := range []string{"manage", "Manage", "2"} {
			for _, kind := range []string{"automation", "1", "Deployment", "2"} {
				if got := w.good(
					"GET",
					"/_apis/distributedtask/pools?actionFilter="+filter+"&poolType="+kind+"&poolName="+name,
					"",
				); got.Count != 0 {
					t.Errorf("pools to manage: %v", got.Value)
				}
			}
		}
		if all := w.sim.Agents(); len(all) != 1 || all[0].Name != "web-1" || all[0].Disabled || len(all[0].Tags) != 0 {
			t.Errorf("refused, and changed: %v", all)
		}
	}
}

// The pool behind an environment is not there before its first VM: whoever may not manage such
// pools cannot add that.
func TestFirstVMWithoutManage(t *testing.T) {
	w := newWorld(t)
	id := w.good("GET", "/Shop/_apis/pipelines/environments", "").Value[0]["id"]
	w.limit(`noManage: ["environment-*"]`)
	w.refused(
		"POST",
		fmt.Sprintf("/Shop/_apis/pipelines/environments/%v/providers/virtualmachines", id),
		`{"virtualMachineResource": {"name": "web-1", "agent": {"name": "web-1"}}}`,
		403,
		"AccessDeniedException",
		"for pool environment-",
	)
}
