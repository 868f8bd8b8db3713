package sim

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// armAsks is a request to Azure Resource Manager with a token of the VM web_1 for a resource.
func (w world) armAsks(method, target, resource string) *httptest.ResponseRecorder {
	w.Helper()
	r := httptest.NewRequestWithContext(w.Context(), method, "https://"+armHost+target, http.NoBody)
	if resource != "" {
		ask := httptest.NewRequestWithContext(w.Context(), http.MethodGet,
			"http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01&resource="+url.QueryEscape(resource), http.NoBody)
		ask.Header.Set("Metadata", "true")
		got := httptest.NewRecorder()
		w.sim.imds("web_1").ServeHTTP(got, ask)
		_, rest, _ := strings.Cut(got.Body.String(), `"access_token":"`)
		token, _, _ := strings.Cut(rest, `"`)
		r.Header.Set("Authorization", "Bearer "+token)
	}
	got := httptest.NewRecorder()
	w.sim.front(got, r)
	return got
}

func TestResourceManager(t *testing.T) {
	const (
		armed   = "https://management.core.windows.net/"
		web1    = "/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/shop/providers/Microsoft.Compute/virtualMachineScaleSets/web/virtualMachines/1"
		version = "?api-version=2024-07-01"
	)
	for name, c := range map[string]struct {
		method, target, resource string
		status                   int
		words                    string
	}{
		"no token":           {"DELETE", web1 + version, "", 401, "AuthenticationFailed"},
		"the vault's token":  {"DELETE", web1 + version, "https://vault.azure.net", 401, "InvalidAuthenticationTokenAudience"},
		"no version":         {"DELETE", web1, armed, 400, "MissingApiVersionParameter"},
		"no such version":    {"DELETE", web1 + "?api-version=2021-12-13", armed, 400, "NoRegisteredProviderFound"},
		"another VM":         {"DELETE", strings.TrimSuffix(web1, "1") + "7" + version, armed, 204, ""},
		"another group":      {"DELETE", strings.Replace(web1, "/shop/", "/shop2/", 1) + version, armed, 403, "'Microsoft.Compute/virtualMachineScaleSets/virtualMachines/delete' over scope"},
		"reimage of another": {"POST", strings.TrimSuffix(web1, "1") + "7/reimage" + version, armed, 404, "ResourceNotFound"},
		"read":               {"GET", web1 + version, armed, 403, "virtualMachines/read"},
		"another verb":       {"POST", web1 + "/restart" + version, armed, 405, "HttpMethodNotSupported"},
		"the whole set":      {"DELETE", strings.TrimSuffix(web1, "/virtualMachines/1") + version, armed, 404, "InvalidResourceType"},
		"delete":             {"DELETE", web1 + version, armed, 202, ""},
		"in other letters":   {"DELETE", strings.ToUpper(web1) + version, armed, 202, ""},
		"reimage":            {"POST", web1 + "/reimage" + version, armed, 202, ""},
		"az login":           {"GET", "/subscriptions?api-version=2022-12-01", armed, 200, `"value":[]`},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			got := w.armAsks(c.method, c.target, c.resource)
			if got.Code != c.status || !strings.Contains(got.Body.String(), c.words) {
				t.Errorf("%d %s", got.Code, got.Body)
			}
			if accepted := got.Code == 202; accepted != (len(w.sim.Fates()) == 1) || accepted != (got.Header().Get("Azure-AsyncOperation") != "") {
				t.Errorf("%v %v", w.sim.Fates(), got.Header())
			}
		})
	}
	t.Run("an operation", func(t *testing.T) {
		w := newWorld(t)
		synctest.Test(t, func(*testing.T) {
			first := w.armAsks("DELETE", web1+version, armed)
			if again := w.armAsks("POST", web1+"/reimage"+version, armed); again.Code != 409 {
				t.Errorf("two at once: %d %s", again.Code, again.Body)
			}
			at := strings.TrimPrefix(first.Header().Get("Azure-AsyncOperation"), "https://"+armHost)
			if got := w.armAsks("GET", at, armed); got.Code != 403 || !strings.Contains(got.Body.String(), "locations/operations/read") {
				t.Errorf("%d %s", got.Code, got.Body)
			}
			w.sim.scenario.Roles = append(w.sim.scenario.Roles, Role{"bbbbbbbb-0000-4000-8000-000000000001",
				[]string{"Microsoft.Compute/locations/operations/read"}, "/subscriptions/11111111-2222-3333-4444-555555555555"})
			if got := w.armAsks("GET", at, armed); got.Code != 200 || !strings.Contains(got.Body.String(), "InProgress") {
				t.Errorf("%d %s", got.Code, got.Body)
			}
			time.Sleep(armTakes + time.Second)
			if got := w.armAsks("GET", at, armed); !strings.Contains(got.Body.String(), "Succeeded") {
				t.Errorf("%d %s", got.Code, got.Body)
			}
			if got := w.armAsks("POST", web1+"/reimage"+version, armed); got.Code != 404 {
				t.Errorf("a VM that was deleted: %d", got.Code)
			}
		})
	})
	t.Run("with a termination notice", func(t *testing.T) {
		w := newWorld(t)
		w.sim.scenario.VMs[0].TerminateNotice = 5 * time.Minute
		synctest.Test(t, func(*testing.T) {
			w.armAsks("DELETE", web1+version, armed)
			if len(w.sim.events) != 1 || w.sim.events[0].Type != "Terminate" {
				t.Fatal(w.sim.events)
			}
			time.Sleep(time.Minute)
			if w.sim.Fates()[0].Done {
				t.Error("it did not wait for the notice")
			}
			time.Sleep(5 * time.Minute)
			if !w.sim.Fates()[0].Done {
				t.Error("it waits for ever")
			}
		})
	})
}
