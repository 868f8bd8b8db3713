package devops

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"azp-bootstrap/bootstrap/fault"
)

// Enable lets an agent take new jobs, or keeps it from taking any.
func (c *Client) Enable(ctx context.Context, p Place, a *Agent, enabled bool) error {
	path, err := c.inPool(ctx, p, a.ID)
	if err == nil {
		err = c.call(ctx, http.MethodPatch, path, nil, false, map[string]any{"id": a.ID, "enabled": enabled}, nil)
	}
	return c.changed(err, p, map[bool]string{true: "enabling", false: "disabling"}[enabled]+" the agent "+a.Name)
}

// SetTags makes tags those of a deployment target or VM resource; a pool's agents have none.
func (c *Client) SetTags(ctx context.Context, p Place, a *Agent, tags []string) error {
	if p.Kind == Pool {
		return nil
	}
	if tags == nil {
		tags = []string{}
	}
	// UpdateVirtualMachineResource (EnvironmentsHttpClient) wants the resource's agent, by its ID,
	// and leaves all else of it as it is.
	body := map[string]any{"id": a.ResourceID, "tags": tags, "name": a.Name, "agent": map[string]any{"id": a.ID}}
	var in any = body
	if p.Kind == DeploymentGroup { // UpdateDeploymentTargets takes a list
		in = []any{map[string]any{"id": a.ResourceID, "tags": tags}}
	}
	return c.changed(c.members(ctx, http.MethodPatch, p, "", nil, in, nil), p, "setting the tags of "+a.Name)
}

// Delete removes an agent, deployment target or VM resource from the server. Whether it is gone
// then, ByID says: what is not found is no error here. A VM resource that was deleted on the
// environment's page can leave its agent in the pool (azure-pipelines-agent 5174, 5299): that agent
// is removed there, if the target itself says that it does not list it.
func (c *Client) Delete(ctx context.Context, p Place, a *Agent) error {
	listed, err := false, error(nil)
	if p.Kind != Pool {
		listed, err = c.deleteMember(ctx, p, a)
	}
	if err == nil && !listed {
		var path string
		if path, err = c.inPool(ctx, p, a.ID); err == nil {
			err = c.call(ctx, http.MethodDelete, path, nil, false, nil, nil)
		}
		if notFound(err) {
			return nil
		}
	}
	return c.changed(err, p, "removing the agent "+a.Name)
}

// deleteMember removes a deployment target or VM resource. It is looked up if its ID is not known,
// as in an earlier journal, or not found. listed is false if the target, which the server shows,
// does not list the agent.
func (c *Client) deleteMember(ctx context.Context, p Place, a *Agent) (listed bool, err error) {
	remove := func(id int) error { return c.members(ctx, http.MethodDelete, p, fmt.Sprintf("/%d", id), nil, nil, nil) }
	if a.ResourceID != 0 {
		if err := remove(a.ResourceID); !notFound(err) {
			return true, err
		}
	}
	there, err := c.named(ctx, p, a.Name)
	if err != nil || there == nil || there.ID != a.ID {
		return false, err
	}
	return true, remove(there.ResourceID)
}

// notFound: the server does not find what was asked for, or does not show it.
func notFound(err error) bool {
	r, ok := err.(*refusal)
	return ok && (r.Status == http.StatusNotFound || strings.Contains(r.Type, "NotFound"))
}

// changed explains why a change was refused. Not found is looked into again: only ByID says what is
// gone.
func (c *Client) changed(err error, p Place, what string) error {
	return c.explain(err, what, func(r *refusal) *fault.Error {
		switch {
		case strings.HasPrefix(r.Type, "TaskAgentJobStillRunning"):
			return fault.New(fault.Service, "%s: it still runs a job", what).Passing().Retry(time.Second).
				Hint("The server removes it when the job has ended.")
		case notFound(r):
			return fault.New(fault.Target, "%s in the %s: the server does not find it", what, p).Passing().
				Hint("It was removed meanwhile, or is no longer visible to the owner of the credential: it is " +
					"looked at again.")
		}
		return c.known(p.Target, "manage")(r)
	})
}
