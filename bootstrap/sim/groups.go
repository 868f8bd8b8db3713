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

func (g *group) member(id string) *member {
	for _, m := range g.members {
		if strconv.Itoa(m.id) == id {
			return m
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
		if g.kind != kind || q.Get("name") != "" && !strings.EqualFold(q.Get("name"), g.name) ||
			q.Get("actionFilter") == "manage" && !c.pat.has(kind, true) {
			continue
		}
		out = append(out, c.groupBody(g))
	}
	c.sim.mu.Unlock()
	reply(c.w, http.StatusOK, list(out))
}

// groupBody shows of a pool that the caller may not see nothing but its ID.
func (c *call) groupBody(g *group) object {
	o := object{"id": g.id, "name": g.name, "project": object{"id": g.project.id, "name": g.project.name}}
	if g.kind == "deploymentGroup" {
		o["machineCount"] = len(g.members)
		if o["pool"] = g.pool.body(); !c.views(g.pool) {
			o["pool"] = object{"id": g.pool.id}
		}
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
	o := c.groupBody(g)
	if e := strings.ToLower(
		c.r.URL.Query().Get("expands"),
	); g.kind == "environment" &&
		(e == "1" || e == "resourcereferences") {
		resources := []object{}
		for _, m := range g.members {
			resources = append(
				resources,
				object{"id": m.id, "name": m.agent.name, "type": "virtualMachine", "tags": m.tags},
			)
		}
		o["resources"] = resources
	}
	reply(c.w, http.StatusOK, o)
}

// environmentPool is Pool_Get: the pool behind an environment.
func (c *call) environmentPool(g *group) {
	if !c.may(g.area(), false) {
		return
	}
	c.sim.mu.Lock()
	defer c.sim.mu.Unlock()
	if g.pool == nil || !c.views(g.pool) {
		c.noEnvironmentPool(g)
		return
	}
	reply(c.w, http.StatusOK, g.pool.body())
}

type memberBody struct {
	ID    int        `json:"id"`
	Name  string     `json:"name"`
	Tags  []string   `json:"tags"`
	Agent *agentBody `json:"agent"`
	// as AddVirtualMachineResource sends it
	VirtualMachineResource *struct {
		Name  string     `json:"name"`
		Tags  []string   `json:"tags"`
		Agent *agentBody `json:"agent"`
	} `json:"virtualMachineResource"`
}

func (c *call) memberBody(g *group, m *member, whole bool) object {
	o := object{"id": m.id, "tags": m.tags}
	if m.tags == nil {
		o["tags"] = []string{}
	}
	if g.kind == "environment" {
		o["name"], o["type"], o["environmentReference"] = m.agent.name, "virtualMachine", object{
			"id":   g.id,
			"name": g.name,
		}
	}
	switch {
	case whole:
		o["agent"] = c.registered(m.agent)
	case !c.views(g.pool), !g.pool.holds(m.agent): // or deleted in the pool
		o["agent"] = object{"id": m.agent.id}
	default:
		// an environment's own answer has no capabilities; a deployment group's has them if asked
		o["agent"] = c.body(
			m.agent,
			g.kind == "deploymentGroup" &&
				strings.Contains(strings.ToLower(c.r.URL.Query().Get("$expand")), "capabilities"),
		)
	}
	return o
}

func (c *call) members(g *group, id string) {
	method := c.r.Method
	if !c.may(g.area(), method != http.MethodGet) {
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
	case method == http.MethodGet && g.kind == "deploymentGroup": // an environment's resources have no such route
		c.sim.mu.Lock()
		defer c.sim.mu.Unlock()
		if m := g.member(id); m != nil {
			reply(c.w, http.StatusOK, c.memberBody(g, m, false))
			return
		}
		c.noMember(g, id)
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
		c.noMethod()
	}
}

func (c *call) noMethod() {
	c.refuse(http.StatusMethodNotAllowed, "", "The requested resource does not support http method '"+c.r.Method+"'.")
}

// only does what a method asks for; others are refused.
func (c *call) only(method string, do func()) func() {
	if c.r.Method != method {
		return c.noMethod
	}
	return do
}

func (c *call) addMember(g *group) {
	var b memberBody
	if !c.read(&b) {
		return
	}
	if v := b.VirtualMachineResource; v != nil {
		b.Name, b.Tags, b.Agent = v.Name, v.Tags, v.Agent
	}
	if b.Agent == nil {
		c.noArgument("Agent")
		return
	}
	if !c.takes(b.Agent) {
		return
	}
	c.sim.mu.Lock()
	defer c.sim.mu.Unlock()
	if g.pool == nil { // an environment's first VM makes it
		g.pool = c.newPool(g.poolID, "environment-"+strconv.Itoa(g.id)+"-"+guid(), "deployment")
	}
	if !c.mayManage(g.pool) {
		return
	}
	for _, m := range g.members {
		if strings.EqualFold(m.agent.name, b.Agent.Name) {
			c.memberExists(g, m.agent.name)
			return
		}
	}
	for _, a := range g.pool.agents { // left there when its VM resource was deleted
		if strings.EqualFold(a.name, b.Agent.Name) {
			c.agentExists(g.pool, a.name)
			return
		}
	}
	m := &member{id: c.next(), tags: b.Tags, agent: c.newAgent(*b.Agent)}
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
	if !c.mayManage(g.pool) {
		return
	}
	var out []object
	for _, b := range bs {
		if m := g.member(strconv.Itoa(b.ID)); m != nil {
			m.tags = b.Tags
			out = append(out, c.memberBody(g, m, false))
		}
	}
	reply(c.w, http.StatusOK, list(out))
}

// tagResource is UpdateVirtualMachineResource: one resource, its ID in the body. Of its agent the
// ID alone counts, and it must be that of the resource's own; capabilities stay.
func (c *call) tagResource(g *group) {
	var b memberBody
	if !c.read(&b) {
		return
	}
	c.sim.mu.Lock()
	defer c.sim.mu.Unlock()
	m := g.member(strconv.Itoa(b.ID))
	switch {
	case b.Agent == nil:
		c.noArgument("Agent")
	case m == nil:
		c.noMember(g, strconv.Itoa(b.ID))
	case b.Agent.ID != m.agent.id: // status and words are not known
		c.refuse(
			http.StatusBadRequest,
			"InvalidVirtualMachineResourceException",
			"The agent is not that of the resource.",
		)
	case c.mayManage(g.pool):
		m.tags = b.Tags
		reply(c.w, http.StatusOK, c.memberBody(g, m, false))
	}
}

func (c *call) replaceMember(g *group, id string) {
	var b memberBody
	if !c.read(&b) {
		return
	}
	if g.kind == "environment" {
		id = strconv.Itoa(b.ID)
	}
	c.sim.mu.Lock()
	defer c.sim.mu.Unlock()
	switch m := g.member(id); {
	case m == nil:
		c.noMember(g, id)
	case b.Agent == nil:
		c.noArgument("Agent")
	case !g.pool.holds(m.agent): // not known: a resource whose agent was deleted in the pool
		c.noAgent(g.pool, strconv.Itoa(m.agent.id))
	case c.mayManage(g.pool):
		m.agent.replace(*b.Agent)
		if b.Tags != nil {
			m.tags = b.Tags
		}
		reply(c.w, http.StatusOK, c.memberBody(g, m, true))
	}
}

func (c *call) deleteMember(g *group, id string) {
	c.sim.mu.Lock()
	defer c.sim.mu.Unlock()
	m := g.member(id)
	if m == nil {
		c.noMember(g, id)
		return
	}
	if !c.mayManage(g.pool) || c.busy(g.pool, m.agent) {
		return
	}
	c.forget(g.pool, m.agent)
	c.w.WriteHeader(http.StatusNoContent)
}
