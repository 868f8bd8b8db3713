package compare

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
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

// A spoiler changes one of the answers that are recorded.
type spoiler struct {
	http.RoundTripper
	record *recorder // whose answers count; nil = all do
	at     *int      // how many come before
	change func(*httptest.ResponseRecorder)
}

func (s *spoiler) RoundTrip(q *http.Request) (*http.Response, error) {
	res, err := s.RoundTripper.RoundTrip(q)
	if err != nil || s.record != nil && s.record.question == "" {
		return res, err
	}
	if *s.at--; *s.at != -1 {
		return res, err
	}
	rec := httptest.NewRecorder()
	rec.Code = res.StatusCode
	for k, v := range res.Header {
		rec.Header()[k] = v
	}
	_, err = io.Copy(rec.Body, res.Body)
	_ = res.Body.Close()
	s.change(rec)
	rec.Header().Del("Content-Length")
	return rec.Result(), err
}

// asked are the answers of a simulator to everything; change, if not nil, is made of the answer that
// comes after so many.
func asked(t *testing.T, after int, change func(*httptest.ResponseRecorder)) []Answer {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	m, err := NewMirror(ctx, everything, someVault, t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	s, vm := m.Side(everything), m.Machine()
	if change != nil {
		for _, r := range []*recorder{vm.imds, vm.vault, s.recorder} {
			of := &spoiler{r.RoundTripper, r, &after, change}
			r.RoundTripper = of
		}
	}
	// Where the simulator was changed, not everything can be asked: what was answered is compared.
	e1, e2 := vm.Ask(ctx, func(string) {}), s.Ask(ctx, func(string) {})
	if change == nil && (e1 != nil || e2 != nil) {
		t.Fatal(e1, e2)
	}
	nothingLeft(t, m, everything)
	return append(vm.Answers(), s.Answers()...)
}

// nothingLeft: no scratch agent stays, whatever went wrong.
func nothingLeft(t *testing.T, m *Mirror, q Questions) {
	t.Helper()
	c := m.Side(q).client(m.pat)
	for _, target := range q.targets() {
		p, err := c.Find(t.Context(), target)
		if err != nil {
			t.Fatal(err)
		}
		all, err := c.All(t.Context(), p)
		if err != nil && !strings.Contains(err.Error(), "no VM") {
			t.Fatal(err)
		}
		for _, a := range all {
			if strings.HasPrefix(a.Name, "azp-compare-") && a.Name != "azp-compare-mirror" {
				t.Errorf("the scratch agent %s stays in the %s", a.Name, p)
			}
		}
	}
}

// Nor has it on servers of other versions, when it is asked for the second time, by another identity, at
// an address that people write otherwise.
func TestNothingAgainstItselfElsewhere(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Questions)
		vault  Vault
	}{
		"Server 2020":             {func(q *Questions) { q.URL, q.Version = "https://devops.corp/c", "6.0" }, someVault},
		"Server 2019":             {func(q *Questions) { q.URL, q.Version, q.Environment = "https://devops.corp/c", "5.1", "" }, someVault},
		"the next version":        {func(q *Questions) { q.Version = "8.0" }, someVault},
		"a user's identity":       {func(*Questions) {}, Vault{someVault.URL, someVault.Secret, "11111111-2222-3333-4444-555555555555"}},
		"reading only":            {func(q *Questions) { q.Write = false }, someVault},
		"names with many letters": {func(q *Questions) { q.Project, q.Environment, q.Pool = "R & D 100%", "größe 1", "ü&x" }, someVault},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			q := everything
			c.change(&q)
			mirror := func() *Mirror {
				m, err := NewMirror(t.Context(), q, c.vault, t.TempDir(), nil)
				if err != nil {
					t.Fatal(err)
				}
				return m
			}
			silent := func(string) {}
			real := mirror()
			for round := range 2 { // a pool stays behind an environment when its last VM has gone
				there, vm := real.Side(q), real.Machine()
				if err := errors.Join(there.Ask(t.Context(), silent), vm.Ask(t.Context(), silent)); err != nil {
					t.Fatal(err)
				}
				m := mirror()
				here, ours := m.Side(q), m.Machine()
				if err := errors.Join(here.Mirror(t.Context(), there), here.Ask(t.Context(), silent), ours.Ask(t.Context(), silent)); err != nil {
					t.Fatal(err)
				}
				for _, d := range append(Differences(there.Answers(), here.Answers()), Differences(vm.Answers(), ours.Answers())...) {
					t.Errorf("round %d: %s: %s: %v", round, d.Question, d.Request, d.Lines)
				}
			}
			nothingLeft(t, real, q)
		})
	}
}

// What is interrupted leaves no agent either.
func TestAnInterruptedComparisonLeavesNothing(t *testing.T) {
	for n := 1; n < 90; n += 4 {
		ctx, interrupt := context.WithCancel(t.Context())
		var seen atomic.Int64
		m, err := NewMirror(t.Context(), everything, someVault, t.TempDir(), func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if seen.Add(1) == int64(n) {
					interrupt()
				}
				h.ServeHTTP(w, r)
			})
		})
		if err != nil {
			t.Fatal(err)
		}
		_ = m.Side(everything).Ask(ctx, func(string) {})
		interrupt()
		nothingLeft(t, m, everything)
	}
}

// Addresses that are written otherwise than they are asked, and other hosts, are in no line.
func TestRoutesHaveNoNames(t *testing.T) {
	for base, asked := range map[string]string{
		"HTTPS://Dev.azure.com/contoso":      "https://dev.azure.com/contoso/_apis/connectionData",
		"https://sp.corp/My%20Collection":    "https://sp.corp/My%20Collection/_apis/connectionData",
		"https://dev.azure.com/cont%6fso":    "https://dev.azure.com/contoso/_apis/connectionData",
		"https://vault.example/":             "https://vault.example/_apis/connectionData",
		"https://dev.azure.com/contoso?no=1": "https://dev.azure.com/contoso/_apis/connectionData",
	} {
		u, err := url.Parse(asked)
		if err != nil {
			t.Fatal(err)
		}
		if got := newRecorder(nil, base, "").route(u); got != "/_apis/connectionData" {
			t.Errorf("%s: %s", base, got)
		}
	}
	u, _ := url.Parse("https://signin.example/jane?reply_to=x")
	if got := newRecorder(nil, "https://dev.azure.com/contoso", "").route(u); got != "{another address}" {
		t.Error(got)
	}
}

// The simulator has nothing against itself; and no request of the product is missing.
func TestNothingAgainstItself(t *testing.T) {
	there := asked(t, 0, nil)
	for _, d := range Differences(there, asked(t, 0, nil)) {
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
		"GET /_apis/distributedtask/pools/{id}/agents/{id}?includeAssignedRequest&includeCapabilities&includeLastCompletedRequest",
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
	right := asked(t, 0, nil)
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
		"an emptied list": func(_ *httptest.ResponseRecorder, o map[string]any) bool {
			list, is := o["value"].([]any)
			if is {
				o["value"] = []any{}
			}
			return is && len(list) > 0
		},
		"a missing key": func(_ *httptest.ResponseRecorder, o map[string]any) bool { return anyKey(o, true) },
		"another type":  func(_ *httptest.ResponseRecorder, o map[string]any) bool { return anyKey(o, false) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			changes := 0
			for n := range right {
				changed := false
				got := asked(t, n, func(rec *httptest.ResponseRecorder) {
					var o map[string]any
					_ = json.Unmarshal(rec.Body.Bytes(), &o) // nil if it is none
					if changed = change(rec, o); !changed {
						return
					}
					if text, err := json.Marshal(o); err == nil && o != nil {
						rec.Body = bytes.NewBuffer(text)
					}
				})
				if !changed {
					continue
				}
				changes++
				if len(Differences(got, right)) == 0 {
					t.Errorf("%s: %s: the change is not found", right[n].Question, right[n].Request)
				}
			}
			if changes < 8 {
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
