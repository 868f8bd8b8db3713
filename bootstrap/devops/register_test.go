package devops

import (
	"encoding/json"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"azp-bootstrap/bootstrap/fault"
)

func places() map[string]Place {
	return map[string]Place{
		Pool:            {Target: Target{Kind: Pool, Name: "Default"}, ID: 1, PoolID: 1},
		DeploymentGroup: {Target: Target{Kind: DeploymentGroup, Project: "Shop", Name: "web"}, ProjectID: "p", ID: 2, PoolID: 20},
		Environment:     {Target: Target{Kind: Environment, Project: "Shop", Name: "production"}, ProjectID: "p", ID: 3, PoolID: 30},
	}
}

var newcomer = Newcomer{
	Name: "web-1", Version: "4.248.0", OSDescription: "Debian", PublicKey: map[string]string{"exponent": "AQAB", "modulus": "eA=="},
	Capabilities: map[string]string{"a": "b"}, Tags: []string{"web"},
}

const (
	newAgent = `{"authorization":{"publicKey":{"exponent":"AQAB","modulus":"eA=="}},"maxParallelism":1,"name":"web-1",
		"osDescription":"Debian","provisioningState":"Provisioned","systemCapabilities":{"a":"b"},"version":"4.248.0"}`
	answered = `{"id":7,"properties":{"ServerUrl":{"$type":"System.String","$value":"https://dev.azure.com/contoso/"}},
		"authorization":{"clientId":"c-1","authorizationUrl":"https://vstoken"}}`
	// as the server had it: disabled, and with what nobody knows yet
	stands = `{"id":7,"name":"web-1","version":"4.1.0","enabled":false,"maxParallelism":1,"unknown":{"x":[1]}}`
	over   = `{"id":7,"name":"web-1","version":"4.248.0","enabled":false,"maxParallelism":1,"unknown":{"x":[1]},
		"osDescription":"Debian","systemCapabilities":{"a":"b"},"authorization":{"publicKey":{"exponent":"AQAB","modulus":"eA=="}}}`
)

func sameJSON(t *testing.T, got, want string) bool {
	t.Helper()
	var g, w any
	if err := json.Unmarshal([]byte(want), &w); err != nil {
		t.Fatal(err)
	}
	return json.Unmarshal([]byte(got), &g) == nil && reflect.DeepEqual(g, w)
}

// What is sent for each kind of target is what config.sh sends, for a new agent and over one that stands there.
func TestRegister(t *testing.T) {
	for kind, c := range map[string]struct{ path, added, addedAnswer, found, replaced, replacedPath string }{
		Pool: {"/contoso/_apis/distributedtask/pools/1/agents", newAgent, answered, stands, over, "/7"},
		DeploymentGroup: {"/contoso/p/_apis/distributedtask/deploymentgroups/2/targets", `{"agent":` + newAgent + `}`,
			`{"id":71,"agent":` + answered + `}`, `{"id":71,"tags":["old"],"agent":` + stands + `}`,
			`{"id":71,"tags":["old"],"agent":` + over + `}`, "/71"},
		Environment: {"/contoso/p/_apis/pipelines/environments/3/providers/virtualmachines",
			`{"virtualMachineResource":{"name":"web-1","tags":["web"],"agent":` + newAgent + `}}`,
			`{"id":71,"agent":` + answered + `}`, `{"id":71,"name":"web-1","tags":["old"],"agent":` + stands + `}`,
			`{"id":71,"name":"web-1","tags":["web"],"agent":` + over + `}`, ""},
	} {
		for _, there := range []*Agent{nil, {ID: 7, Name: "web-1"}} {
			var asked []string
			client := server(t, func(r *http.Request) (int, string) {
				asked = append(asked, r.Method+" "+r.URL.Path)
				if r.Method == http.MethodGet {
					return 200, `{"value":[{"id":99,"agent":{"id":98}},` + c.found + `]}`
				}
				want, status := c.added, http.StatusCreated // which the agent's own client takes as well
				if there != nil {
					want, status = c.replaced, http.StatusOK
				}
				if body, _ := io.ReadAll(r.Body); !sameJSON(t, string(body), want) {
					t.Errorf("%s: sent %s\nwant %s", kind, body, want)
				}
				return status, c.addedAnswer
			})
			e, err := client.Register(t.Context(), places()[kind], there, newcomer)
			resource := 71
			if kind == Pool {
				resource = 7
			}
			want := Enrolled{ID: 7, ResourceID: resource, ClientID: "c-1", AuthURL: "https://vstoken", ServerURL: "https://dev.azure.com/contoso/"}
			if e != want || err != nil {
				t.Errorf("%s: %+v, %v", kind, e, err)
			}
			requests := "POST " + c.path
			if there != nil {
				requests = "GET " + c.path + ", PUT " + c.path + c.replacedPath
			}
			if got := strings.Join(asked, ", "); got != requests {
				t.Errorf("%s: asked %s\nwant %s", kind, got, requests)
			}
		}
	}
}

// Without a client ID, or with one of zeros, there is no key exchange.
func TestRegisterWithoutKeyExchange(t *testing.T) {
	for _, authorization := range []string{`{}`, `null`, `{"clientId":"00000000-0000-0000-0000-000000000000","authorizationUrl":"https://vstoken"}`} {
		e, err := server(t, func(*http.Request) (int, string) {
			return 200, `{"id":7,"properties":{"ServerUrl":"https://plain"},"authorization":` + authorization + `}`
		}).Register(t.Context(), places()[Pool], nil, newcomer)
		if err != nil || e.ID != 7 || e.ClientID != "" || e.ServerURL != "https://plain" {
			t.Errorf("%s: %+v, %v", authorization, e, err)
		}
	}
}

func TestRegisterIsRefused(t *testing.T) {
	for body, c := range map[string]struct {
		kind    string
		status  int
		class   fault.Class
		subject string
		passes  bool
	}{
		`{"typeKey":"TaskAgentExistsException"}`:                {Pool, 409, fault.Target, "", true},
		`{"typeKey":"TaskAgentExistsException" }`:               {Environment, 409, fault.Target, OfPool, true},
		`{"typeKey":"DeploymentMachineExistsException"}`:        {DeploymentGroup, 409, fault.Target, "", true},
		`{"typeKey":"EnvironmentResourceExistsException"}`:      {Environment, 409, fault.Target, "", true},
		`{"typeKey":"AccessDeniedException"}`:                   {Pool, 500, fault.Scope, "", false},
		`{"typeKey":"TaskAgentPoolNotEnoughPermissions"}`:       {Pool, 403, fault.Scope, "", false},
		`{"typeKey":"VssPropertyValidationException"}`:          {Pool, 400, fault.Network, OfFormat, false},
		`{"typeKey":"Oops"}`:                                    {Pool, 503, fault.Network, "", true},
		`{"message":"too much"}`:                                {Pool, 429, fault.Network, "", true},
		`{"message":"the answer names no agent"}`:               {Pool, 200, fault.Network, OfFormat, false},
		`{"id":"seven"}`:                                        {Pool, 200, fault.Network, OfFormat, false},
		`{"typeKey":"TaskAgentJobStillRunningException"}`:       {Pool, 400, fault.Service, "", true},
		`{"typeKey":"ProjectDoesNotExistWithNameException"}`:    {Environment, 404, fault.Target, "", false},
		`<html>something else that answers in its place</html>`: {Pool, 200, fault.Scope, "", false},
	} {
		_, err := server(t, func(r *http.Request) (int, string) {
			if strings.HasSuffix(r.URL.Path, "/connectionData") {
				return 200, `{"authenticatedUser":{"id":"1","providerDisplayName":"Build"}}`
			}
			return c.status, body
		}).Register(t.Context(), places()[c.kind], nil, newcomer)
		f := fault.From(err)
		if f == nil || f.Class != c.class || f.Subject != c.subject || f.Wait != c.passes || f.Advice == "" {
			t.Errorf("%s: %+v", body, f)
		}
	}
}

// An agent that is listed no more is not registered blindly: it is looked at again.
func TestRegisterOverAnAgentThatIsGone(t *testing.T) {
	_, err := server(t, func(r *http.Request) (int, string) {
		if r.Method != http.MethodGet {
			t.Errorf("%s %s", r.Method, r.URL)
		}
		if strings.HasSuffix(r.URL.Path, "/connectionData") {
			return 200, `{"authenticatedUser":{"id":"1","providerDisplayName":"Build"}}`
		}
		return 200, `{"value":[{"id":8,"name":"web-1"}]}`
	}).Register(t.Context(), places()[Pool], &Agent{ID: 7, Name: "web-1"}, newcomer)
	if f := fault.From(err); f == nil || !f.Wait || f.Class != fault.Target {
		t.Error(err)
	}
}
