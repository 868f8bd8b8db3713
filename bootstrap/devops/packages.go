package devops

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"azp-bootstrap/bootstrap/fault"
)

// Offered is the newest version of the agent that Azure DevOps has for a platform; "" if it has none. It is
// no demand: an agent is let update itself when a job's task wants a newer one, or its pool's settings say so
// (learn.microsoft.com/azure/devops/pipelines/agents/agents, "Agent version and upgrades").
func (c *Client) Offered(ctx context.Context, platform string) (string, error) {
	var answer struct {
		Value []struct {
			Version struct{ Major, Minor, Patch int } `json:"version"`
		} `json:"value"`
	}
	query := url.Values{"platform": {platform}, "$top": {"1"}}
	err := c.call(ctx, http.MethodGet, "/_apis/distributedtask/packages/agent", query, true, nil, &answer)
	if err != nil || len(answer.Value) == 0 {
		return "", c.explain(err, "asking for the agent's packages", func(*refusal) *fault.Error { return nil })
	}
	v := answer.Value[0].Version
	return fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Patch), nil
}
