package compare

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
)

var everything = Questions{
	URL: "https://dev.azure.com/contoso", Project: "Shop", Pool: "Default", DeploymentGroup: "web-servers",
	Environment: "production", Write: true,
}

var someVault = Vault{URL: "https://contoso.vault.azure.net", Secret: "azp-pat"}

// asked are the answers of a simulator to everything; wrap as for Mirror.
func asked(t *testing.T, wrap func(http.Handler) http.Handler) []Answer {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	m, err := NewMirror(ctx, everything, someVault, t.TempDir(), wrap)
	if err != nil {
		t.Fatal(err)
	}
	s, vm := m.Side(everything), m.Machine()
	// Where the simulator was changed, asking may end early: what was asked so far is compared.
	e1, e2 := vm.Ask(ctx, func(string) {}), s.Ask(ctx, func(string) {})
	if wrap == nil && (e1 != nil || e2 != nil) {
		t.Fatal(e1, e2)
	}
	return append(vm.Answers(), s.Answers()...)
}

// The simulator has nothing against itself; and no request of the product is missing.
func TestNothingAgainstItself(t *testing.T) {
	there := asked(t, nil)
	for _, d := range Differences(there, asked(t, nil)) {
		t.Errorf("%s: %s: %v", d.Question, d.Request, d.Lines)
	}
	var routes []string
	for _, a := range there {
		routes = append(routes, a.Request)
		for _, word := range []string{"contoso", "Shop", "Default", "web-servers", "production", "azp-pat", "simulated"} {
			if text, _ := json.Marshal(a); strings.Contains(string(text), word) {
				t.Errorf("%s is in the record: %s", word, text)
			}
		}
	}
	for _, want := range []string{
		"GET /_apis/connectionData", "GET /_apis/distributedtask/pools?actionFilter&poolName&poolType",
		"GET /_apis/distributedtask/pools/{id}/agents/{id}?includeAssignedRequest&includeCapabilities",
		"POST /_apis/distributedtask/pools/{id}/agents", "PATCH /_apis/distributedtask/pools/{id}/agents/{id}",
		"DELETE /_apis/distributedtask/pools/{id}/agents/{id}",
		"GET /{project}/_apis/distributedtask/deploymentgroups?actionFilter&name",
		"PATCH /{id}/_apis/distributedtask/deploymentgroups/{id}/targets",
		"DELETE /{id}/_apis/distributedtask/deploymentgroups/{id}/targets/{id}",
		"GET /{project}/_apis/pipelines/environments?name", "PATCH /{id}/_apis/pipelines/environments/{id}/providers/virtualmachines",
		"DELETE /{id}/_apis/pipelines/environments/{id}/providers/virtualmachines/{id}",
		"GET /{id}/_apis/pipelines/environments/{id}/providers/virtualmachines/pool",
		"GET /metadata/instance", "GET /metadata/scheduledevents", "GET /metadata/identity/oauth2/token?resource",
		"GET /secrets/{project}",
	} {
		if !slices.Contains(routes, want) {
			t.Errorf("%s is not asked", want)
		}
	}
	if t.Failed() {
		t.Log(strings.Join(routes, "\n"))
	}
}

// Each answer of a simulator that was changed on purpose is found out: another status, another typeKey, a
// key that is missing, one of another type.
func TestEachChangeOfEachRouteIsFound(t *testing.T) {
	right := asked(t, nil)
	for name, change := range map[string]func(*httptest.ResponseRecorder, map[string]any) bool{
		"status": func(r *httptest.ResponseRecorder, _ map[string]any) bool {
			r.Code = map[bool]int{true: http.StatusTeapot, false: http.StatusAccepted}[r.Code < 300]
			return true
		},
		"typeKey": func(_ *httptest.ResponseRecorder, o map[string]any) bool {
			_, has := o["typeKey"].(string)
			if has {
				o["typeKey"] = "SomethingElseException"
			}
			return has
		},
		"a missing key": func(_ *httptest.ResponseRecorder, o map[string]any) bool { return anyKey(o, true) },
		"another type":  func(_ *httptest.ResponseRecorder, o map[string]any) bool { return anyKey(o, false) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			changes := 0
			for n := range right {
				var seen atomic.Int64
				var changed atomic.Bool
				got := asked(t, func(h http.Handler) http.Handler {
					return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						rec := httptest.NewRecorder()
						h.ServeHTTP(rec, r)
						if seen.Add(1) == int64(n+1) {
							var o map[string]any
							_ = json.Unmarshal(rec.Body.Bytes(), &o) // nil if it is none
							if change(rec, o) {
								changed.Store(true)
								if text, err := json.Marshal(o); err == nil && o != nil {
									rec.Body = bytes.NewBuffer(text)
								}
							}
						}
						for k, v := range rec.Header() {
							w.Header()[k] = v
						}
						w.Header().Del("Content-Length")
						w.WriteHeader(rec.Code)
						_, _ = w.Write(rec.Body.Bytes())
					})
				})
				if !changed.Load() {
					continue
				}
				changes++
				if len(Differences(got, right)) == 0 {
					t.Errorf("%s: %s: the change is not found", right[n].Question, right[n].Request)
				}
			}
			if least := map[string]int{"typeKey": 8}[name]; changes < max(least, 8) {
				t.Errorf("%d answers were changed", changes)
			}
		})
	}
}

// anyKey takes a key away, or makes its value one of another type. In a list it is one of each item.
func anyKey(o map[string]any, away bool) bool {
	if list, is := o["value"].([]any); is && len(list) > 0 {
		changed := false
		for _, item := range list {
			if m, is := item.(map[string]any); is {
				changed = anyKey(m, away) || changed
			}
		}
		return changed
	}
	for _, key := range []string{"id", "name", "version", "compute", "DocumentIncarnation", "access_token", "message", "error", "authenticatedUser"} {
		if _, has := o[key]; has {
			if away {
				delete(o, key)
			} else {
				o[key] = []any{true}
			}
			return true
		}
	}
	return false
}
