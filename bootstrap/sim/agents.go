package sim

import (
	"errors"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// An agent registered on a server.
type agent struct {
	id        int
	name      string
	version   string
	caps      map[string]string
	key       publicKey
	clientID  string
	session   string
	seen      time.Time
	listening int // long polls that are open
	created   time.Time
	disabled  bool
	job       *Job
}

type publicKey struct {
	Exponent string `json:"exponent"`
	Modulus  string `json:"modulus"`
}

// sessionLife is how long a session without a poll counts as online. Azure DevOps takes minutes;
// a simulation should not.
const sessionLife = 3 * time.Second

func (a *agent) online() bool {
	return a.session != "" && (a.listening > 0 || time.Since(a.seen) < sessionLife)
}

type agentBody struct {
	ID                 int               `json:"id"`
	Name               string            `json:"name"`
	Version            string            `json:"version"`
	Enabled            *bool             `json:"enabled"`
	SystemCapabilities map[string]string `json:"systemCapabilities"`
	Authorization      struct {
		PublicKey publicKey `json:"publicKey"`
	} `json:"authorization"`
}

func (c *call) body(a *agent, capabilities bool) object {
	status := "offline"
	since := a.created
	if a.online() {
		status = "online"
	} else if a.seen.After(since) {
		since = a.seen
	}
	o := object{"id": a.id, "name": a.name, "version": a.version, "osDescription": "Linux", "enabled": !a.disabled, "status": status, "provisioningState": "Provisioned",
		"accessPoint": "CodexAccessMapping", "maxParallelism": 1, "createdOn": a.created.UTC().Format(time.RFC3339Nano), "statusChangedOn": since.UTC().Format(time.RFC3339Nano)}
	if capabilities {
		o["systemCapabilities"] = a.caps
	}
	if r := a.assigned(); r != nil && c.r.URL.Query().Get("includeAssignedRequest") == "true" {
		o["assignedRequest"] = r
	}
	return o
}

// registered is an agent as its own registration is answered: with the key exchange.
func (c *call) registered(a *agent) object {
	o := c.body(a, true)
	if !c.NoKeyExchange {
		u := "https://" + tokenHost + "/oauth2/" + c.id
		if !c.hosted() {
			u = c.root() + "/_apis/oauth2/token"
		}
		o["authorization"] = object{"authorizationUrl": u, "clientId": a.clientID, "publicKey": a.key}
	}
	return o
}

func (p *pool) body() object {
	return object{"id": p.id, "name": p.name, "poolType": p.kind, "isHosted": false, "size": len(p.agents)}
}

func (c *call) poolByID(id string) *pool {
	for _, p := range c.pools {
		if strconv.Itoa(p.id) == id {
			return p
		}
	}
	return nil
}

func list(items []object) object {
	if items == nil {
		items = []object{}
	}
	return object{"count": len(items), "value": items}
}

func (c *call) listPools() {
	if !c.may("agentPools", false) {
		return
	}
	q := c.r.URL.Query()
	var out []object
	c.sim.mu.Lock()
	for _, p := range c.pools {
		if p.kind != "automation" || q.Get("poolName") != "" && !strings.EqualFold(q.Get("poolName"), p.name) ||
			q.Get("actionFilter") == "manage" && !c.pat.has("agentPools", true) {
			continue
		}
		out = append(out, p.body())
	}
	c.sim.mu.Unlock()
	reply(c.w, http.StatusOK, list(out))
}

func (c *call) newAgent(b agentBody) *agent {
	return &agent{id: c.next(), name: b.Name, version: b.Version, caps: b.SystemCapabilities, key: b.Authorization.PublicKey, clientID: guid(), created: time.Now()}
}

func (a *agent) replace(b agentBody) {
	a.version, a.caps, a.key, a.clientID, a.session = b.Version, b.SystemCapabilities, b.Authorization.PublicKey, guid(), ""
}

func (c *call) poolAgents(p *pool, id string) {
	if !c.mayPool(p, c.r.Method != http.MethodGet) {
		return
	}
	var b agentBody
	if c.r.Method != http.MethodGet && c.r.Method != http.MethodDelete && !c.read(&b) {
		return
	}
	q := c.r.URL.Query()
	c.sim.mu.Lock()
	defer c.sim.mu.Unlock()
	capabilities := q.Get("includeCapabilities") == "true"
	if id == "" {
		switch c.r.Method {
		case http.MethodGet:
			var out []object
			for _, a := range p.agents {
				if n := q.Get("agentName"); n == "" || strings.EqualFold(n, a.name) {
					out = append(out, c.body(a, capabilities))
				}
			}
			reply(c.w, http.StatusOK, list(out))
		case http.MethodPost:
			for _, a := range p.agents {
				if strings.EqualFold(a.name, b.Name) {
					c.refuse(http.StatusConflict, "TaskAgentExistsException", "Pool "+strconv.Itoa(p.id)+" already contains an agent with name "+b.Name+".")
					return
				}
			}
			a := c.newAgent(b)
			p.agents = append(p.agents, a)
			reply(c.w, http.StatusOK, c.registered(a))
		}
		return
	}
	for i, a := range p.agents {
		if strconv.Itoa(a.id) != id {
			continue
		}
		switch c.r.Method {
		case http.MethodGet:
			reply(c.w, http.StatusOK, c.body(a, capabilities))
		case http.MethodPut:
			a.replace(b)
			reply(c.w, http.StatusOK, c.registered(a))
		case http.MethodPatch:
			if b.Enabled != nil {
				a.disabled = !*b.Enabled
			}
			reply(c.w, http.StatusOK, c.body(a, false))
		case http.MethodDelete:
			if c.busy(a) {
				return
			}
			p.agents = append(p.agents[:i:i], p.agents[i+1:]...)
			c.w.WriteHeader(http.StatusNoContent)
		}
		return
	}
	c.refuse(http.StatusNotFound, "TaskAgentNotFoundException", "Agent with ID "+id+" does not exist in pool.")
}

// mayPool checks the scope for a pool. The scopes of deployment groups and environments include the
// pools behind them.
func (c *call) mayPool(p *pool, manage bool) bool {
	if p.kind == "deployment" && c.pat != nil && (c.pat.has("deploymentGroup", manage) || c.pat.has("environment", manage)) {
		return true
	}
	return c.may("agentPools", manage)
}

// busy refuses to remove an agent that runs a job.
func (c *call) busy(a *agent) bool {
	if a.job == nil {
		return false
	}
	c.refuse(http.StatusConflict, "TaskAgentJobStillRunningException", "The agent "+a.name+" is currently running a job and cannot be deleted.")
	return true
}

// Agents lists every agent on every server.
func (s *Sim) Agents() []AgentSeen {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := []AgentSeen{}
	for _, v := range s.servers {
		grouped := map[*agent]bool{}
		see := func(kind, target string, a *agent, tags []string) {
			grouped[a] = true
			status := "offline"
			if a.online() {
				status = "online"
			}
			out = append(out, AgentSeen{v.URL, target, kind, a.name, a.id, status, a.version, tags, a.caps["AZP_BOOTSTRAP_INSTANCE_ID"], a.disabled})
		}
		for _, p := range v.projects {
			for _, g := range p.groups {
				for _, m := range g.members {
					see(g.kind, p.name+"/"+g.name, m.agent, m.tags)
				}
			}
		}
		for _, p := range v.pools {
			for _, a := range p.agents {
				if !grouped[a] {
					see("pool", p.name, a, nil)
				}
			}
		}
	}
	return out
}

// Age makes an agent one that was registered, and went offline, so long ago; negative: that stays.
func (s *Sim) Age(name string, offline, made time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range s.servers {
		for _, p := range v.pools {
			for _, a := range p.agents {
				if !strings.EqualFold(a.name, name) {
					continue
				}
				if offline >= 0 && a.online() || made < offline {
					return errors.New("an agent that is online, or that was registered after it went offline, cannot be aged so")
				}
				if a.created = time.Now().Add(-made); offline >= 0 {
					a.session, a.seen = "", time.Now().Add(-offline)
				}
				if a.caps["AZP_BOOTSTRAP_REGISTERED"] != "" {
					a.caps = maps.Clone(a.caps)
					a.caps["AZP_BOOTSTRAP_REGISTERED"] = a.created.UTC().Format(time.RFC3339)
				}
				return nil
			}
		}
	}
	return errors.New("no such agent")
}

// Remove removes an agent as a person would in the portal.
func (s *Sim) Remove(name string) (found bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range s.servers {
		for _, p := range v.pools {
			for i, a := range p.agents {
				if strings.EqualFold(a.name, name) {
					p.agents = append(p.agents[:i:i], p.agents[i+1:]...)
					found = true
					break
				}
			}
		}
		for _, p := range v.projects {
			for _, g := range p.groups {
				for i, m := range g.members {
					if strings.EqualFold(m.agent.name, name) {
						g.members = append(g.members[:i:i], g.members[i+1:]...)
						break
					}
				}
			}
		}
	}
	return found
}
