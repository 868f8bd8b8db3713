package devops

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"azp-bootstrap/bootstrap/fault"
)

// This file registers an agent, as the agent's own config.sh does. Which requests that is, and what
// is in them, was read in microsoft/azure-pipelines-agent at 42bde98 (2026-08-21):
// ConfigurationManager.cs (CreateNewAgent, UpdateExistingAgent) and ConfigurationProvider.cs
// (AddAgentAsync and UpdateAgentAsync of the three kinds); their addresses in actions/runner,
// src/Sdk/DTGenerated/Generated/TaskAgentHttpClientBase.cs.

// A Newcomer is an agent that is to be registered.
type Newcomer struct {
	Name          string
	Version       string
	OSDescription string
	PublicKey     any // as the server takes it
	Capabilities  map[string]string
	Tags          []string // of a deployment target or VM resource
}

// An Enrolled is an agent that the server has just registered.
type Enrolled struct {
	ID         int
	ResourceID int // of the deployment target or VM resource
	// ClientID and AuthURL are by what and where the agent gets tokens of its own. Without them the
	// server offers no key exchange.
	ClientID, AuthURL string
	ServerURL         string // where the server says that it is; "" = it does not
}

// OfPool is the subject of the fault of a name that the pool behind an environment or deployment group
// has, and the target does not list.
const OfPool = "pool"

// OfFormat is the subject of faults of a registration that the server does not take as it is, for a
// reason that nobody knows: its format may have changed.
const OfFormat = "format"

// Register makes an agent known to the server: over the one that stands there, which keeps its ID and
// all that is not said anew, or as a new one, if there is nil. The answer is all that is known of it:
// it does not come twice.
func (c *Client) Register(ctx context.Context, p Place, there *Agent, n Newcomer) (e Enrolled, err error) {
	var answer enrolledBody
	if there == nil {
		err = c.add(ctx, p, n, &answer)
	} else {
		err = c.replace(ctx, p, there, n, &answer)
	}
	if err == nil && answer.agent(p).ID <= 0 {
		err = &refusal{Status: http.StatusOK, Message: "an answer without the agent's ID"}
	}
	var kind *json.UnmarshalTypeError
	if errors.As(err, &kind) { // it is JSON, and of Azure DevOps' own making: members may have become something else
		return Enrolled{}, fault.From(err).About(OfFormat)
	}
	if err != nil {
		if e := c.rejected(ctx, err); e != nil {
			return Enrolled{}, e
		}
		return Enrolled{}, c.explain(err, "registering the agent "+n.Name, c.unregistered(p, n))
	}
	a := answer.agent(p)
	e = Enrolled{ID: a.ID, ResourceID: answer.ID, ServerURL: a.Properties.ServerURL.text()}
	if id := a.Authorization.ClientID; strings.Trim(id, "0-") != "" { // Guid.Empty is none
		e.ClientID, e.AuthURL = id, a.Authorization.AuthorizationURL
	}
	return e, nil
}

// enrolledBody is the answer: an agent, or what stands for one in a target.
type enrolledBody struct {
	registeredBody
	Agent registeredBody `json:"agent"`
}

func (b enrolledBody) agent(p Place) registeredBody {
	if p.Kind == Pool {
		return b.registeredBody
	}
	return b.Agent
}

type registeredBody struct {
	ID            int `json:"id"`
	Authorization struct {
		ClientID         string `json:"clientId"`
		AuthorizationURL string `json:"authorizationUrl"`
	} `json:"authorization"`
	Properties struct {
		ServerURL property `json:"ServerUrl"`
	} `json:"properties"`
}

// A property is a value of a PropertiesCollection: {"$type": "System.String", "$value": …}, or the value itself.
type property json.RawMessage

func (p *property) UnmarshalJSON(data []byte) error {
	*p = append((*p)[:0], data...)
	return nil
}

func (p property) text() (s string) {
	var typed struct {
		Value string `json:"$value"`
	}
	if json.Unmarshal(p, &s) != nil && json.Unmarshal(p, &typed) == nil {
		return typed.Value
	}
	return s
}

// changes are what each registration says of the agent.
func (n Newcomer) changes() map[string]any {
	return map[string]any{
		"authorization":      map[string]any{"publicKey": n.PublicKey},
		"version":            n.Version,
		"osDescription":      n.OSDescription,
		"systemCapabilities": n.Capabilities,
	}
}

func (c *Client) add(ctx context.Context, p Place, n Newcomer, into *enrolledBody) error {
	agent := n.changes()
	agent["name"], agent["maxParallelism"], agent["provisioningState"] = n.Name, 1, "Provisioned"
	var body any = agent
	switch p.Kind {
	case DeploymentGroup:
		body = map[string]any{"agent": agent}
	case Environment:
		resource := map[string]any{"name": n.Name, "agent": agent, "tags": listed(n.Tags)}
		body = map[string]any{"virtualMachineResource": resource}
	}
	return c.members(ctx, http.MethodPost, p, "", nil, body, into)
}

func listed(tags []string) []string {
	if tags == nil {
		return []string{}
	}
	return tags
}

// replace changes what stands there, as the server has it, and sends it back: what nobody asked for
// (whether it is enabled, what an operator has noted) stays.
func (c *Client) replace(ctx context.Context, p Place, there *Agent, n Newcomer, into *enrolledBody) error {
	name := "name"
	if p.Kind == Pool {
		name = "agentName"
	}
	var found struct {
		Value []map[string]any `json:"value"`
	}
	if err := c.members(ctx, http.MethodGet, p, "", url.Values{name: {n.Name}}, nil, &found); err != nil {
		return err
	}
	for _, member := range found.Value {
		agent := member
		if p.Kind != Pool {
			agent, _ = member["agent"].(map[string]any)
		}
		if number(agent["id"]) != there.ID {
			continue
		}
		for name, value := range n.changes() {
			agent[name] = value
		}
		below := fmt.Sprintf("/%d", number(member["id"]))
		if p.Kind == Environment { // the resource's ID is in the body
			below, member["tags"] = "", listed(n.Tags)
		}
		return c.members(ctx, http.MethodPut, p, below, nil, member, into)
	}
	// It was there a moment ago.
	return &refusal{Status: http.StatusNotFound, Type: "TaskAgentNotFoundException", Message: "it is listed no more"}
}

func number(v any) int {
	n, _ := v.(float64)
	return int(n)
}

// unregistered explains why an agent was not registered.
func (c *Client) unregistered(p Place, n Newcomer) func(*refusal) *fault.Error {
	return func(r *refusal) *fault.Error {
		switch {
		case p.Kind != Pool && strings.HasPrefix(r.Type, "TaskAgentExists"):
			return fault.New(fault.Target, "an agent named %s stands in the pool behind the %s", n.Name, p).Passing().About(OfPool).
				Hint("A resource that was deleted on the target's page can leave its agent there; it is looked at by itself.")
		case strings.HasSuffix(r.Type, "ExistsException") || r.Status == http.StatusConflict:
			return fault.New(fault.Target, "another machine took the name %s in the %s a moment ago", n.Name, p).Passing().
				Hint("Give each VM a name of its own: agent.name is a template, such as {{.ComputerName}}.")
		case strings.HasPrefix(r.Type, "TaskAgentJobStillRunning"):
			return fault.New(fault.Service, "the agent %s still runs a job", n.Name).Passing().
				Hint("It is taken over when the job has ended.")
		case strings.HasPrefix(r.Type, "TaskAgentNotFound"):
			return fault.New(fault.Target, "the agent %s was removed while it was taken over", n.Name).Passing().
				Hint("It is looked at again by itself.")
		}
		if f := c.known(p.Target, "register agents in")(r); f != nil || fault.PassingStatus(r.Status) {
			return f
		}
		return fault.New(fault.Network, "%s does not take the registration of the agent %s", c.name, n.Name).About(OfFormat).
			Hint("An answer this version does not know: please report it, with the log. agent.registration: script registers by config.sh.")
	}
}
