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

// The capabilities by which an agent of ours names the VM it stands on (its vmId), where in Azure
// that is, and when it was registered there: the agent shows each line of its .env among its system
// capabilities.
const (
	InstanceIDCapability    = "AZP_BOOTSTRAP_INSTANCE_ID"
	ScaleSetCapability      = "AZP_BOOTSTRAP_SCALE_SET"
	ResourceGroupCapability = "AZP_BOOTSTRAP_RESOURCE_GROUP"
	SubscriptionCapability  = "AZP_BOOTSTRAP_SUBSCRIPTION_ID"
	RegisteredCapability    = "AZP_BOOTSTRAP_REGISTERED"
)

// An Agent as the server knows it. The server shows an agent's status to those only who may view
// its pool: of one that is neither Online nor Offline nothing is known, and nothing may be done to
// it.
type Agent struct {
	ID         int // the agent's ID in its pool; a takeover keeps it, so it does not say whose the agent is
	ResourceID int // of the deployment target or VM resource; a pool's agent has its own ID here
	Name       string
	Version    string
	Online     bool      // the server says so
	Offline    bool      // the server says so
	Since      time.Time // when it came online or went offline; zero if the server does not tell
	Enabled    bool      // takes new jobs
	Busy       bool      // has a job that is not finished; only ByID asks, and Agent for a pool
	Given      Requests  // the same
	Tags       []string  // of a deployment target or VM resource
	InstanceID string    // the VM it stands on, in lower case, if it is one of ours and the server tells
	Created    time.Time // when it was registered, or later taken over by a VM; zero if the server does not tell

	ScaleSet, ResourceGroup, SubscriptionID string // of that VM, if the agent tells
	Registered                              string // when, as the agent tells
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
	AssignedRequest    *request          `json:"assignedRequest"`
	Completed          *request          `json:"lastCompletedRequest"`
}

// A request is a job as the server keeps it (TaskAgentJobRequest).
type request struct {
	RequestID   int64  `json:"requestId"`
	ReceiveTime moment `json:"receiveTime"` // when an agent received it; none: it has not
}

// Requests are the IDs of the job that an agent is at and of the last one that it finished, if it has
// received them; 0 = none. What was given to it and never reached it is none.
type Requests struct{ Assigned, Completed int64 }

// Since is a job that is not among those of before; 0 = none.
func (r Requests) Since(before Requests) int64 {
	for _, id := range []int64{r.Assigned, r.Completed} {
		if id != 0 && id != before.Assigned && id != before.Completed {
			return id
		}
	}
	return 0
}

func (r *request) received() int64 {
	if r == nil || r.ReceiveTime.IsZero() {
		return 0
	}
	return r.RequestID
}

// A moment is a time as the server writes it. One that was never set comes as null or as
// 0001-01-01T00:00:00, without a zone: that, and what is no time, is none, and spoils no answer.
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
	a := &Agent{
		ID:             b.ID,
		ResourceID:     resource,
		Name:           b.Name,
		Version:        b.Version,
		Since:          b.StatusChangedOn.Time,
		Created:        b.CreatedOn.Time,
		Enabled:        b.Enabled == nil || *b.Enabled,
		Busy:           b.AssignedRequest != nil,
		Given:          Requests{b.AssignedRequest.received(), b.Completed.received()},
		Online:         strings.EqualFold(b.Status, "online"),
		Offline:        strings.EqualFold(b.Status, "offline"),
		InstanceID:     strings.ToLower(tells[InstanceIDCapability]),
		ScaleSet:       tells[ScaleSetCapability],
		ResourceGroup:  tells[ResourceGroupCapability],
		SubscriptionID: tells[SubscriptionCapability],
		Registered:     tells[RegisteredCapability],
	}
	// A VM that takes an agent over leaves createdOn as it is.
	if at, err := time.Parse(
		time.RFC3339,
		tells[RegisteredCapability],
	); err == nil && at.After(a.Created) &&
		!a.Created.IsZero() {
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

// Agent looks for the agent of this name in a target, and on which VM it stands. nil says that the
// server shows none: there may be one all the same that the credential may not see.
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
		query = url.Values{"agentName": {name}, "includeCapabilities": {"true"}, "includeAssignedRequest": {"true"},
			"includeLastCompletedRequest": {"true"}}
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
func (c *Client) members(
	ctx context.Context,
	method string,
	p Place,
	below string,
	query url.Values,
	in, into any,
) error {
	return c.inArea(p.Kind, func(area string) error {
		return c.call(ctx, method, p.agents(area)+below, query, p.Kind == Environment, in, into)
	})
}

// ErrGone says that the server itself knows that an agent does not exist: it shows the pool, and
// not this ID in it. Nothing else means that an agent is gone.
var ErrGone = errors.New("the server says that there is no such agent")

// ByID looks an agent up in the pool behind its target, with the VM it stands on and whether it has
// a job. That the server does not find it is ErrGone only if it shows the pool: to those who may
// not view a pool, its agents do not exist either.
func (c *Client) ByID(ctx context.Context, p Place, id int) (*Agent, error) {
	path, err := c.inPool(ctx, p, id)
	var b agentBody
	if err == nil {
		query := url.Values{"includeCapabilities": {"true"}, "includeAssignedRequest": {"true"},
			"includeLastCompletedRequest": {"true"}}
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

// unseen explains why an agent cannot be looked at. Not found is not gone.
func (c *Client) unseen(ctx context.Context, err error, p Place) error {
	if e := c.rejected(ctx, err); e != nil {
		return e
	}
	return c.explain(err, "looking at an agent of the "+p.String(), func(r *refusal) *fault.Error {
		if r.Status == http.StatusNotFound || strings.Contains(r.Type, "NotFound") ||
			strings.Contains(r.Type, "DoesNotExist") {
			return fault.New(fault.Target, "%s does not show the agents of the %s (%s)", c.name, p, p.ids()).
				Hint("If it was deleted (and made anew): azp-bootstrap deregister --local, then azp-bootstrap rejoin. "+
					"If it is there, the owner of the credential may not see it any "+
					"more: %s", c.with.hint(p.Target, c.hosted()))
		}
		return c.known(p.Target, "read the agents of")(r)
	})
}
