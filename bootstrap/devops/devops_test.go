package devops

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/secret"
)

type answerer func(*http.Request) (int, string)

func (a answerer) RoundTrip(r *http.Request) (*http.Response, error) {
	status, body := a(r)
	kind := "application/json"
	if strings.HasPrefix(body, "<") {
		kind = "text/html; charset=utf-8"
	}
	return &http.Response{
		StatusCode: status,
		Header:     http.Header{"Content-Type": {kind}},
		Body:       io.NopCloser(strings.NewReader(body)),
		Request:    r,
		ProtoMajor: 1,
	}, nil
}

func server(t testing.TB, a answerer) *Client {
	p, err := secret.NewPAT("opaque-token")
	if err != nil {
		t.Fatal(err)
	}
	return New("https://dev.azure.com/contoso", "organization contoso", &http.Client{Transport: a}, Credential{PAT: p})
}

const signIn = "<!DOCTYPE html><html>Sign In</html>"

func TestWhoAmI(t *testing.T) {
	for _, c := range []struct {
		status int
		body   string
		want   fault.Class
		wait   bool
	}{
		{203, signIn, fault.PAT, false},
		{200, signIn, fault.PAT, false},
		{302, "", fault.PAT, false},
		{401, `{"message":"TF400813","typeKey":"UnauthorizedRequestException"}`, fault.PAT, false},
		{403, "", fault.PAT, false},
		{200, `{"authenticatedUser":{"id":"1","providerDisplayName":"Anonymous"}}`, fault.PAT, false},
		{404, "<html>", fault.Target, false},
		{429, "", fault.Network, true},
		{503, "<html>", fault.Network, true},
		{200, `{}`, fault.Network, false},
		{200, `[]`, fault.Network, false},
		{200, ``, fault.Network, true},
		{418, `{}`, fault.Network, false},
	} {
		_, err := server(t, func(r *http.Request) (int, string) {
			if got := r.Header.Get(
				"Authorization",
			); got != "Basic "+base64.StdEncoding.EncodeToString(
				[]byte(":opaque-token"),
			) {
				t.Errorf("authorization is %q", got)
			}
			if r.Header.Get("X-TFS-FedAuthRedirect") != "Suppress" {
				t.Error("Services would answer a browser's redirect in place of a status")
			}
			return c.status, c.body
		}).WhoAmI(context.Background())
		if f := fault.From(
			err,
		); err == nil || f.Class != c.want || f.Wait != c.wait || f.Advice == "" ||
			strings.Contains(f.Error(), "opaque") {
			t.Errorf("%d %q became %v", c.status, c.body, err)
		}
	}
}

// An older server says how old it is; the client finds the version both know.
func TestVersionNegotiation(t *testing.T) {
	var asked []string
	c := server(t, func(r *http.Request) (int, string) {
		v := r.URL.Query().Get("api-version")
		asked = append(asked, v)
		if v > "5.1" && !strings.HasPrefix(v, "5.1") {
			return 400, `{"message":"x","typeKey":"VssVersionOutOfRangeException"}`
		}
		if !strings.HasSuffix(v, "-preview") && strings.Contains(r.URL.Path, "deploymentgroups") {
			return 400, `{"message":"x","typeKey":"VssInvalidPreviewVersionException"}`
		}
		return 200, `{"value":[{"id":3,"name":"Web","pool":{"id":9}}]}`
	})
	p, err := c.Find(context.Background(), Target{DeploymentGroup, "My Shop", "web"})
	if err != nil || p.ID != 3 || p.PoolID != 9 {
		t.Fatalf("got %+v, %v", p, err)
	}
	n := len(asked)
	if _, err := c.Find(
		context.Background(),
		Target{DeploymentGroup, "My Shop", "web"},
	); err != nil ||
		len(asked)-n != 1 {
		t.Errorf("the version is not remembered: %v", asked)
	}
}

// On an old server all is in preview: that is found out once for each kind of address, not for each
// agent.
func TestPreviewsAreRemembered(t *testing.T) {
	refused := 0
	c := server(t, known(func(r *http.Request) (int, string) {
		switch v := r.URL.Query().Get("api-version"); {
		case !strings.HasPrefix(v, "4.1"):
			return 400, `{"message":"x","typeKey":"VssVersionOutOfRangeException"}`
		case !strings.HasSuffix(v, "-preview"):
			refused++
			return 400, `{"message":"x","typeKey":"VssInvalidPreviewVersionException"}`
		}
		if strings.Contains(r.URL.Path, "/agents/") {
			return 200, `{"name":"web","enabled":true,"id":` + r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:] + `}`
		}
		return 200, `{"value":[{"id":3,"name":"Default"}]}`
	}))
	p, err := c.Find(context.Background(), Target{Pool, "", "Default"})
	if err != nil {
		t.Fatal(err)
	}
	before := refused
	for id := 7; id < 12; id++ {
		if _, err := c.ByID(context.Background(), p, id); err != nil {
			t.Fatal(err)
		}
	}
	if refused-before > 1 {
		t.Errorf("%d of 5 agents were asked for twice", refused-before)
	}
}

// known is a server that knows the PAT, whatever else it answers.
func known(a answerer) answerer {
	return func(r *http.Request) (int, string) {
		if strings.HasSuffix(r.URL.Path, "/connectionData") {
			return 200, `{"authenticatedUser":{"id":"1","providerDisplayName":"Build"}}`
		}
		return a(r)
	}
}

// A refusal of everything is one of the PAT, or of the organization; a server that is busy is not
// asked twice.
func TestFindTellsThePATFromTheTarget(t *testing.T) {
	for status, want := range map[int]fault.Class{401: fault.PAT, 403: fault.PAT, 203: fault.PAT, 404: fault.Target, 429: fault.Network, 503: fault.Network} {
		asked := 0
		_, err := server(
			t,
			func(*http.Request) (int, string) { asked++; return status, signIn },
		).Find(t.Context(), Target{Pool, "", "x"})
		if f := fault.From(err); f.Class != want || f.Wait != (want == fault.Network) {
			t.Errorf("%d became %v", status, err)
		}
		if status == 404 && !strings.Contains(err.Error(), "organization contoso is not found") {
			t.Errorf("it is the organization that is not found: %v", err)
		}
		if most := map[bool]int{true: 1, false: 2}[want == fault.Network]; asked != most {
			t.Errorf("%d: %d requests", status, asked)
		}
	}
}

func TestFindNamesTheScope(t *testing.T) {
	for kind, scope := range map[string]string{Pool: "Agent Pools (read, manage)", DeploymentGroup: "Deployment group (read, manage)", Environment: "Environment (read, manage)"} {
		for _, a := range []answerer{
			func(*http.Request) (int, string) { return 403, `{"typeKey":"AccessDeniedException","message":"no"}` },
			func(*http.Request) (int, string) { return 401, "" },
			func(*http.Request) (int, string) { return 203, signIn },
			func(r *http.Request) (int, string) { // may read, not manage
				if r.URL.Query().Get("actionFilter") == "manage" {
					return 200, `{"value":[]}`
				}
				return 200, `{"value":[{"id":1,"name":"x"}]}`
			},
		} {
			_, err := server(t, known(a)).Find(context.Background(), Target{kind, "Shop", "x"})
			if kind == Environment && err == nil {
				continue // environments have no such filter
			}
			f := fault.From(err)
			if f == nil || f.Class != fault.Scope || !strings.Contains(f.Advice, scope) {
				t.Errorf("%s: got %v, hint %v", kind, err, f)
			}
		}
	}
}

// On Services a PAT of the one organization is enough; on a server it is for all collections.
// Rights on the pool behind are named, or the hint sends people in a circle.
func TestScopeHint(t *testing.T) {
	const everywhere = "All accessible organizations"
	for _, c := range []struct {
		kind          string
		entra, hosted bool
		has, hasNot   []string
	}{
		{Pool, false, true, []string{"Agent Pools (read, manage), for this organization"}, []string{everywhere}},
		{Pool, false, false, []string{"Agent Pools (read, manage);"}, []string{everywhere, "this organization"}},
		{DeploymentGroup, false, true, []string{"Deployment group (read, manage), for this organization", "of its deployment pool (Organization settings,"}, []string{everywhere}},
		{DeploymentGroup, false, false, []string{everywhere, "all collections", "of its deployment pool (Collection settings,"}, []string{"Organization settings"}},
		{Environment, false, true, []string{"Environment (read, manage), for this organization", "environment-<ID>-<GUID> (Organization settings, Deployment pools)"}, []string{everywhere}},
		{Environment, false, false, []string{everywhere, "environment-<ID>-<GUID> (Collection settings, Deployment pools)"}, []string{"this organization"}},
		{Environment, true, true, []string{"the managed identity Administrator of the environment", "environment-<ID>-<GUID>"}, []string{everywhere, "scope"}},
	} {
		hint := Target{c.kind, "Shop", "x"}.ScopeHint(c.entra, c.hosted)
		for _, want := range c.has {
			if !strings.Contains(hint, want) {
				t.Errorf("%+v: %q is not in %q", c, want, hint)
			}
		}
		for _, not := range c.hasNot {
			if strings.Contains(hint, not) {
				t.Errorf("%+v: %q is in %q", c, not, hint)
			}
		}
	}
}

func TestAgent(t *testing.T) {
	id := "5C7A1B1E-0001-4D3A-9A00-000000000001"
	for _, c := range []struct{ kind, body string }{
		{Pool, `{"value":[{"id":7,"name":"web-1","status":"online","version":"4.1.0","systemCapabilities":{"AZP_BOOTSTRAP_INSTANCE_ID":"` + id + `"}}]}`},
		{DeploymentGroup, `{"value":[{"id":3,"agent":{"id":7,"name":"web-1","status":"Online","version":"4.1.0","systemCapabilities":{"AZP_BOOTSTRAP_INSTANCE_ID":"` + id + `"}}}]}`},
		{Environment, `{"value":[{"id":3,"name":"web-1","agent":{"id":7,"name":"web-1","status":"online","version":"4.1.0"}}]}`},
	} {
		// An environment's own answer has no capabilities: the pool behind it is asked.
		answers := func(r *http.Request) (int, string) {
			switch path := r.URL.Path; {
			case strings.HasSuffix(path, "/virtualmachines/pool"):
				return 200, `{"id":30}`
			case strings.HasSuffix(path, "/pools/30/agents/7"):
				return 200, `{"id":7,"name":"web-1","status":"online","version":"4.1.0","systemCapabilities":{"AZP_BOOTSTRAP_INSTANCE_ID":"` + id + `"}}`
			}
			return 200, c.body
		}
		a, err := server(
			t,
			answers,
		).Agent(context.Background(), Place{Target: Target{c.kind, "Shop", "x"}, ID: 1}, "WEB-1")
		if err != nil || a == nil || a.ID != 7 || !a.Online || a.InstanceID != strings.ToLower(id) {
			t.Errorf("%s: got %+v, %v", c.kind, a, err)
		}
		a, err = server(
			t,
			answers,
		).Agent(context.Background(), Place{Target: Target{c.kind, "Shop", "x"}, ID: 1}, "web")
		if err != nil || a != nil {
			t.Errorf("%s: part of a name found %+v, %v", c.kind, a, err)
		}
	}
}

// TFS 2018 before its Update 2 speaks 4.0 at most, TFS 2017 3.x.
func TestAServerThatIsTooOld(t *testing.T) {
	c := server(t, func(*http.Request) (int, string) {
		return 400, `{"message":"out of range. The latest REST API version this server supports is 4.0.","typeKey":"VssVersionOutOfRangeException"}`
	})
	_, whose := c.WhoAmI(t.Context())
	_, find := c.Find(t.Context(), Target{Pool, "", "Default"})
	_, agent := c.Agent(t.Context(), Place{Target: Target{Pool, "", "Default"}, ID: 1, PoolID: 1}, "web-1")
	for _, err := range []error{whose, find, agent} {
		f := fault.From(err)
		if f.Class != fault.Target || f.Wait || !strings.Contains(f.Advice, "TFS 2018 Update 2") ||
			!strings.Contains(f.Error(), "supports is 4.0") {
			t.Errorf("%v (%s)", err, f.Advice)
		}
	}
}

// What the server answers to a removal; whether the agent is gone, ByID says. In the pool it is
// removed only if the target itself, which is shown, does not list it.
func TestDelete(t *testing.T) {
	const vm, pool, none = "/environments/1/providers/virtualmachines/3", "/pools/30/agents/7", `{"value":[]}`
	const unknown = `{"typeKey":"VirtualMachineResourceNotFoundException"}`
	for _, c := range []struct {
		status int
		body   string
		list   string // of the target; empty: it is not found
		asked  string // of removals, last
		class  fault.Class
		waits  bool
	}{
		{200, "", none, vm, fault.Class{}, false},
		{204, "", none, vm, fault.Class{}, false},
		{404, unknown, none, pool, fault.Class{}, false}, // its agent may have stayed
		{500, unknown, none, pool, fault.Class{}, false},
		{404, unknown, `{"value":[{"id":4,"name":"a","agent":{"id":8,"name":"a"}}]}`, pool, fault.Class{}, false}, // another's
		{404, unknown, `{"value":[{"id":3,"name":"a","agent":{"id":7,"name":"a"}}]}`, vm, fault.Target, true},     // it is there
		{404, `{"typeKey":"EnvironmentNotFoundException"}`, "", vm, fault.Target, false},                          // hidden, or deleted
		{404, `{"typeKey":"ProjectDoesNotExistWithNameException"}`, "", vm, fault.Target, false},
		{403, `{"typeKey":"AccessDeniedException"}`, none, vm, fault.Scope, false},
		{500, `{"typeKey":"AccessDeniedException"}`, none, vm, fault.Scope, false},
		{400, `{"typeKey":"TaskAgentJobStillRunningException"}`, none, vm, fault.Service, true},
		{500, `{"typeKey":"TaskAgentJobStillRunningException"}`, none, vm, fault.Service, true},
		{500, "", none, vm, fault.Network, true},
	} {
		asked := ""
		err := server(t, func(r *http.Request) (int, string) {
			switch {
			case strings.Contains(r.URL.Path, "connectionData"):
				return 200, `{"instanceId":"1"}`
			case r.Method == http.MethodGet && c.list != "":
				return 200, c.list
			case r.Method == http.MethodDelete:
				asked = r.URL.Path
			}
			if strings.HasSuffix(r.URL.Path, pool) {
				return 204, ""
			}
			return c.status, c.body
		}).Delete(t.Context(), Place{Target: Target{Environment, "Shop", "x"}, ID: 1, PoolID: 30}, &Agent{ID: 7, ResourceID: 3, Name: "a"})
		f := fault.From(err)
		if (err == nil) != (c.class == fault.Class{}) || err != nil && (f.Class != c.class || f.Wait != c.waits) ||
			!strings.HasSuffix(asked, c.asked) {
			t.Errorf("%d %s: asked %s: %v", c.status, c.body, asked, err)
		}
	}
}

// What a change is refused by passes if the agent may only be looked at again, or runs a job; what
// the credential lacks lasts.
func TestChangesThatAreRefused(t *testing.T) {
	place := Place{Target: Target{DeploymentGroup, "Shop", "x"}, ID: 1, PoolID: 30}
	for _, c := range []struct {
		status int
		body   string
		class  fault.Class
		waits  bool
	}{
		{404, `{"typeKey":"TaskAgentNotFoundException"}`, fault.Target, true},
		{500, `{"typeKey":"TaskAgentNotFoundException"}`, fault.Target, true},
		{400, `{"typeKey":"TaskAgentJobStillRunningException"}`, fault.Service, true},
		{403, `{"typeKey":"AccessDeniedException"}`, fault.Scope, false},
		{503, "", fault.Network, true},
	} {
		s := server(t, known(func(*http.Request) (int, string) { return c.status, c.body }))
		a := &Agent{ID: 7, ResourceID: 3, Name: "a"}
		for what, err := range map[string]error{
			"enable": s.Enable(t.Context(), place, a, true), "disable": s.Enable(t.Context(), place, a, false), "tags": s.SetTags(t.Context(), place, a, []string{"web"}),
		} {
			if f := fault.From(err); err == nil || f.Class != c.class || f.Wait != c.waits || f.Advice == "" {
				t.Errorf("%s, %d %s: %v", what, c.status, c.body, err)
			}
		}
	}
}

// Azure DevOps keeps the case in which a tag was first written, and the order is its own.
func TestTagged(t *testing.T) {
	a := &Agent{Tags: []string{"Web", "blue"}}
	for _, same := range [][]string{{"web", "blue"}, {"BLUE", "web"}} {
		if !a.Tagged(same) {
			t.Errorf("%q would be set for ever", same)
		}
	}
	for _, other := range [][]string{nil, {"web"}, {"web", "blue", "green"}, {"web", "web"}, {"we", "bblue"}} {
		if a.Tagged(other) {
			t.Errorf("%q counts as set", other)
		}
	}
}

// A deployment pool may have the same name: an agent in it takes no pipeline's jobs.
func TestFindAsksForAPoolOfAgents(t *testing.T) {
	_, err := server(t, func(r *http.Request) (int, string) {
		if q := r.URL.Query(); q.Get("poolType") != "automation" || q.Get("poolName") != "Default" {
			t.Errorf("asked for %v", q)
		}
		return 200, `{"value":[{"id":3,"name":"Default"}]}`
	}).Find(t.Context(), Target{Pool, "", "Default"})
	if err != nil {
		t.Error(err)
	}
}

// An agent that a deleted resource left in the pool behind its target is found there by its name.
func TestBehind(t *testing.T) {
	for name, c := range map[string]struct {
		kind   string
		status int
		body   string
		found  bool
		class  fault.Class
	}{
		"it is there":                   {Environment, 200, `{"value":[{"id":6,"name":"b"},{"id":7,"name":"A","status":"offline"}]}`, true, fault.Class{}},
		"the group's":                   {DeploymentGroup, 200, `{"value":[{"id":7,"name":"a","status":"offline"}]}`, true, fault.Class{}},
		"none of this name":             {Environment, 200, `{"value":[{"id":6,"name":"b"}]}`, false, fault.Class{}},
		"a pool has none behind":        {Pool, 200, `{"value":[{"id":7,"name":"a"}]}`, false, fault.Class{}},
		"there is no pool yet":          {Environment, 500, `{"typeKey":"EnvironmentPoolNotFoundException"}`, false, fault.Class{}},
		"the pool is not shown":         {Environment, 404, `{"typeKey":"TaskAgentPoolNotFoundException"}`, false, fault.Target},
		"the pool may not be looked at": {Environment, 403, `{"typeKey":"AccessDeniedException"}`, false, fault.Scope},
	} {
		a, err := server(t, func(r *http.Request) (int, string) {
			if strings.Contains(r.URL.Path, "connectionData") {
				return 200, `{"instanceId":"1"}`
			}
			return c.status, c.body
		}).Behind(t.Context(), Place{Target: Target{c.kind, "Shop", "x"}, ID: 1, PoolID: 30}, "a")
		if (a != nil) != c.found || a != nil && (a.ID != 7 || a.ResourceID != 0 || !a.Offline) ||
			err == nil != (c.class == fault.Class{}) ||
			err != nil && fault.From(err).Class != c.class {
			t.Errorf("%s: %+v, %v", name, a, err)
		}
	}
}

// Gone is only what the server itself says does not exist, while it shows the pool: law of the
// house.
func TestOnlyTheServersWordMeansGone(t *testing.T) {
	const agentGone, poolGone = `{"typeKey":"TaskAgentNotFoundException"}`, `{"typeKey":"TaskAgentPoolNotFoundException"}`
	for name, c := range map[string]struct {
		agent, pool int
		body, shown string
		gone, waits bool
		class       fault.Class
	}{
		"the ID is not in a pool that is shown":    {404, 200, agentGone, `{"id":30,"name":"Default"}`, true, false, fault.Target},
		"the same, as 500":                         {500, 200, agentGone, `{"id":30,"name":"Default"}`, true, false, fault.Target},
		"neither the agent nor the pool is shown":  {404, 404, agentGone, poolGone, false, false, fault.Target},
		"the pool's answer is empty":               {404, 200, agentGone, `null`, false, false, fault.Target},
		"the pool is not found":                    {404, 404, poolGone, poolGone, false, false, fault.Target},
		"no word about what is not found":          {404, 200, ``, `{"id":30}`, false, false, fault.Target},
		"a page":                                   {404, 200, signIn, `{"id":30}`, false, false, fault.Target},
		"the pool's answer is another pool":        {404, 200, agentGone, `{"id":31}`, false, false, fault.Target},
		"the server fails when the pool is asked":  {404, 503, agentGone, ``, false, true, fault.Network},
		"the server fails":                         {503, 200, ``, `{"id":30}`, false, true, fault.Network},
		"access is denied":                         {403, 200, `{"typeKey":"AccessDeniedException"}`, `{"id":30}`, false, false, fault.Scope},
		"access to the pool is denied, and as 500": {404, 500, agentGone, `{"typeKey":"AccessDeniedException"}`, false, false, fault.Scope},
	} {
		for _, p := range []Place{{Target: Target{Pool, "", "x"}, ID: 30, PoolID: 30}, {Target: Target{DeploymentGroup, "Shop", "x"}, ID: 1, PoolID: 30}, {Target: Target{Environment, "Shop", "x"}, ID: 1, PoolID: 30}} {
			_, err := server(t, known(func(r *http.Request) (int, string) {
				if strings.HasSuffix(r.URL.Path, "/pools/30/agents/7") {
					return c.agent, c.body
				}
				return c.pool, c.shown
			})).ByID(t.Context(), p, 7)
			if f := fault.From(
				err,
			); err == nil || errors.Is(err, ErrGone) != c.gone || f.Class != c.class || f.Wait != c.waits ||
				!c.gone && f.Advice == "" {
				t.Errorf("%s, %s: gone %v: %v", name, p.Kind, errors.Is(err, ErrGone), err)
			}
		}
	}
}

// Times that the server never set, or that are none, spoil no answer.
func TestMoments(t *testing.T) {
	for text, want := range map[string]int64{`"2026-11-26T05:00:00.123Z"`: 1795669200, `"2026-11-26T06:00:00+01:00"`: 1795669200,
		`null`: 0, `"0001-01-01T00:00:00"`: 0, `"0001-01-01T00:00:00Z"`: 0, `""`: 0, `12`: 0, `"yesterday"`: 0} {
		var b agentBody
		if err := json.Unmarshal([]byte(`{"id":7,"createdOn":`+text+`}`), &b); err != nil || b.ID != 7 {
			t.Errorf("%s: %v", text, err)
		}
		if got := b.CreatedOn.Time; want == 0 && !got.IsZero() || want != 0 && got.Unix() != want {
			t.Errorf("%s became %s", text, got)
		}
	}
}

// An answer that is not the agent that was asked for says nothing of it.
func TestByIDBelievesOnlyItsOwnAgent(t *testing.T) {
	for _, body := range []string{`null`, `{}`, `{"id":8,"name":"web-2","status":"offline"}`} {
		a, err := server(
			t,
			known(func(*http.Request) (int, string) { return 200, body }),
		).ByID(t.Context(), Place{Target: Target{Pool, "", "x"}, ID: 30, PoolID: 30}, 7)
		if a != nil || err == nil || errors.Is(err, ErrGone) {
			t.Errorf("%s: %+v, %v", body, a, err)
		}
	}
}

// Who adds agents to an environment must manage the pool behind it.
func TestManages(t *testing.T) {
	env := Place{Target: Target{Environment, "Shop", "x"}, ID: 1}
	for name, c := range map[string]struct {
		pool, managed string
		status        int
		class         fault.Class
	}{
		"it does":                  {`{"id":30,"name":"environment-1-x"}`, `{"value":[{"id":30,"name":"environment-1-x"}]}`, 200, fault.Class{}},
		"it does not":              {`{"id":30,"name":"environment-1-x"}`, `{"value":[]}`, 200, fault.Scope},
		"another pool":             {`{"id":30,"name":"environment-1-x"}`, `{"value":[{"id":31,"name":"environment-1-x"}]}`, 200, fault.Scope},
		"there is no pool yet":     {`{"typeKey":"EnvironmentPoolNotFoundException"}`, ``, 404, fault.Class{}},
		"no pool yet, said as 500": {`{"typeKey":"EnvironmentPoolNotFoundException"}`, ``, 500, fault.Class{}},
	} {
		err := server(t, known(func(r *http.Request) (int, string) {
			switch {
			case strings.HasSuffix(r.URL.Path, "/virtualmachines/pool"):
				return c.status, c.pool
			case strings.HasSuffix(r.URL.Path, "/pools"):
				return 200, c.managed
			}
			return 200, c.pool
		})).Manages(t.Context(), env)
		if f := fault.From(err); (err == nil) != (c.class == fault.Class{}) || err != nil && f.Class != c.class {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// An agent without a status is one that the credential may not look at: neither online nor offline,
// and enabled as far as anybody knows.
func TestAnAgentThatIsNotShown(t *testing.T) {
	a := agentBody{ID: 7, Name: "web-1"}.agent(3)
	if a.Online || a.Offline || !a.Enabled {
		t.Errorf("%+v", a)
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add(200, `{"value":[{"id":1,"name":"x","agent":{"id":2}}]}`)
	f.Add(203, signIn)
	f.Add(400, `{"typeKey":"VssVersionOutOfRangeException"}`)
	f.Fuzz(func(t *testing.T, status int, body string) {
		c := server(t, func(*http.Request) (int, string) { return 200 + (status&0x7fffffff)%400, body })
		for _, kind := range []string{Pool, DeploymentGroup, Environment} {
			p, err := c.Find(context.Background(), Target{kind, "Shop", "x"})
			if err == nil && p.ID == 0 && !strings.Contains(body, "name") {
				t.Error("found nothing, and no error")
			}
			_, err2 := c.Agent(context.Background(), p, "x")
			_, err3 := c.WhoAmI(context.Background())
			for _, e := range []error{err, err2, err3} {
				if fl := fault.From(e); e != nil && (fl.Class == fault.Internal || fl.Advice == "") {
					t.Errorf("nobody classified %v", e)
				}
			}
		}
	})
}

func TestEntraTokensAreBearers(t *testing.T) {
	p, err := secret.NewPAT("opaque-token")
	if err != nil {
		t.Fatal(err)
	}
	c := New(
		"https://dev.azure.com/contoso",
		"organization contoso",
		&http.Client{Transport: answerer(func(r *http.Request) (int, string) {
			if got := r.Header.Get("Authorization"); got != "Bearer opaque-token" {
				t.Errorf("authorization is %q", got)
			}
			return 403, ""
		})},
		Credential{PAT: p, Entra: true},
	)
	_, err = c.WhoAmI(t.Context())
	if f := fault.From(err); f.Class != fault.PAT || strings.Contains(f.Error()+f.Advice, "PAT") {
		t.Errorf("%v (%s)", err, f.Advice)
	}
}

// Azure DevOps delays the answers to a heavy user, and asks to be left alone, before it refuses
// any.
func TestCrowded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wish := ""
		c := New(
			"https://dev.azure.com/contoso",
			"organization contoso",
			&http.Client{Transport: answers(func(r *http.Request) *http.Response {
				res, _ := answerer(
					func(*http.Request) (int, string) { return 200, `{"value":[{"id":1,"name":"x"}]}` },
				).RoundTrip(r)
				res.Header.Set("Retry-After", wish)
				return res
			})},
			Credential{},
		)
		for _, w := range []string{"", "soon", "-1", "40"} {
			wish = w
			if _, err := c.Find(t.Context(), Target{Pool, "", "x"}); err != nil {
				t.Fatal(err)
			}
			err := c.Crowded()
			if w != "40" && err != nil {
				t.Errorf("%q: %v", w, err)
			}
			if f := fault.From(
				err,
			); w == "40" &&
				(err == nil || f.Class != fault.Network || !f.Wait || f.After != 40*time.Second || f.Advice == "") {
				t.Errorf("%q: %v", w, err)
			}
		}
		time.Sleep(40 * time.Second)
		if err := c.Crowded(); err != nil {
			t.Error(err)
		}
	})
}

type answers func(*http.Request) *http.Response

func (a answers) RoundTrip(r *http.Request) (*http.Response, error) { return a(r), nil }

// Two questions aside may be asked at once: each learns for itself which addresses are in preview.
func TestAsideAtOnce(t *testing.T) {
	c := server(t, func(r *http.Request) (int, string) {
		if !strings.HasSuffix(r.URL.Query().Get("api-version"), "-preview") {
			return 400, `{"message":"x","typeKey":"VssInvalidPreviewVersionException"}`
		}
		return 200, `{"count":0,"value":[]}`
	})
	var all sync.WaitGroup
	for range 8 {
		aside := c.Aside()
		all.Go(func() { _, _ = aside.Offered(t.Context(), "linux-x64") })
	}
	all.Wait()
}
