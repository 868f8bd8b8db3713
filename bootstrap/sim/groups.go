package sim

import (
	"net/http"
	"strconv"
	"strings"
)

func (p *project) group(kind, id string) *group {
	for _, g := range p.groups {
		if g.kind == kind && strconv.Itoa(g.id) == id {
			return g
		}
	}
	return nil
}

func (g *group) area() string { return g.kind } // a PAT's scopes are named likewise

func (c *call) listGroups(p *project, kind string) {
	if !c.may(kind, false) {
		return
	}
	q := c.r.URL.Query()
	var out []object
	c.sim.mu.Lock()
	for _, g := range p.groups {
		if g.kind != kind || q.Get("name") != "" && !strings.EqualFold(q.Get("name"), g.name) || q.Get("actionFilter") == "manage" && !c.pat.has(kind, true) {
			continue
		}
		out = append(out, g.body())
	}
	c.sim.mu.Unlock()
	reply(c.w, http.StatusOK, list(out))
}

func (g *group) body() object {
	o := object{"id": g.id, "name": g.name, "project": object{"id": g.project.id, "name": g.project.name}}
	if g.kind == "deploymentGroup" {
		o["pool"] = g.pool.body()
		o["machineCount"] = len(g.members)
	}
	return o
}

// oneGroup answers for one group; an environment's lists its resources if expands asks for them.
func (c *call) oneGroup(g *group) {
	if !c.may(g.area(), false) {
		return
	}
	c.sim.mu.Lock()
	defer c.sim.mu.Unlock()
	o := g.body()
	if e := strings.ToLower(c.r.URL.Query().Get("expands")); g.kind == "environment" && (e == "1" || e == "resourcereferences") {
		resources := []object{}
		for _, m := range g.members {
			resources = append(resources, object{"id": m.id, "name": m.agent.name, "type": "virtualMachine", "tags": m.tags})
		}
		o["resources"] = resources
	}
	reply(c.w, http.StatusOK, o)
}

// everywhere checks what registration in deployment groups and environments of Services wants.
func (c *call) everywhere() bool {
	if c.agent != nil || !c.hosted() || len(c.pat.Organizations) == 0 {
		return true
	}
	c.refuse(http.StatusForbidden, "AccessDeniedException", "Access denied. "+c.pat.User+" needs Manage permission to perform this action. For more information, contact the Azure DevOps Server administrator.")
	return false
}

type memberBody struct {
	ID    int       `json:"id"`
	Name  string    `json:"name"`
	Tags  []string  `json:"tags"`
	Agent agentBody `json:"agent"`
	// as AddVirtualMachineResource sends it
	VirtualMachineResource *struct {
		Name  string    `json:"name"`
		Tags  []string  `json:"tags"`
		Agent agentBody `json:"agent"`
	} `json:"virtualMachineResource"`
}

func (c *call) memberBody(g *group, m *member, whole bool) object {
	o := object{"id": m.id, "tags": m.tags}
	if m.tags == nil {
		o["tags"] = []string{}
	}
	if g.kind == "environment" {
		o["name"], o["type"], o["environmentReference"] = m.agent.name, "virtualMachine", object{"id": g.id, "name": g.name}
	}
	if whole {
		o["agent"] = c.registered(m.agent)
	} else {
		// an environment's own answer has no capabilities; a deployment group's has them if asked
		o["agent"] = c.body(m.agent, g.kind == "deploymentGroup" && strings.Contains(strings.ToLower(c.r.URL.Query().Get("$expand")), "capabilities"))
	}
	return o
}

func (c *call) members(g *group, id string) {
	method := c.r.Method
	if !c.may(g.area(), method != http.MethodGet) || method != http.MethodGet && !c.everywhere() {
		return
	}
	switch {
	case method == http.MethodGet && id == "":
		c.sim.mu.Lock()
		defer c.sim.mu.Unlock()
		var out []object
		for _, m := range g.members {
			if n := c.r.URL.Query().Get("name"); n == "" || strings.EqualFold(n, m.agent.name) {
				out = append(out, c.memberBody(g, m, false))
			}
		}
		reply(c.w, http.StatusOK, list(out))
	case method == http.MethodPost && id == "":
		c.addMember(g)
	case method == http.MethodPatch && id == "" && g.kind == "deploymentGroup":
		c.tagTargets(g)
	case method == http.MethodPatch && id == "":
		c.tagResource(g)
	case method == http.MethodPut:
		c.replaceMember(g, id)
	case method == http.MethodDelete && id != "":
		c.deleteMember(g, id)
	default:
		c.refuse(http.StatusMethodNotAllowed, "", "The requested resource does not support http method '"+method+"'.")
	}
}

func (c *call) addMember(g *group) {
	var b memberBody
	if !c.read(&b) {
		return
	}
	if v := b.VirtualMachineResource; v != nil {
		b.Name, b.Tags, b.Agent = v.Name, v.Tags, v.Agent
	}
	c.sim.mu.Lock()
	defer c.sim.mu.Unlock()
	for _, m := range g.members {
		if strings.EqualFold(m.agent.name, b.Agent.Name) {
			c.refuse(http.StatusConflict, "DeploymentMachineExistsException", "The group already contains a machine with name "+b.Agent.Name+".")
			return
		}
	}
	m := &member{id: c.next(), tags: b.Tags, agent: c.newAgent(b.Agent)}
	g.members = append(g.members, m)
	g.pool.agents = append(g.pool.agents, m.agent)
	reply(c.w, http.StatusOK, c.memberBody(g, m, true))
}

// tagTargets is UpdateDeploymentTargets: a list of targets with their tags.
func (c *call) tagTargets(g *group) {
	var bs []memberBody
	if !c.read(&bs) {
		return
	}
	c.sim.mu.Lock()
	defer c.sim.mu.Unlock()
	var out []object
	for _, b := range bs {
		for _, m := range g.members {
			if m.id == b.ID {
				m.tags = b.Tags
				out = append(out, c.memberBody(g, m, false))
			}
		}
	}
	reply(c.w, http.StatusOK, list(out))
}

// tagResource is UpdateVirtualMachineResource: one resource, its ID in the body.
func (c *call) tagResource(g *group) {
	var b memberBody
	if !c.read(&b) {
		return
	}
	c.sim.mu.Lock()
	defer c.sim.mu.Unlock()
	for _, m := range g.members {
		if m.id == b.ID {
			m.tags = b.Tags
			reply(c.w, http.StatusOK, c.memberBody(g, m, false))
			return
		}
	}
	c.refuse(http.StatusNotFound, "VirtualMachineResourceNotFoundException", "No such resource in the environment.")
}

func (c *call) replaceMember(g *group, id string) {
	var b memberBody
	if !c.read(&b) {
		return
	}
	c.sim.mu.Lock()
	defer c.sim.mu.Unlock()
	for _, m := range g.members {
		if strconv.Itoa(m.id) == id || id == "" && m.id == b.ID {
			m.agent.replace(b.Agent)
			if b.Tags != nil {
				m.tags = b.Tags
			}
			reply(c.w, http.StatusOK, c.memberBody(g, m, true))
			return
		}
	}
	c.refuse(http.StatusNotFound, "DeploymentMachineNotFoundException", "No such machine in the group.")
}

func (c *call) deleteMember(g *group, id string) {
	c.sim.mu.Lock()
	defer c.sim.mu.Unlock()
	for i, m := range g.members {
		if strconv.Itoa(m.id) != id {
			continue
		}
		if c.busy(m.agent) {
			return
		}
		g.members = append(g.members[:i:i], g.members[i+1:]...)
		for j, a := range g.pool.agents {
			if a == m.agent {
				g.pool.agents = append(g.pool.agents[:j:j], g.pool.agents[j+1:]...)
				break
			}
		}
		c.w.WriteHeader(http.StatusNoContent)
		return
	}
	c.refuse(http.StatusNotFound, "DeploymentMachineNotFoundException", "No such machine in the group.")
}
