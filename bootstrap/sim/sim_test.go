package sim

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

func TestByID(t *testing.T) {
	w := newWorld(t)
	for _, kind := range kinds {
		p := w.add(kind, "web-1")
		id := w.good("GET", p.path, "").ID
		if !strings.HasSuffix(p.path, "/"+strconv.Itoa(id)) {
			t.Errorf("%s: the answer's ID is %d", p.path, id)
		}
		w.good("GET", p.inPool(), "")
	}
	w.refused(
		"GET",
		"/_apis/distributedtask/pools/999",
		"",
		404,
		"TaskAgentPoolNotFoundException",
		"No agent pool found with identifier 999.",
	)
	w.refused("GET", "/_apis/distributedtask/pools/999/agents", "", 404, "TaskAgentPoolNotFoundException", "999")
	w.refused(
		"GET",
		"/Shop/_apis/distributedtask/deploymentgroups/999",
		"",
		404,
		"DeploymentGroupNotFoundException",
		"999",
	)
	w.refused("GET", "/Shop/_apis/pipelines/environments/999", "", 404, "EnvironmentNotFoundException", "999")
	w.refused(
		"GET",
		"/Shop/_apis/pipelines/environments/999/providers/virtualmachines",
		"",
		404,
		"EnvironmentNotFoundException",
		"999",
	)
	w.refused(
		"GET",
		"/Nowhere/_apis/pipelines/environments",
		"",
		404,
		"ProjectDoesNotExistWithNameException",
		"Nowhere",
	)
	group, environment := w.add("deploymentGroup", "web-2"), w.add("environment", "web-2")
	if got := w.good(
		"GET",
		group.one()+"?$expand=capabilities",
		"",
	); got.ID != group.member ||
		got.Agent["systemCapabilities"] == nil {
		t.Errorf("target by ID: %+v", got)
	}
	w.refused("GET", group.members+"/999", "", 404, "DeploymentMachineNotFoundException", "999")
	w.refused("DELETE", group.members+"/999", "", 404, "DeploymentMachineNotFoundException", "999")
	w.refused("DELETE", environment.members+"/999", "", 404, "EnvironmentResourceNotFoundException", "999")
	if got := w.ask("GET", environment.one(), ""); got.status != 405 { // the specification has no such route
		t.Errorf("VM resource by ID: %d", got.status)
	}
	w.refused("GET", environment.pool+"/agents/999", "", 404, "TaskAgentNotFoundException", "with identifier 999.")
}

func TestRename(t *testing.T) {
	w := newWorld(t)
	pool, group, environment := w.add(
		"pool",
		"web-1",
	), w.add(
		"deploymentGroup",
		"web-2",
	), w.add(
		"environment",
		"web-3",
	)
	project := w.good("GET", group.path, "").raw["project"].(map[string]any)["id"].(string)
	for kind, names := range map[string][2]string{"pool": {"default", "Linux"}, "project": {"Shop", "Store"}, "deploymentGroup": {"web-servers", "web"}, "environment": {"production", "prod"}} {
		if !w.sim.Rename(kind, names[0], names[1]) || w.sim.Rename(kind, "nothing", "x") {
			t.Errorf("rename %s", kind)
		}
	}
	w.refused("GET", group.path, "", 404, "ProjectDoesNotExistWithNameException", "Shop")
	for want, p := range map[string]place{"Linux": pool, "web": group, "prod": environment} {
		for _, address := range []string{p.path, strings.Replace(p.path, "/Shop/", "/Store/", 1), strings.Replace(p.path, "/Shop/", "/"+project+"/", 1)} {
			if strings.HasPrefix(address, "/Shop/") {
				continue
			}
			if got := w.good(
				"GET",
				address,
				"",
			); got.Name != want ||
				!strings.HasSuffix(p.path, "/"+strconv.Itoa(got.ID)) {
				t.Errorf("%s is called %s, want %s", address, got.Name, want)
			}
		}
	}
	if got := w.good("GET", "/_apis/distributedtask/pools?poolName=Default", ""); got.Count != 0 {
		t.Errorf("the old name finds %v", got.Value)
	}
}

func TestDeleteTarget(t *testing.T) {
	for kind, name := range map[string]string{"pool": "Default", "deploymentGroup": "web-servers", "environment": "production"} {
		w := newWorld(t)
		p := w.add(kind, "web-1")
		if w.sim.DeleteTarget(kind, "nothing") || !w.sim.DeleteTarget(kind, name) || w.sim.DeleteTarget(kind, name) {
			t.Errorf("delete-target %s %s", kind, name)
		}
		for _, path := range []string{p.path, p.members, p.inPool()} {
			if got := w.ask("GET", path, ""); got.status != 404 {
				t.Errorf("%s: %d", path, got.status)
			}
		}
		if all := w.sim.Agents(); len(all) != 0 {
			t.Errorf("%s: left are %v", kind, all)
		}
	}
}

func TestTakeover(t *testing.T) {
	for _, kind := range kinds {
		w := newWorld(t)
		p := w.add(kind, "web-1")
		before := w.good("GET", p.inPool(), "").raw
		if !w.sim.Enable("web-1", false) || w.sim.Enable("web-2", false) {
			t.Fatal("disable")
		}
		agent := fmt.Sprintf(
			`{"id": %d, "name": "web-1", "version": "4.2.0", "systemCapabilities": {"C": "3"}}`,
			p.agent,
		)
		switch kind {
		case "pool":
			w.good("PUT", p.one(), agent)
		case "deploymentGroup":
			w.good("PUT", p.one(), `{"agent": `+agent+`}`)
		default:
			w.good("PUT", p.members, fmt.Sprintf(`{"id": %d, "agent": %s}`, p.member, agent))
		}
		after := w.good("GET", p.inPool()+"?includeCapabilities=true", "").raw
		caps := after["systemCapabilities"].(map[string]any)
		if after["id"] != before["id"] || after["createdOn"] != before["createdOn"] || after["version"] != "4.2.0" ||
			len(caps) != 1 ||
			caps["C"] != "3" {
			t.Errorf("%s: %v became %v", kind, before, after)
		}
		if after["enabled"] != false {
			t.Errorf("%s: a disabled agent is enabled by a takeover", kind)
		}
		w.good("PATCH", p.inPool(), fmt.Sprintf(`{"id": %d, "enabled": true}`, p.agent))
		enabled := w.good("GET", p.inPool()+"?includeCapabilities=true", "").raw
		if enabled["enabled"] != true || enabled["version"] != "4.2.0" ||
			len(enabled["systemCapabilities"].(map[string]any)) != 1 {
			t.Errorf("%s: enabling makes it %v", kind, enabled)
		}
	}
}

func TestEnvironmentsPatchWantsTheAgent(t *testing.T) {
	w := newWorld(t)
	p := w.add("environment", "web-1")
	patch := func(agent string) string {
		return fmt.Sprintf(`{"id": %d, "name": "web-1", "tags": ["blue"]%s}`, p.member, agent)
	}
	w.refused("PATCH", p.members, patch(""), 400, "ArgumentNullException", "Agent")
	w.refused("PATCH", p.members, patch(`, "agent": null`), 400, "ArgumentNullException", "Agent")
	w.refused("PATCH", p.members, patch(`, "agent": {}`), 400, "InvalidVirtualMachineResourceException", "")
	w.refused("PATCH", p.members, patch(`, "agent": {"id": 999}`), 400, "InvalidVirtualMachineResourceException", "")
	w.refused("PATCH", p.members, `{"id": 999, "agent": {"id": 1}}`, 404, "EnvironmentResourceNotFoundException", "")
	w.refused(
		"POST",
		p.members,
		`{"virtualMachineResource": {"name": "web-2"}}`,
		400,
		"ArgumentNullException",
		"Agent",
	)
	if got := w.good("GET", p.members, "").Value[0]["tags"].([]any); len(got) != 0 {
		t.Errorf("refused, and tagged %v", got)
	}
	w.good("PATCH", p.members, patch(fmt.Sprintf(`, "agent": {"id": %d}`, p.agent)))
	if got := w.good("GET", p.members, "").Value[0]["tags"].([]any); !slices.Equal(got, []any{"blue"}) {
		t.Errorf("tags are %v", got)
	}
	if got := w.good("GET", p.inPool()+"?includeCapabilities=true", "").raw["systemCapabilities"].(map[string]any); len(
		got,
	) != 2 {
		t.Errorf("capabilities are %v", got)
	}
}

func TestPoolBehindAnEnvironment(t *testing.T) {
	w := newWorld(t)
	id := w.good("GET", "/Shop/_apis/pipelines/environments?name=production", "").Value[0]["id"]
	address := fmt.Sprintf("/Shop/_apis/pipelines/environments/%v/providers/virtualmachines", id)
	w.refused("GET", address+"/pool", "", 404, "EnvironmentPoolNotFoundException", "")
	w.apply("quirks: {environmentPoolNotFound: 500}")
	w.refused("GET", address+"/pool", "", 500, "EnvironmentPoolNotFoundException", "")
	p := w.add("environment", "web-1")
	name := w.good("GET", address+"/pool", "").Name
	if !strings.HasPrefix(name, fmt.Sprintf("environment-%v-", id)) || len(name) < len("environment--")+36 {
		t.Errorf("the pool is named %s", name)
	}
	if got := w.good("GET", "/_apis/distributedtask/pools?poolType=deployment&poolName="+name, ""); got.Count != 1 {
		t.Errorf("among the deployment pools are %v", got.Value)
	}
	if got := w.good("GET", "/_apis/distributedtask/pools?poolName="+name, ""); got.Count != 0 {
		t.Errorf("among the agent pools are %v", got.Value)
	}
	if !w.sim.remove("web-1", true) || w.good("GET", p.members, "").Count != 0 {
		t.Error("the VM resource stays")
	}
	body := `{"virtualMachineResource": {"name": "WEB-1", "agent": {"name": "WEB-1"}}}`
	w.refused(
		"POST",
		p.members,
		body,
		409,
		"TaskAgentExistsException",
		"Pool "+name+" already contains an agent with name web-1.",
	)
	w.good("DELETE", p.inPool(), "")
	w.good("POST", p.members, body)
	w.refused("POST", p.members, body, 409, "EnvironmentResourceExistsException", "WEB-1")
}

func TestAgentExists(t *testing.T) {
	w := newWorld(t)
	p := w.add("pool", "web-1")
	w.refused(
		"POST",
		p.members,
		`{"name": "Web-1"}`,
		409,
		"TaskAgentExistsException",
		"Pool Default already contains an agent with name Web-1.",
	)
	g := w.add("deploymentGroup", "web-1")
	w.refused("POST", g.members, `{"agent": {"name": "Web-1"}}`, 409, "DeploymentMachineExistsException", "web-1")
}

func TestRunningJobIsNotRemoved(t *testing.T) {
	for _, kind := range kinds {
		w := newWorld(t)
		p := w.add(kind, "web-1")
		w.online("web-1")
		if _, problem := w.sim.queue("web-1", "deploy", "", 60); problem != "" {
			t.Fatal(problem)
		}
		w.refused(
			"DELETE",
			p.one(),
			"",
			400,
			"TaskAgentJobStillRunningException",
			`Agent "web-1" is running a job for pool "`,
		)
		w.refused("DELETE", p.inPool(), "", 400, "TaskAgentJobStillRunningException", "web-1")
		w.apply("quirks: {jobStillRunning: 500}")
		w.refused("DELETE", p.one(), "", 500, "TaskAgentJobStillRunningException", "web-1")
	}
}

func TestDisabledTakesNoJob(t *testing.T) {
	w := newWorld(t)
	w.add("pool", "web-1")
	w.online("web-1")
	w.sim.Enable("web-1", false)
	if _, problem := w.sim.queue("web-1", "deploy", "", 60); !strings.Contains(problem, "disabled") {
		t.Errorf("the job is taken (%s)", problem)
	}
}

func TestQuirks(t *testing.T) {
	w := newWorld(t)
	w.apply("quirks: {notFound: 500, accessDenied: 500}")
	w.refused("GET", "/_apis/distributedtask/pools/999", "", 500, "TaskAgentPoolNotFoundException", "999")
	w.refused("GET", "/Shop/_apis/pipelines/environments/999", "", 500, "EnvironmentNotFoundException", "999")
	w.apply(`{quirks: {accessDenied: 500}, pats: [{value: ` + pat + `, scopes: []}]}`)
	w.refused("GET", "/_apis/distributedtask/pools", "", 500, "AccessDeniedException", "Access denied.")
	w.apply(`pats: [{value: ` + pat + `, scopes: []}]`)
	w.refused("GET", "/_apis/distributedtask/pools", "", 403, "AccessDeniedException", "Access denied.")
}

func TestScenarioIsChecked(t *testing.T) {
	for text, want := range map[string]string{
		"quirks: {teapot: 418}":                         "teapot",
		"pats: [{value: x, hidden: maybe}]":             "maybe",
		"pats: [{value: x, noView: ['[']}]":             "syntax error",
		"pats: [{value: x, noManage: [ok, 'pool-[z']}]": "syntax error",
	} {
		var s Scenario
		if err := yaml.Unmarshal([]byte(text), &s); err != nil {
			t.Fatal(err)
		}
		if err := s.check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestScopes(t *testing.T) {
	w := newWorld(t)
	group, environment := w.add("deploymentGroup", "web-1"), w.add("environment", "web-2")
	for scope, reach := range map[string][3]bool{ // pool, deployment group, environment
		"agentPools":           {true, false, false},
		"deploymentGroup":      {true, true, false}, // contains the scope of pools
		"environment":          {true, false, true},
		"agentPools.read":      {},
		"deploymentGroup.read": {},
	} {
		// A PAT of the one organization is enough for every kind.
		w.apply(`pats: [{value: ` + pat + `, scopes: [` + scope + `], organizations: [contoso]}]`)
		for i, try := range []result{
			w.ask("PATCH", group.inPool(), `{"enabled": true}`),
			w.ask("PATCH", group.members, fmt.Sprintf(`[{"id": %d, "tags": []}]`, group.member)),
			w.ask("PATCH", environment.members, fmt.Sprintf(`{"id": %d, "tags": [], "agent": {"id": %d}}`, environment.member, environment.agent)),
		} {
			if reach[i] != (try.status == http.StatusOK) ||
				!reach[i] && (try.status != 403 || try.TypeKey != "AccessDeniedException") {
				t.Errorf("%s: try %d: %d %s", scope, i, try.status, try.TypeKey)
			}
		}
	}
}
