package devops

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"azp-bootstrap/bootstrap/fault"
)

// The kinds of target.
const (
	Environment     = "environment"
	DeploymentGroup = "deploymentGroup"
	Pool            = "pool"
)

// A Target is what the VM joins, by name.
type Target struct {
	Kind, Project, Name string
}

func (t Target) String() string {
	switch t.Kind {
	case Environment:
		return fmt.Sprintf("environment %q of project %q", t.Name, t.Project)
	case DeploymentGroup:
		return fmt.Sprintf("deployment group %q of project %q", t.Name, t.Project)
	}
	return fmt.Sprintf("agent pool %q", t.Name)
}

// A Place is a target that was found.
type Place struct {
	Target
	ID     int // of the environment, deployment group or pool
	PoolID int // of the pool behind it; 0 if not known

	area string // of the environment's addresses: pipelines, or distributedtask on Server 2020
}

// scopes are what the PAT needs for a kind of target; those of deployment groups and environments contain
// that of the pools behind them (learn.microsoft.com/azure/devops/pipelines/agents, "Register an agent using
// a personal access token"; for environments the scope's name is that of the token page).
var scopes = map[string]string{
	Pool:            "the scope Agent Pools (read, manage)",
	DeploymentGroup: "the scope Deployment group (read, manage)",
	Environment:     "the scope Environment (read, manage)",
}

// ScopeHint says what a credential, and whom it stands for, need for this kind of target on Azure DevOps
// Services (hosted) or a server. Agents are added with the caller's own rights on the pool behind a deployment
// group or an environment (learn.microsoft.com/azure/devops/pipelines/process/environments-virtual-machines).
func (t Target) ScopeHint(entra, hosted bool) string {
	settings, reach := "Collection settings", ", and Organization set to All accessible organizations (here: all collections)"
	switch {
	case hosted:
		settings, reach = "Organization settings", ", for this organization"
	case t.Kind == Pool:
		reach = ""
	}
	role := map[string]string{
		Pool: "Administrator of the pool (pool, Security)",
		DeploymentGroup: "Administrator of the deployment group (deployment group, Security) and of its deployment pool (" +
			settings + ", Deployment pools)",
		Environment: "Administrator of the environment (environment, Security) and of the pool behind it, named " +
			"environment-<ID>-<GUID> (" + settings + ", Deployment pools)",
	}[t.Kind]
	if entra { // such a token has no scopes: rights alone decide
		return fmt.Sprintf("Make the managed identity %s. Until Azure DevOps knows it as a user, its name cannot be found there.", role)
	}
	return fmt.Sprintf("Give the PAT %s%s; its owner must be %s. Edit the token in Azure DevOps "+
		"(User settings, Personal access tokens): its value stays the same.", scopes[t.Kind], reach, role)
}

// hosted tells Azure DevOps Services from a server.
func (c *Client) hosted() bool {
	host, _, _ := strings.Cut(c.host, ":")
	return strings.EqualFold(host, "dev.azure.com") || strings.HasSuffix(strings.ToLower(host), ".visualstudio.com")
}

// scopeMissing is the fault of a credential that is good, but not for this target.
func (c *Client) scopeMissing(t Target, what string) *fault.Error {
	return fault.New(fault.Scope, "%s may not %s the %s", c.with.kind(), what, t).
		Hint("%s", t.ScopeHint(c.with.Entra, c.hosted()))
}

// Find looks the target up and checks, as far as Azure DevOps tells, that the credential may manage it. A refusal
// may be of the credential or of the organization rather than of the target: then WhoAmI is asked, which
// tells. When all is well nobody asks it: under throttling each request counts.
func (c *Client) Find(ctx context.Context, t Target) (Place, error) {
	p, err := c.find(ctx, t)
	if r, refused := err.(*refusal); refused && !fault.PassingStatus(r.Status) {
		if _, err := c.WhoAmI(ctx); err != nil {
			return p, err
		}
	}
	return p, c.explain(err, "looking for the "+t.String(), c.known(t, "read"))
}

func (c *Client) find(ctx context.Context, t Target) (Place, error) {
	p := Place{Target: t, area: "pipelines"}
	path := map[string]string{
		Pool:            "/_apis/distributedtask/pools",
		DeploymentGroup: "/" + url.PathEscape(t.Project) + "/_apis/distributedtask/deploymentgroups",
		Environment:     "/" + url.PathEscape(t.Project) + "/_apis/pipelines/environments",
	}[t.Kind]
	query := url.Values{"name": {t.Name}}
	if t.Kind == Pool {
		query = url.Values{"poolName": {t.Name}}
	}
	if t.Kind != Environment { // its service has no filter by permission: registration itself tells
		query.Set("actionFilter", "manage")
	}
	found, err := c.list(ctx, t, path, query)
	if r, ok := err.(*refusal); ok && t.Kind == Environment && r.Status == http.StatusNotFound && !strings.HasPrefix(r.Type, "ProjectDoesNotExist") {
		p.area = "distributedtask"
		path = "/" + url.PathEscape(t.Project) + "/_apis/distributedtask/environments"
		found, err = c.list(ctx, t, path, query)
	}
	if err == nil && found == nil && t.Kind != Environment {
		query.Del("actionFilter")
		if found, err = c.list(ctx, t, path, query); err == nil && found != nil {
			return p, c.scopeMissing(t, "manage")
		}
	}
	if err == nil && found == nil {
		return p, fault.New(fault.Target, "%s: there is no %s", c.name, t).
			Hint("Create it, or correct target; names are those that Azure DevOps shows. The PAT's owner must be allowed to see it.")
	}
	if err != nil {
		return p, err
	}
	p.ID, p.PoolID = found.ID, found.Pool.ID
	if t.Kind == Pool {
		p.PoolID = found.ID
	}
	return p, nil
}

type named struct {
	ID   int    `json:"id"`
	Name string `json:"name"`
	Pool struct {
		ID int `json:"id"`
	} `json:"pool"`
}

func (c *Client) list(ctx context.Context, t Target, path string, query url.Values) (*named, error) {
	var answer struct {
		Value []named `json:"value"`
	}
	if err := c.call(ctx, http.MethodGet, path, query, t.Kind != Pool, nil, &answer); err != nil {
		return nil, err
	}
	for i := range answer.Value {
		if strings.EqualFold(answer.Value[i].Name, t.Name) {
			return &answer.Value[i], nil
		}
	}
	return nil, nil
}

// known explains the refusals that every request below a target can meet. The credential is good at
// this point: WhoAmI was answered, or the target was found by it.
func (c *Client) known(t Target, what string) func(*refusal) *fault.Error {
	return func(r *refusal) *fault.Error {
		switch {
		case t.Kind == Environment && r.Status == http.StatusNotFound && !strings.HasPrefix(r.Type, "ProjectDoesNotExist"):
			return fault.New(fault.Target, "%s knows no environments", c.name).
				Hint("Environments came with Azure DevOps Server 2020. Upgrade the server, or join a deployment group or a pool.")
		case strings.HasPrefix(r.Type, "ProjectDoesNotExist") || r.Status == http.StatusNotFound && t.Project != "":
			return fault.New(fault.Target, "%s: there is no project %q", c.name, t.Project).
				Hint("Correct target.%s.project; the PAT's owner must be a member of the project.", t.Kind)
		case r.Sign || r.Status == http.StatusUnauthorized || r.Status == http.StatusForbidden:
			return c.scopeMissing(t, what)
		}
		return nil
	}
}
