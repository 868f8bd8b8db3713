package devops

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
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

// A Place is a target that was found. It is looked up by its IDs from then on: a rename changes
// nothing.
type Place struct {
	Target
	ProjectID string // "" if not known
	ID        int    // of the environment, deployment group or pool
	PoolID    int    // of the pool behind it; 0 if not known: an environment's is made with its first VM
	PoolName  string // of a pool, or the pool behind a deployment group; "" for an environment
}

// ids are a place's numbers, for messages.
func (p Place) ids() string {
	return fmt.Sprintf("ID %d, pool %d", p.ID, p.PoolID)
}

// project is the part of an address that names the project.
func (p Place) project() string {
	if p.ProjectID != "" {
		return url.PathEscape(p.ProjectID)
	}
	return url.PathEscape(p.Project)
}

// areas are where the addresses of environments begin: since Server 2022, and on Server 2020.
var areas = []string{"pipelines", "distributedtask"}

// inArea asks in the area that this server has; which of the two that is for environments, it finds
// out once.
func (c *Client) inArea(kind string, ask func(area string) error) error {
	if kind != Environment || c.area != "" {
		return ask(c.area)
	}
	first := ask(areas[0])
	if r, ok := first.(*refusal); !ok || !r.unserved() {
		c.area = areas[0]
		return first
	}
	err := ask(areas[1])
	if r, ok := err.(*refusal); ok && r.unserved() {
		return err
	}
	c.area = areas[1]
	return err
}

// unserved: the server does not know the address, rather than what it names.
func (r *refusal) unserved() bool {
	named := slices.ContainsFunc(
		[]string{"Project", "Environment", "VirtualMachine", "Deployment", "TaskAgent"},
		func(begin string) bool {
			return strings.HasPrefix(r.Type, begin)
		},
	)
	return r.Status == http.StatusNotFound && !named
}

// scopes are what the PAT needs for a kind of target; those of deployment groups and environments
// contain that of the pools behind them (learn.microsoft.com/azure/devops/pipelines/agents,
// "Register an agent using a personal access token"; for environments the scope's name is that of
// the token page).
var scopes = map[string]string{
	Pool:            "the scope Agent Pools (read, manage)",
	DeploymentGroup: "the scope Deployment group (read, manage)",
	Environment:     "the scope Environment (read, manage)",
}

// ScopeHint says what a credential, and whom it stands for, need for this kind of target on Azure
// DevOps Services (hosted) or a server. Agents are added with the caller's own rights on the pool
// behind a deployment group or an environment
// (learn.microsoft.com/azure/devops/pipelines/process/environments-virtual-machines).
func (t Target) ScopeHint(entra, hosted bool) string { return t.scopeHint(entra, "", hosted) }

func (t Target) scopeHint(entra bool, application string, hosted bool) string {
	settings, reach := "Collection settings", ", and Organization set to All accessible organizations (here: all "+
		"collections)"
	switch {
	case hosted:
		settings, reach = "Organization settings", ", for this organization"
	case t.Kind == Pool:
		reach = ""
	}
	role := map[string]string{
		Pool: "Administrator of the pool (pool, Security)",
		DeploymentGroup: "Administrator of the deployment group (deployment group, Security) and of its deployment " +
			"pool (" +
			settings + ", Deployment pools)",
		Environment: "Administrator of the environment (environment, Security) and of the pool behind it, named " +
			"environment-<ID>-<GUID> (" + settings + ", Deployment pools)",
	}[t.Kind]
	if application != "" {
		return fmt.Sprintf("Make the application %s %s, as its service principal in the organization's tenant. Until Azure "+
			"DevOps knows it as a user, its name cannot be found there.", application, role)
	}
	if entra { // such a token has no scopes: rights alone decide
		return fmt.Sprintf(
			"Make the managed identity %s. Until Azure DevOps knows it as a user, its name cannot be found there.",
			role,
		)
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
		Hint("%s", c.with.hint(t, c.hosted()))
}

// Find looks the target up and checks, as far as Azure DevOps tells, that the credential may manage
// it. A refusal may be of the credential or of the organization rather than of the target: then
// WhoAmI is asked, which tells. When all is well nobody asks it: under throttling each request
// counts.
func (c *Client) Find(ctx context.Context, t Target) (Place, error) {
	p, err := c.find(ctx, t)
	if e := c.rejected(ctx, err); e != nil {
		return p, e
	}
	return p, c.explain(err, "looking for the "+t.String(), c.known(t, "read"))
}

// rejected tells whether a refusal is one of the credential or the organization rather than of what
// was asked for.
func (c *Client) rejected(ctx context.Context, err error) error {
	r, refused := err.(*refusal)
	if !refused || fault.PassingStatus(r.Status) {
		return nil
	}
	_, err = c.WhoAmI(ctx)
	return err
}

func (c *Client) find(ctx context.Context, t Target) (Place, error) {
	p := Place{Target: t}
	query := url.Values{"name": {t.Name}}
	if t.Kind == Pool {
		query = url.Values{"poolName": {t.Name}, "poolType": {"automation"}} // not a deployment pool of the same name
	}
	if t.Kind != Environment { // its service has no filter by permission: registration itself tells
		query.Set("actionFilter", "manage")
	}
	found, err := c.list(ctx, p, query)
	if err == nil && found == nil && t.Kind != Environment {
		query.Del("actionFilter")
		if found, err = c.list(ctx, p, query); err == nil && found != nil {
			return p, c.scopeMissing(t, "manage")
		}
	}
	if err == nil && found == nil {
		return p, fault.New(fault.Target, "%s: there is no %s, or it is not shown to the owner of the "+
			"credential", c.name, t).
			Hint("Create it, or correct target: names are those that Azure DevOps shows. It may have been renamed "+
				"or deleted, "+
				"or the owner of %s may not see it.", c.with.kind())
	}
	if err != nil {
		return p, err
	}
	p.ID, p.PoolID, p.ProjectID = found.ID, found.Pool.ID, found.Project.ID
	switch t.Kind {
	case Pool:
		p.PoolID, p.PoolName = found.ID, found.Name
	case DeploymentGroup:
		p.PoolName = found.Pool.Name
	}
	return p, nil
}

// named is what is read of a pool, a deployment group or an environment.
type named struct {
	ID   int    `json:"id"`
	Name string `json:"name"`
	Pool struct {
		ID   int    `json:"id"`
		Name string `json:"name"`
	} `json:"pool"`
	Project struct {
		ID string `json:"id"`
	} `json:"project"`
}

func (c *Client) list(ctx context.Context, p Place, query url.Values) (*named, error) {
	var answer struct {
		Value []named `json:"value"`
	}
	err := c.inArea(p.Kind, func(area string) error {
		path := map[string]string{
			Pool:            "/_apis/distributedtask/pools",
			DeploymentGroup: "/" + p.project() + "/_apis/distributedtask/deploymentgroups",
			Environment:     "/" + p.project() + "/_apis/" + area + "/environments",
		}[p.Kind]
		return c.call(ctx, http.MethodGet, path, query, p.Kind == Environment, nil, &answer)
	})
	if err != nil {
		return nil, err
	}
	for i := range answer.Value {
		if strings.EqualFold(answer.Value[i].Name, p.Name) {
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
		case strings.HasPrefix(r.Type, "ProjectDoesNotExist"):
			return fault.New(fault.Target, "%s: there is no project %q", c.name, t.Project).
				Hint("Correct target.%s.project; the PAT's owner must be a member of the project.", t.Kind)
		case r.denied():
			return c.scopeMissing(t, what)
		case t.Kind == Environment && r.unserved():
			return fault.New(fault.Target, "%s knows no environments", c.name).
				Hint("Environments came with Azure DevOps Server 2020. Upgrade the server, or join a deployment " +
					"group or a pool.")
		case r.Status == http.StatusNotFound:
			return fault.New(fault.Target, "%s does not find the %s", c.name, t).
				Hint("It was renamed or deleted, or the owner of %s may not see it.", c.with.kind())
		}
		return nil
	}
}

// denied: a right or scope is missing. What the server says by its typeKey counts before the
// status: in this area it may come with 500.
func (r *refusal) denied() bool {
	return strings.HasPrefix(r.Type, "AccessDenied") || strings.Contains(r.Type, "NotEnoughPermissions") ||
		r.Sign || r.Status == http.StatusUnauthorized || r.Status == http.StatusForbidden
}
