package sim

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
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
	audience  string // of its assertions: the token service that it was told of
	session   string
	secret    []byte // of the session: what its messages are encrypted with
	seen      time.Time
	listening int // long polls that are open
	created   time.Time
	disabled  bool
	job       *Job
	last      *Job   // that it finished
	refresh   string // the version that the server wants it to have
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
	o := object{
		"id":                a.id,
		"name":              a.name,
		"version":           a.version,
		"osDescription":     "Linux",
		"enabled":           !a.disabled,
		"status":            status,
		"provisioningState": "Provisioned",
		"accessPoint":       "CodexAccessMapping",
		"maxParallelism":    1,
		"createdOn":         a.created.UTC().Format(time.RFC3339Nano),
		"statusChangedOn":   since.UTC().Format(time.RFC3339Nano),
	}
	if capabilities {
		o["systemCapabilities"] = a.caps
	}
	c.sim.settleJob(a)
	if a.last != nil && c.r.URL.Query().Get("includeLastCompletedRequest") == "true" {
		o["lastCompletedRequest"] = a.last.body()
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
		if c.PublicURL != "" { // a reverse proxy stands before it (ConfigurationManager.cs: only the path counts then)
			u = c.PublicURL + "/_apis/oauth2/token"
			o["properties"] = object{"ServerUrl": object{"$type": "System.String", "$value": c.PublicURL + "/"}}
		}
		a.audience = u
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

// listPools is Pools_Get Agent Pools; without poolType only those for pipelines.
func (c *call) listPools() {
	if !c.may("agentPools", false) {
		return
	}
	q := c.r.URL.Query()
	kind := "automation"
	if t := q.Get("poolType"); t == "2" || strings.EqualFold(t, "deployment") { // by number or name
		kind = "deployment"
	}
	var out []object
	c.sim.mu.Lock()
	for _, p := range c.pools {
		named := q.Get("poolName") == "" || strings.EqualFold(q.Get("poolName"), p.name)
		if p.kind == kind && named && c.sees(p, q.Get("actionFilter")) {
			out = append(out, p.body())
		}
	}
	c.sim.mu.Unlock()
	reply(c.w, http.StatusOK, list(out))
}

// onePool is Pools_Get.
func (c *call) onePool(p *pool) {
	if !c.may("agentPools", false) {
		return
	}
	c.sim.mu.Lock()
	defer c.sim.mu.Unlock()
	if !c.sees(p, c.r.URL.Query().Get("actionFilter")) {
		c.noPool(strconv.Itoa(p.id))
		return
	}
	reply(c.w, http.StatusOK, p.body())
}

func (c *call) newAgent(b agentBody) *agent {
	return &agent{
		id:       c.next(),
		name:     b.Name,
		version:  b.Version,
		caps:     b.SystemCapabilities,
		key:      b.Authorization.PublicKey,
		clientID: guid(),
		created:  time.Now(),
	}
}

// takes refuses an agent without a name, or with a key that is none: what .NET's RSAParameters would
// not take. The words are not known.
func (c *call) takes(b *agentBody) bool {
	k := b.Authorization.PublicKey
	n, err := base64.StdEncoding.DecodeString(k.Modulus)
	e, err2 := base64.StdEncoding.DecodeString(k.Exponent)
	whole := err == nil && err2 == nil && len(n) == 256 && len(e) > 0 && e[0] != 0
	if k != (publicKey{}) && !whole || b.Name == "" {
		c.refuse(http.StatusBadRequest, "VssPropertyValidationException", "The agent has no name, or no key of 2048 bits.")
		return false
	}
	return true
}

// replace is a takeover: the server keeps the agent's ID, when it was made and, unless the body
// says otherwise, whether it is enabled; its capabilities become those of the body.
func (a *agent) replace(b agentBody) {
	if b.Enabled != nil {
		a.disabled = !*b.Enabled
	}
	a.version, a.caps, a.key, a.clientID, a.session = b.Version, b.SystemCapabilities, b.Authorization.PublicKey, guid(), ""
}

func (c *call) poolAgents(p *pool, id string) {
	if !c.may("agentPools", c.r.Method != http.MethodGet) || !c.mayPool(p, id) {
		return
	}
	var b agentBody
	if c.r.Method != http.MethodGet && c.r.Method != http.MethodDelete && !c.read(&b) {
		return
	}
	if registers := c.r.Method == http.MethodPost || c.r.Method == http.MethodPut; registers && !c.takes(&b) {
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
					c.agentExists(p, b.Name)
					return
				}
			}
			a := c.newAgent(b)
			p.agents = append(p.agents, a)
			reply(c.w, http.StatusOK, c.registered(a))
		default:
			c.noMethod()
		}
		return
	}
	for _, a := range p.agents {
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
			if c.busy(p, a) {
				return
			}
			p.drop(a) // what stands for it in an environment or deployment group stays, as far as anybody knows
			c.w.WriteHeader(http.StatusNoContent)
		}
		return
	}
	c.noAgent(p, id)
}

// forget removes an agent from its pool, and what stands for it in a deployment group or
// environment.
func (c *call) forget(p *pool, a *agent) {
	p.drop(a)
	for _, pr := range c.projects {
		for _, g := range pr.groups {
			g.members = slices.DeleteFunc(g.members, func(m *member) bool { return m.agent == a })
		}
	}
}

// busy refuses to remove an agent that runs a job, with the words of
// github.com/MicrosoftDocs/azure-devops-docs, pull request 10586.
func (c *call) busy(p *pool, a *agent) bool {
	if c.sim.settleJob(a); a.job == nil {
		return false
	}
	c.refuse(http.StatusBadRequest, "TaskAgentJobStillRunningException",
		fmt.Sprintf("Agent %q is running a job for pool %q", a.name, p.name))
	return true
}
