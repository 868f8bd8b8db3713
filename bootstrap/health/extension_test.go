package health

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"azp-bootstrap/bootstrap/journal"
)

// An extension is what Microsoft's Application Health extension makes of /healthz, by the rules of its
// source (Azure/applicationhealth-extension-linux 2.0.29: main/health.go, probeResponse.go, cmds.go,
// handlersettings.go), in the rich form. What it commits is what Azure acts on; Unknown is told to
// the platform as unhealthy (main/health.go, GetStatusTypeForAppHealthStatus).
type extension struct {
	interval, grace time.Duration
	probes          int

	begun     time.Time
	waits     bool // the grace period is still honoured
	before    string
	in        int // a row
	committed string
}

func newExtension(interval time.Duration, probes int, grace time.Duration) *extension {
	if grace == 0 {
		grace = interval * time.Duration(probes)
	}
	return &extension{interval: interval, grace: grace, probes: probes, begun: time.Now(), waits: true}
}

// probe asks once; h is nil where nothing listens.
func probe(h http.Handler) string {
	if h == nil {
		return "Unknown"
	}
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodGet, "http://localhost:8484/healthz", nil)
	r.Header.Set("User-Agent", "ApplicationHealthExtension/1.0")
	h.ServeHTTP(w, r)
	var body struct {
		State         string `json:"applicationHealthState"`
		CustomMetrics string `json:"customMetrics"`
	}
	switch err := json.Unmarshal(w.Body.Bytes(), &body); {
	case w.Code < 200 || w.Code > 299 || err != nil:
		return "Unknown"
	case body.State != "Healthy" && body.State != "Unhealthy":
		return "Unknown"
	}
	return body.State
}

// look probes once and returns what is committed then.
func (e *extension) look(h http.Handler) string {
	state := probe(h)
	if state != e.before {
		e.in, e.before = 0, state
	}
	e.in++
	if e.waits {
		switch {
		case time.Since(e.begun) >= e.grace:
			e.waits, state, e.before, e.in, e.committed = false, "Unknown", "Unknown", 1, ""
		case e.in == e.probes && state != "Unknown":
			e.waits = false
		default:
			state = "Initializing"
		}
	}
	if e.in == e.probes || e.committed == "" {
		e.committed = state
	}
	if e.in == e.probes {
		e.in = 0
	}
	return e.committed
}

// settings are the extension's in docs/deploy; both files have the same.
func settings(t *testing.T) (interval time.Duration, probes int, grace time.Duration) {
	t.Helper()
	read := func(file, key string) int {
		t.Helper()
		text, err := os.ReadFile(filepath.Join("..", "..", "docs", "deploy", file))
		if err != nil {
			t.Fatal(err)
		}
		m := regexp.MustCompile(`\b` + key + `\s*[:=]\s*(\d+)`).FindSubmatch(text)
		if m == nil {
			t.Fatalf("%s does not set %s", file, key)
		}
		n, _ := strconv.Atoi(string(m[1]))
		return n
	}
	got := map[string]int{}
	for _, key := range []string{"port", "intervalInSeconds", "numberOfProbes", "gracePeriod"} {
		got[key] = read("scale-set.bicep", key)
		if tf := read("scale-set.tf", key); tf != got[key] {
			t.Errorf("%s: %d in the Bicep file, %d in Terraform's", key, got[key], tf)
		}
	}
	// main/schema.go, handlersettings.go: what the extension refuses
	for key, bounds := range map[string][2]int{
		"port": {1, 65535}, "intervalInSeconds": {5, 60}, "numberOfProbes": {1, 24}, "gracePeriod": {5, 14400},
	} {
		if got[key] < bounds[0] || got[key] > bounds[1] {
			t.Errorf("%s: %d is refused by the extension", key, got[key])
		}
	}
	for file, patterns := range map[string][]string{
		"scale-set.bicep": {`protocol: 'http'`, `requestPath: '/healthz'`}, "scale-set.tf": {`protocol\s*= "http"`, `requestPath\s*= "/healthz"`},
	} {
		text, err := os.ReadFile(filepath.Join("..", "..", "docs", "deploy", file))
		for _, pattern := range patterns {
			if err != nil || !regexp.MustCompile(pattern).Match(text) {
				t.Errorf("%s: no %s, %v", file, pattern, err)
			}
		}
	}
	if got["intervalInSeconds"]*got["numberOfProbes"] > 240 {
		t.Error("probes that take more than 240 s to settle are refused by the extension")
	}
	return time.Duration(got["intervalInSeconds"]) * time.Second, got["numberOfProbes"],
		time.Duration(got["gracePeriod"]) * time.Second
}

// A vm is what the extension looks at: a daemon that stands somewhere, or none.
type vm struct {
	t       *testing.T
	live    *Live
	handler http.Handler
	ext     *extension
}

func (v *vm) boot() {
	v.live = NewLive()
	s := &Server{Live: v.live, Version: "1"}
	s.grace.Store(int64(30 * time.Minute)) // the default of health.grace
	v.handler = s.handler()
}

func (v *vm) gone() { v.handler = nil }

func (v *vm) ready() { v.live.Set(sample()); v.live.Assert() }

func (v *vm) at(phase string) { v.live.Set(journal.State{Phase: phase}) }

// stays lets time pass and demands that nothing but want is committed in it.
func (v *vm) stays(d time.Duration, want string) {
	v.t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(v.ext.interval) {
		if got := v.ext.look(v.handler); got != want {
			v.t.Fatalf("after %s: %s, want %s", time.Since(v.ext.begun), got, want)
		}
	}
}

// becomes lets time pass until want is committed; from may stand there until then, nothing else.
func (v *vm) becomes(from, want string, within time.Duration) {
	v.t.Helper()
	for begun := time.Now(); ; time.Sleep(v.ext.interval) {
		switch got := v.ext.look(v.handler); {
		case got == want:
			time.Sleep(v.ext.interval)
			return
		case got != from:
			v.t.Fatalf("%s on the way from %s to %s", got, from, want)
		case time.Since(begun) > within:
			v.t.Fatalf("not %s within %s", want, within)
		}
	}
}

// Azure repairs a VM that is reported unhealthy, or unknown: so each story of a VM ends where its
// owner wants it to, with the extension's settings of docs/deploy.
func TestWhatTheHealthExtensionReports(t *testing.T) {
	interval, probes, grace := settings(t)
	settle := interval*time.Duration(probes) + interval
	for name, story := range map[string]func(*vm){
		"a boot of five minutes": func(v *vm) {
			v.gone()
			v.stays(40*time.Second, "Initializing")
			v.boot()
			v.stays(2*time.Minute, "Initializing")
			v.at(journal.Register)
			v.stays(2*time.Minute, "Initializing")
			v.ready()
			v.becomes("Initializing", "Healthy", settle)
			v.stays(time.Hour, "Healthy")
		},
		"a boot that fails for good": func(v *vm) {
			v.boot()
			v.stays(2*time.Minute, "Initializing")
			v.at(journal.Failed)
			v.becomes("Initializing", "Unhealthy", settle) // long before the grace period ends
			v.stays(time.Hour, "Unhealthy")
		},
		"a boot that waits too long": func(v *vm) {
			v.boot()
			v.stays(grace-interval, "Initializing")
			v.becomes("Initializing", "Unknown", 2*interval) // the same to Azure as
			v.becomes("Unknown", "Unhealthy", settle)
			v.ready()
			v.becomes("Unhealthy", "Healthy", settle)
		},
		"the daemon is upgraded": func(v *vm) {
			v.boot()
			v.ready()
			v.becomes("Initializing", "Healthy", settle)
			v.gone()
			v.stays(2*interval, "Healthy")
			v.boot()
			v.stays(2*interval, "Healthy")
			v.ready()
			v.stays(time.Hour, "Healthy")
		},
		"its agent ends and is brought up again": func(v *vm) {
			v.boot()
			v.ready()
			v.becomes("Initializing", "Healthy", settle)
			v.live.AgentDown(true)
			v.stays(2*interval, "Healthy")
			v.live.AgentDown(false)
			v.stays(time.Hour, "Healthy")
			v.live.AgentDown(true)
			v.becomes("Healthy", "Unhealthy", settle)
		},
		"an outage of Azure DevOps": func(v *vm) {
			v.boot()
			v.ready()
			v.becomes("Initializing", "Healthy", settle)
			v.live.AgentLost(true)
			v.stays(24*time.Hour, "Healthy")
		},
		"it drains and leaves": func(v *vm) {
			v.boot()
			v.ready()
			v.becomes("Initializing", "Healthy", settle)
			v.at(journal.Draining)
			v.stays(time.Hour, "Healthy") // its job is waited for
			v.at(journal.Removed)
			v.becomes("Healthy", "Unhealthy", settle)
		},
		"it leaves and joins again": func(v *vm) {
			v.boot()
			v.ready()
			v.becomes("Initializing", "Healthy", settle)
			v.at(journal.Register)
			v.stays(2*interval, "Healthy")
			v.ready()
			v.stays(time.Hour, "Healthy")
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				story(&vm{t: t, ext: newExtension(interval, probes, grace)})
			})
		})
	}
}

// With its defaults (one probe decides) the extension reports a VM whose daemon is upgraded: that is
// why docs/deploy sets more.
func TestOneProbeIsTooFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &vm{t: t, ext: newExtension(5*time.Second, 1, 30*time.Minute)}
		v.boot()
		v.ready()
		v.becomes("Initializing", "Healthy", 5*time.Second)
		v.gone()
		v.becomes("Healthy", "Unknown", 5*time.Second)
	})
}

// The binary form takes 200 for healthy and nothing else (main/health.go before 2.0; load balancer
// probes do the same).
func TestTheBinaryForm(t *testing.T) {
	v := &vm{t: t}
	v.boot()
	code := func() int {
		w := httptest.NewRecorder()
		v.handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/healthz", nil))
		return w.Code
	}
	if got := code(); got == http.StatusOK {
		t.Error("healthy before it has joined")
	}
	v.ready()
	if got := code(); got != http.StatusOK {
		t.Errorf("ready: %d", got)
	}
	v.live.AgentDown(true)
	if got := code(); got == http.StatusOK {
		t.Error("healthy while its agent is down")
	}
}
