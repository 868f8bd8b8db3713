package devops

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"azp-bootstrap/bootstrap/fault"
)

// ErrGone is the server's own word that an agent of this ID is not there, while it shows the pool.
var ErrGone = errors.New("the agent is gone")

// ByID asks for an agent of the pool behind a target by its ID, with its capabilities.
func (c *Client) ByID(ctx context.Context, p Place, id int) (*Agent, error) {
	path, err := c.inPool(ctx, p, id)
	var b agentBody
	if err == nil {
		err = c.call(ctx, http.MethodGet, path, url.Values{"includeCapabilities": {"true"}}, false, nil, &b)
	}
	// A pool that may not be seen is answered by 404, too, but of another type.
	if r, ok := err.(*refusal); ok && strings.HasPrefix(r.Type, "TaskAgentNotFound") {
		return nil, fault.New(fault.Service, "the agent with ID %d in the %s", id, p).Because(ErrGone).
			Hint("Somebody removed it.")
	}
	if err != nil {
		what := fmt.Sprintf("looking for the agent with ID %d", id)
		return nil, c.explain(err, what, c.known(p.Target, "read the agents of"))
	}
	resource := 0
	if p.Kind == Pool {
		resource = b.ID
	}
	return b.agent(resource), nil
}

// DeleteByID removes an agent by its ID: the deployment target or VM resource that it belongs to, or, if that was
// removed before and left its agent behind, the agent in the pool.
func (c *Client) DeleteByID(ctx context.Context, p Place, a *Agent) error {
	if a.ResourceID == 0 {
		there, err := c.Agent(ctx, p, a.Name)
		if err != nil {
			return err
		}
		if there != nil && there.ID == a.ID {
			return c.Delete(ctx, p, there)
		}
		if p.PoolID == 0 {
			if _, err := c.inPool(ctx, p, a.ID); err != nil {
				return c.explain(err, "looking for the pool behind the "+p.String(), c.known(p.Target, "manage"))
			}
			p.PoolID = c.pools[p.ID]
		}
		p = Place{Target: Target{Kind: Pool, Name: p.Name}, ID: p.PoolID, PoolID: p.PoolID}
		a = &Agent{ID: a.ID, ResourceID: a.ID, Name: a.Name}
	}
	return c.Delete(ctx, p, a)
}
