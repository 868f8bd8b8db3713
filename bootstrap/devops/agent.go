package devops

import (
	"context"
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

// An Agent as the server knows it.
type Agent struct {
	ID         int    // the agent's ID in its pool
	ResourceID int    // of the deployment target or VM resource; a pool's agent has its own ID here
	Name       string //
	Version    string
	Online     bool
	Since      time.Time // when it came online or went offline; zero if the server does not tell
	Enabled    bool      // takes new jobs
	Tags       []string  // of a deployment target or VM resource
	InstanceID string    // the VM it stands on, if it is one of ours and the server tells
	Created    time.Time // when it was registered, or later taken over by a VM; zero if the server does not tell

	ScaleSet, ResourceGroup, SubscriptionID string // of that VM, if the agent tells
}

type agentBody struct {
	ID                 int               `json:"id"`
	Name               string            `json:"name"`
	Version            string            `json:"version"`
	Status             string            `json:"status"`
	StatusChangedOn    time.Time         `json:"statusChangedOn"`
	CreatedOn          time.Time         `json:"createdOn"`
	Enabled            bool              `json:"enabled"`
	SystemCapabilities map[string]string `json:"systemCapabilities"`
}

func (b agentBody) agent(resource int) *Agent {
	tells := b.SystemCapabilities
	a := &Agent{ID: b.ID, ResourceID: resource, Name: b.Name, Version: b.Version, Since: b.StatusChangedOn,
		Enabled: b.Enabled, Online: strings.EqualFold(b.Status, "online"), InstanceID: strings.ToLower(tells[InstanceIDCapability]), Created: b.CreatedOn,
		ScaleSet: tells[ScaleSetCapability], ResourceGroup: tells[ResourceGroupCapability], SubscriptionID: tells[SubscriptionCapability]}
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

func (p Place) agents() string {
	switch p.Kind {
	case DeploymentGroup:
		return fmt.Sprintf("/%s/_apis/distributedtask/deploymentgroups/%d/targets", url.PathEscape(p.Project), p.ID)
	case Environment:
		return fmt.Sprintf("/%s/_apis/%s/environments/%d/providers/virtualmachines", url.PathEscape(p.Project), p.area, p.ID)
	}
	return fmt.Sprintf("/_apis/distributedtask/pools/%d/agents", p.ID)
}

// Agent looks for the agent of this name; nil if there is none. In an environment, which VM it stands on
// only Identify tells.
func (c *Client) Agent(ctx context.Context, p Place, name string) (*Agent, error) {
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
	if err := c.call(ctx, http.MethodGet, p.agents(), query, p.Kind != Pool, nil, &answer); err != nil {
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
		a.Tags = v.Tags
		return a, nil
	}
	return nil, nil
}

// Identify completes an agent by the VM it stands on: it asks the environment's pool for the capabilities of a
// VM resource's agent, which the environment's own answer lacks. The PAT may be refused there: then the VM
// stays unknown, and the journal of this VM is the only witness.
func (c *Client) Identify(ctx context.Context, p Place, a *Agent) {
	if a == nil || a.InstanceID != "" || p.Kind != Environment {
		return
	}
	path, err := c.inPool(ctx, p, a.ID)
	var b agentBody
	if err == nil && c.call(ctx, http.MethodGet, path, url.Values{"includeCapabilities": {"true"}}, false, nil, &b) == nil {
		a.InstanceID = b.agent(0).InstanceID
	}
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

// inPool is the path of an agent in the pool behind its target, where it is enabled, disabled and
// shows what it runs; for ID 0, that of all of them.
func (c *Client) inPool(ctx context.Context, p Place, agent int) (string, error) {
	id := p.PoolID
	if p.Kind == Environment {
		id = c.pools[p.ID]
	}
	if id == 0 {
		var pool struct {
			ID int `json:"id"`
		}
		if err := c.call(ctx, http.MethodGet, p.agents()+"/pool", nil, true, nil, &pool); err != nil {
			return "", err
		}
		id = pool.ID
		c.pools[p.ID] = id
	}
	path := fmt.Sprintf("/_apis/distributedtask/pools/%d/agents", id)
	if agent != 0 {
		path += fmt.Sprintf("/%d", agent)
	}
	return path, nil
}

// Enable lets an agent take new jobs, or keeps it from taking any.
func (c *Client) Enable(ctx context.Context, p Place, a *Agent, enabled bool) error {
	path, err := c.inPool(ctx, p, a.ID)
	if err == nil {
		err = c.call(ctx, http.MethodPatch, path, nil, false, map[string]any{"id": a.ID, "enabled": enabled}, nil)
	}
	if r, ok := err.(*refusal); ok && r.Status == http.StatusNotFound {
		return nil // gone: it takes none
	}
	return c.explain(err, "disabling the agent "+a.Name, c.known(p.Target, "manage"))
}

// Busy reports whether the server has given the agent a job that is not finished.
func (c *Client) Busy(ctx context.Context, p Place, a *Agent) (bool, error) {
	path, err := c.inPool(ctx, p, a.ID)
	var b struct {
		AssignedRequest *struct {
			RequestID int64 `json:"requestId"`
		} `json:"assignedRequest"`
	}
	if err == nil {
		err = c.call(ctx, http.MethodGet, path, url.Values{"includeAssignedRequest": {"true"}}, false, nil, &b)
	}
	if r, ok := err.(*refusal); ok && r.Status == http.StatusNotFound {
		return false, nil
	}
	return b.AssignedRequest != nil, c.explain(err, "asking for the job of the agent "+a.Name, c.known(p.Target, "read the agents of"))
}

// SetTags makes tags those of a deployment target or VM resource; a pool's agents have none.
func (c *Client) SetTags(ctx context.Context, p Place, a *Agent, tags []string) error {
	if p.Kind == Pool {
		return nil
	}
	if tags == nil {
		tags = []string{}
	}
	body := map[string]any{"id": a.ResourceID, "tags": tags, "name": a.Name} // EnvironmentsHttpClient, UpdateVirtualMachineResource
	var in any = body
	if p.Kind == DeploymentGroup { // UpdateDeploymentTargets takes a list
		delete(body, "name")
		in = []any{body}
	}
	err := c.call(ctx, http.MethodPatch, p.agents(), nil, true, in, nil)
	return c.explain(err, "setting the tags of "+a.Name, c.known(p.Target, "manage"))
}

// Delete removes an agent, target or VM resource from the server.
func (c *Client) Delete(ctx context.Context, p Place, a *Agent) error {
	err := c.call(ctx, http.MethodDelete, fmt.Sprintf("%s/%d", p.agents(), a.ResourceID), nil, p.Kind != Pool, nil, nil)
	if r, ok := err.(*refusal); ok && r.Status == http.StatusNotFound {
		return nil // gone already
	}
	return c.explain(err, "removing the agent "+a.Name, func(r *refusal) *fault.Error {
		if r.Status == http.StatusConflict || strings.HasPrefix(r.Type, "TaskAgentJobStillRunning") {
			return fault.New(fault.Service, "the agent %s still runs a job", a.Name).Passing().Retry(time.Second).
				Hint("The server removes it when the job has ended.")
		}
		return c.known(p.Target, "manage")(r)
	})
}
