package standin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// A target of registration: a pool, a deployment group or an environment.
type target struct {
	settings
	connection
	base    string // organization or collection
	kind    string
	name    string
	project string
	tags    []string
	members string // address of its agents
	version string
}

type registered struct {
	ID            int
	Name          string
	Status        string
	Enabled       *bool
	Authorization struct{ ClientID, AuthorizationURL string }
	Properties    struct {
		ServerURL struct {
			Value string `json:"$value"`
		} `json:"ServerUrl"`
	}
}

func newTarget(c connection, o options, address string, hosted bool) (*target, error) {
	t := &target{connection: c, base: address, version: "4.1-preview", kind: "pool"}
	t.ServerURL = address
	switch {
	case o.flags["environment"]:
		t.kind, t.name, t.project = "environment", o.need("environmentname"), o.need("projectname")
		if o.flags["addvirtualmachineresourcetags"] {
			t.tags = tags(o.need("virtualmachineresourcetags"))
		}
	case o.flags["deploymentgroup"]:
		t.kind, t.name, t.project = "deployment group", o.need("deploymentgroupname"), o.need("projectname")
		if o.flags["adddeploymentgrouptags"] {
			t.tags = tags(o.need("deploymentgrouptags"))
		}
	default:
		t.version = "4.1"
		t.name = o.need("pool")
	}
	if t.kind != "pool" && !hosted { // the server's root is wanted as --url, the collection by name
		t.CollectionName = o.need("collectionname")
		t.base += "/" + escape(t.CollectionName)
		if err := c.call(
			context.Background(),
			http.MethodGet,
			t.base+"/_apis/connectionData",
			"1.0-preview",
			nil,
			nil,
		); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// find looks the target up by name.
func (t *target) find(ctx context.Context) error {
	type item struct {
		ID   int
		Name string
		Pool struct {
			ID   int
			Name string
		}
		Project struct{ ID, Name string }
	}
	var found struct{ Value []item }
	var err error
	switch t.kind {
	case "pool":
		err = t.call(
			ctx,
			http.MethodGet,
			t.base+"/_apis/distributedtask/pools?poolName="+url.QueryEscape(t.name),
			t.version,
			nil,
			&found,
		)
	case "deployment group":
		err = t.call(
			ctx,
			http.MethodGet,
			t.base+"/"+escape(t.project)+"/_apis/distributedtask/deploymentgroups?name="+url.QueryEscape(t.name),
			t.version,
			nil,
			&found,
		)
	default:
		for _, area := range []string{"pipelines", "distributedtask"} {
			t.members = t.base + "/" + escape(t.project) + "/_apis/" + area + "/environments"
			err = t.call(ctx, http.MethodGet, t.members+"?name="+url.QueryEscape(t.name), t.version, nil, &found)
			var a *answer
			if !errors.As(err, &a) || a.status != http.StatusNotFound {
				break
			}
		}
	}
	if err != nil {
		return err
	}
	if len(found.Value) == 0 {
		return failure(
			map[string]string{"pool": "Agent pool", "deployment group": "Deployment Group", "environment": "Environment"}[t.kind] + " not found: '" + t.name + "'",
		)
	}
	i := found.Value[0]
	switch t.kind {
	case "pool":
		t.PoolID, t.PoolName = i.ID, i.Name
		t.members = fmt.Sprintf("%s/_apis/distributedtask/pools/%d/agents", t.base, i.ID)
	case "deployment group":
		t.PoolID, t.PoolName, t.DeploymentGroupID, t.ProjectID = i.Pool.ID, i.Pool.Name, i.ID, i.Project.ID
		t.members = fmt.Sprintf("%s/%s/_apis/distributedtask/deploymentgroups/%d/targets", t.base, i.Project.ID, i.ID)
	default:
		t.EnvironmentID, t.EnvironmentName, t.ProjectID, t.ProjectName = i.ID, t.name, i.Project.ID, i.Project.Name
		t.members = fmt.Sprintf(
			"%s/%d/providers/virtualmachines",
			strings.Replace(t.members, "/"+escape(t.project)+"/_apis", "/"+i.Project.ID+"/_apis", 1),
			i.ID,
		)
	}
	return nil
}

// register adds the agent, or replaces one of its name.
func (t *target) register(ctx context.Context, name string, me object, replace bool) (registered, error) {
	for {
		fmt.Println("Scanning for tool capabilities.")
		fmt.Println("Connecting to the server.")
		query, one := "?name=", "machine"
		if t.kind == "pool" {
			query, one = "?agentName=", "agent"
		}
		var found struct {
			Value []struct {
				registered
				Agent registered
			}
		}
		if err := t.call(
			ctx,
			http.MethodGet,
			t.members+query+url.QueryEscape(name),
			t.version,
			nil,
			&found,
		); err != nil {
			return registered{}, err
		}
		if len(found.Value) == 0 {
			got, err := t.send(ctx, http.MethodPost, t.members, me, 0)
			if err == nil {
				fmt.Println("Successfully added the agent")
			}
			return got, err
		}
		old := found.Value[0]
		fmt.Printf("Pool %s already contains an agent with name %s.\n", t.PoolName, name)
		if !replace {
			switch {
			case t.kind == "environment":
				return registered{}, failure(
					fmt.Sprintf(
						"Environment with id '%d' already contains a virtual machine resource with name '%s'.",
						t.EnvironmentID,
						name,
					),
				)
			case one == "machine":
				return registered{}, failure(
					fmt.Sprintf(
						"DeploymentGroup %d already contains a machine with name %s.",
						t.DeploymentGroupID,
						name,
					),
				)
			}
			return registered{}, failure(
				fmt.Sprintf("Pool %d already contains an agent with name %s.", t.PoolID, name),
			)
		}
		address := fmt.Sprintf("%s/%d", t.members, old.ID)
		known := old.Agent
		if t.kind == "pool" {
			known = old.registered
		}
		me["id"] = known.ID
		if known.Enabled != nil { // the real one sends the agent as the server had it: disabled stays disabled
			me["enabled"] = *known.Enabled
		}
		if t.kind == "environment" { // the resource's ID travels in the body
			address = t.members
		}
		got, err := t.send(ctx, http.MethodPut, address, me, old.ID)
		if err == nil {
			fmt.Println("Successfully replaced the agent")
			return got, nil
		}
		fmt.Fprintf(os.Stderr, "%v\nFailed to replace the agent.  Try again or ctrl-c to quit\n", err)
		<-time.After(20 * time.Millisecond) // and over again, without end
	}
}

// send adds or replaces in the form that the kind wants, and tags a deployment target.
func (t *target) send(ctx context.Context, method, address string, me object, id int) (registered, error) {
	if t.kind == "pool" {
		var got registered
		return got, t.call(ctx, method, address, t.version, me, &got)
	}
	var got struct {
		ID    int
		Agent registered
	}
	var body any = object{"id": id, "agent": me}
	if t.kind == "environment" {
		resource := object{"id": id, "name": me["name"], "tags": t.tags, "agent": me}
		body = resource
		if method == http.MethodPost {
			body = object{"virtualMachineResource": resource}
		}
	}
	if err := t.call(ctx, method, address, t.version, body, &got); err != nil {
		return registered{}, err
	}
	if t.kind == "environment" {
		t.EnvironmentVMResourceID = got.ID
		var pool struct{ ID int }
		if err := t.call(ctx, http.MethodGet, t.members+"/pool", t.version, nil, &pool); err != nil {
			return registered{}, err
		}
		t.PoolID = pool.ID
		return got.Agent, nil
	}
	if len(t.tags) > 0 {
		if err := t.call(
			ctx,
			http.MethodPatch,
			t.members,
			t.version,
			[]object{{"id": got.ID, "tags": t.tags}},
			nil,
		); err != nil {
			return registered{}, err
		}
		fmt.Println("Tags added successfully")
	}
	return got.Agent, nil
}
