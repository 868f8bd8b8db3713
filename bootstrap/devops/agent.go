package devops

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"azp-bootstrap/bootstrap/fault"
)

// The capabilities by which an agent of ours names the VM it stands on (its vmId), where in Azure that is, and when
// it was registered there: the agent shows each line of its .env among its system capabilities.
const (
	InstanceIDCapability    = "AZP_BOOTSTRAP_INSTANCE_ID"
	ScaleSetCapability      = "AZP_BOOTSTRAP_SCALE_SET"
	ResourceGroupCapability = "AZP_BOOTSTRAP_RESOURCE_GROUP"
	SubscriptionCapability  = "AZP_BOOTSTRAP_SUBSCRIPTION_ID"
	RegisteredCapability    = "AZP_BOOTSTRAP_REGISTERED"
)

// An Agent as the server knows it. The server shows an agent's status to those only who may view its pool: of
// one that is neither Online nor Offline nothing is known, and nothing may be done to it.
type Agent struct {
	ID         int // the agent's ID in its pool; a takeover keeps it, so it does not say whose the agent is
	ResourceID int // of the deployment target or VM resource; a pool's agent has its own ID here
	Name       string
	Version    string
	Online     bool      // the server says so
	Offline    bool      // the server says so
	Since      time.Time // when it came online or went offline; zero if the server does not tell
	Enabled    bool      // takes new jobs
	Busy       bool      // has a job that is not finished; only ByID asks
	Tags       []string  // of a deployment target or VM resource
	InstanceID string    // the VM it stands on, in lower case, if it is one of ours and the server tells
	Created    time.Time // when it was registered, or later taken over by a VM; zero if the server does not tell

	ScaleSet, ResourceGroup, SubscriptionID string // of that VM, if the agent tells
}

type agentBody struct {
	ID                 int               `json:"id"`
	Name               string            `json:"name"`
	Version            string            `json:"version"`
	Status             string            `json:"status"`
	StatusChangedOn    moment            `json:"statusChangedOn"`
	CreatedOn          moment            `json:"createdOn"`
	Enabled            *bool             `json:"enabled"`
	SystemCapabilities map[string]string `json:"systemCapabilities"`
	AssignedRequest    *struct {
		RequestID int64 `json:"requestId"`
	} `json:"assignedRequest"`
}

// A moment is a time as the server writes it. One that was never set comes as null or as 0001-01-01T00:00:00, without a zone:
// that, and what is no time, is none, and spoils no answer.
type moment struct{ time.Time }

func (m *moment) UnmarshalJSON(data []byte) error {
	at, err := time.Parse(`"`+time.RFC3339+`"`, string(data))
	if m.Time = at; err != nil || at.Year() < 1970 {
		m.Time = time.Time{}
	}
	return nil
}

func (b agentBody) agent(resource int) *Agent {
	tells := b.SystemCapabilities
	a := &Agent{ID: b.ID, ResourceID: resource, Name: b.Name, Version: b.Version, Since: b.StatusChangedOn.Time, Created: b.CreatedOn.Time,
		Enabled: b.Enabled == nil || *b.Enabled, Busy: b.AssignedRequest != nil,
		Online: strings.EqualFold(b.Status, "online"), Offline: strings.EqualFold(b.Status, "offline"),
		InstanceID: strings.ToLower(tells[InstanceIDCapability]), ScaleSet: tells[ScaleSetCapability],
		ResourceGroup: tells[ResourceGroupCapability], SubscriptionID: tells[SubscriptionCapability]}
	// A VM that takes an agent over leaves createdOn as it is.
	if at, err := time.Parse(time.RFC3339, tells[RegisteredCapability]); err == nil && at.After(a.Created) && !a.Created.IsZero() {
		a.Created = at
	}
	return a
}

// Tagged reports whether the agent has these tags, in whatever order and case.
func (a *Agent) Tagged(tags []string) bool {
	fold := func(in []string) []string {
		out := make([]string, 0, len(in))
		for _, t := range in {
			out = append(out, strings.ToLower(t))
		}
		slices.Sort(out)
		return out
	}
	return slices.Equal(fold(a.Tags), fold(tags))
}

func (p Place) agents(area string) string {
	switch p.Kind {
	case DeploymentGroup:
		return fmt.Sprintf("/%s/_apis/distributedtask/deploymentgroups/%d/targets", p.project(), p.ID)
	case Environment:
		return fmt.Sprintf("/%s/_apis/%s/environments/%d/providers/virtualmachines", p.project(), area, p.ID)
	}
	return fmt.Sprintf("/_apis/distributedtask/pools/%d/agents", p.ID)
}

// Agent looks for the agent of this name in a target, and on which VM it stands. nil says that the server shows
// none: there may be one all the same that the credential may not see.
func (c *Client) Agent(ctx context.Context, p Place, name string) (*Agent, error) {
	a, err := c.named(ctx, p, name)
	if err != nil || a == nil || p.Kind != Environment {
		return a, err
	}
	// An environment's own answer has no capabilities: the pool behind it has.
	in, err := c.ByID(ctx, p, a.ID)
	if errors.Is(err, ErrGone) {
		return a, nil // a VM resource without its agent: of unknown standing
	}
	if err != nil {
		return nil, err
	}
	in.ResourceID, in.Tags = a.ResourceID, a.Tags
	return in, nil
}

// Shown is Agent without the question on which VM an environment's agent stands: one request.
func (c *Client) Shown(ctx context.Context, p Place, name string) (*Agent, error) {
	return c.named(ctx, p, name)
}

func (c *Client) named(ctx context.Context, p Place, name string) (*Agent, error) {
	query := url.Values{"name": {name}}
	switch p.Kind {
	case Pool:
		query = url.Values{"agentName": {name}, "includeCapabilities": {"true"}}
	case DeploymentGroup:
		query.Set("$expand", "capabilities")
	}
	var answer struct {
		Value []struct {
			agentBody
			Agent agentBody `json:"agent"`
			Tags  []string  `json:"tags"`
		} `json:"value"`
	}
	if err := c.members(ctx, http.MethodGet, p, "", query, nil, &answer); err != nil {
		if e := c.rejected(ctx, err); e != nil {
			return nil, e
		}
		return nil, c.explain(err, "looking for the agent "+name, c.known(p.Target, "read the agents of"))
	}
	for _, v := range answer.Value {
		b := v.Agent
		if p.Kind == Pool {
			b = v.agentBody
		}
		if !strings.EqualFold(b.Name, name) && !strings.EqualFold(v.Name, name) {
			continue
		}
		a := b.agent(v.ID)
		a.Name, a.Tags = v.Name, v.Tags
		if a.Name == "" {
			a.Name = b.Name
		}
		return a, nil
	}
	return nil, nil
}

// members does a request below the agents, targets or VM resources of a place.
func (c *Client) members(ctx context.Context, method string, p Place, below string, query url.Values, in, into any) error {
	return c.inArea(p.Kind, func(area string) error {
		return c.call(ctx, method, p.agents(area)+below, query, p.Kind != Pool, in, into)
	})
}

// ErrGone says that the server itself knows that an agent does not exist: it shows the pool, and not this ID in it.
// Nothing else means that an agent is gone.
var ErrGone = errors.New("the server says that there is no such agent")

// ByID looks an agent up in the pool behind its target, with the VM it stands on and whether it has a job. That the
// server does not find it is ErrGone only if it shows the pool: to those who may not view a pool, its agents do not
// exist either.
func (c *Client) ByID(ctx context.Context, p Place, id int) (*Agent, error) {
	path, err := c.inPool(ctx, p, id)
	var b agentBody
	if err == nil {
		query := url.Values{"includeCapabilities": {"true"}, "includeAssignedRequest": {"true"}}
		err = c.call(ctx, http.MethodGet, path, query, false, nil, &b)
	}
	if r, ok := err.(*refusal); ok && strings.HasPrefix(r.Type, "TaskAgentNotFound") {
		if _, e := c.pool(ctx, p); e != nil {
			return nil, c.unseen(ctx, e, p)
		}
		return nil, fault.New(fault.Target, "the agent with ID %d is gone from the %s", id, p).Because(ErrGone)
	}
	if err == nil && b.ID != id {
		err = &refusal{Status: http.StatusNotFound, Message: "an answer without the agent"}
	}
	if err != nil {
		return nil, c.unseen(ctx, err, p)
	}
	resource := 0
	if p.Kind == Pool {
		resource = b.ID
	}
	return b.agent(resource), nil
}

// pool asks for the pool behind a place: an error if the server does not show it.
func (c *Client) pool(ctx context.Context, p Place) (pool named, err error) {
	id, err := c.Pool(ctx, p)
	if err == nil {
		err = c.call(ctx, http.MethodGet, fmt.Sprintf("/_apis/distributedtask/pools/%d", id), nil, false, nil, &pool)
	}
	if err == nil && pool.ID != id {
		err = &refusal{Status: http.StatusNotFound, Message: "an answer without the pool"}
	}
	return pool, err
}

// Manages is an error if the credential is known not to manage the pool behind a target, whatever its role on the target
// itself: agents are added by that right (learn.microsoft.com/azure/devops/pipelines/process/environments-virtual-machines).
// An environment that never had a VM has no pool yet: then nothing is known.
func (c *Client) Manages(ctx context.Context, p Place) error {
	if p.Kind == Pool {
		return nil // Find has asked
	}
	pool, err := c.pool(ctx, p)
	if r, ok := err.(*refusal); ok && strings.HasPrefix(r.Type, "EnvironmentPoolNotFound") {
		return nil
	}
	if err != nil {
		return c.unseen(ctx, err, p)
	}
	var answer struct {
		Value []named `json:"value"`
	}
	query := url.Values{"poolName": {pool.Name}, "poolType": {"deployment"}, "actionFilter": {"manage"}}
	if err := c.call(ctx, http.MethodGet, "/_apis/distributedtask/pools", query, false, nil, &answer); err != nil {
		return c.explain(err, "asking who manages the pool of the "+p.String(), c.known(p.Target, "manage"))
	}
	if !slices.ContainsFunc(answer.Value, func(n named) bool { return n.ID == pool.ID }) {
		return c.scopeMissing(p.Target, "manage the pool behind")
	}
	return nil
}

// Stands confirms that a place whose IDs are known is still shown, whatever its name is by now.
func (c *Client) Stands(ctx context.Context, p Place) (Place, error) {
	pool, err := c.pool(ctx, p)
	if err != nil {
		return p, c.unseen(ctx, err, p)
	}
	if p.PoolID = pool.ID; p.Kind != Environment {
		p.PoolName = pool.Name
	}
	return p, nil
}

// unseen explains why an agent cannot be looked at. Not found is not gone.
func (c *Client) unseen(ctx context.Context, err error, p Place) error {
	if e := c.rejected(ctx, err); e != nil {
		return e
	}
	return c.explain(err, "looking at an agent of the "+p.String(), func(r *refusal) *fault.Error {
		if r.Status == http.StatusNotFound || strings.Contains(r.Type, "NotFound") || strings.Contains(r.Type, "DoesNotExist") {
			return fault.New(fault.Target, "%s does not show the agents of the %s (%s)", c.name, p, p.ids()).
				Hint("If it was deleted (and made anew): azp-bootstrap deregister --local, then azp-bootstrap run --once. "+
					"If it is there, the owner of the credential may not see it any more: %s", p.ScopeHint(c.with.Entra, c.hosted()))
		}
		return c.known(p.Target, "read the agents of")(r)
	})
}

// All lists the agents of the pool behind a target, with their capabilities, in no order. That answer
// comes whole, while the lists of deployment targets and VM resources come in pages.
func (c *Client) All(ctx context.Context, p Place) ([]*Agent, error) {
	path, err := c.inPool(ctx, p, 0)
	var answer struct {
		Value []agentBody `json:"value"`
	}
	if err == nil {
		err = c.call(ctx, http.MethodGet, path, url.Values{"includeCapabilities": {"true"}}, false, nil, &answer)
	}
	if r, ok := err.(*refusal); ok && strings.HasPrefix(r.Type, "EnvironmentPoolNotFound") {
		return nil, nil // the pool behind an environment is made with its first VM; the status may be 404 or 500
	}
	if err != nil {
		return nil, c.explain(err, "listing the agents of the "+p.String(), c.known(p.Target, "read the agents of"))
	}
	all := make([]*Agent, 0, len(answer.Value))
	for _, b := range answer.Value {
		all = append(all, b.agent(0))
	}
	return all, nil
}

// Pool is the ID of the pool behind a place: where its agents are enabled, disabled and show what they run.
func (c *Client) Pool(ctx context.Context, p Place) (int, error) {
	if p.PoolID != 0 {
		return p.PoolID, nil
	}
	if id := c.pools[p.ID]; id != 0 {
		return id, nil
	}
	var pool named
	if err := c.members(ctx, http.MethodGet, p, "/pool", nil, nil, &pool); err != nil {
		return 0, err
	}
	if pool.ID == 0 {
		return 0, &refusal{Status: http.StatusNotFound, Message: "an answer without a pool"}
	}
	c.pools[p.ID] = pool.ID
	return pool.ID, nil
}

// inPool is the path of an agent in the pool behind its target; for ID 0, that of all of them.
func (c *Client) inPool(ctx context.Context, p Place, agent int) (string, error) {
	id, err := c.Pool(ctx, p)
	path := fmt.Sprintf("/_apis/distributedtask/pools/%d/agents", id)
	if agent != 0 {
		path += fmt.Sprintf("/%d", agent)
	}
	return path, err
}
