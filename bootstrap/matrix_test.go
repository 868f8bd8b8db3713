//go:build linux

package bootstrap_test

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"azp-bootstrap/bootstrap/sim"
)

// The points are where a fault can strike a boot: each request of its own kind, in the order of a
// boot. Whose the PAT is, is asked only when the target is refused.
var points = []string{"instance", "token", "secret", "find, whoami", "find", "look", "online"}

// registers is the daemon's own registration, with agent.registration: rest.
const registers = "register"

// hosts are where a connection can fail.
var hosts = []string{"IMDS", "vault", "DevOps"}

// pointOf says which point a request is; "" = config.sh's own.
func (f *fleet) pointOf(r *http.Request) string {
	path := r.URL.Path
	switch host := strings.TrimSuffix(r.Host, ":443"); {
	case r.Method == http.MethodConnect || r.URL.Host != "":
		return "proxy"
	case host == "169.254.169.254" && strings.HasPrefix(path, "/metadata/instance"):
		return "instance"
	case host == "169.254.169.254":
		return "token"
	case host == "management.azure.com":
		return "ARM"
	case host == "contoso.vault.azure.net":
		return "secret"
	case r.Header.Get("X-TFS-FedAuthRedirect") == "": // config.sh
		return ""
	case strings.HasSuffix(path, "/connectionData"):
		return "whoami"
	case strings.HasSuffix(path, "/virtualmachines") && r.Method == http.MethodPost:
		return registers
	case strings.Contains(path, "/virtualmachines") && len(f.azure.Agents()) > 0:
		return "online"
	case strings.Contains(path, "/virtualmachines"):
		return "look"
	}
	return "find"
}

// A strike is a fault at one point, or at one host's connections.
type strike struct {
	at    string
	times int32 // so often, then it passes; < 0 = until it is called off
	n     atomic.Int32
	over  atomic.Bool

	begins func() bool // nil = it has
}

func (s *strike) strikes(at string) bool {
	if at == "" || !slices.Contains(strings.Split(s.at, ", "), at) || s.over.Load() || s.begins != nil && !s.begins() {
		return false
	}
	n := s.n.Add(1)
	return s.times < 0 || n <= s.times
}

// outcome is what became of a boot.
type outcome struct {
	class string // "" = joined
	took  time.Duration
}

const (
	boots    = 5 * time.Minute // the deadline of a boot here
	hitTwice = 2
)

// run boots a new VM under a fault, looks whether it is sound, calls the fault off and boots again:
// it must join then.
func (c cell) run(t *testing.T, dir string, times int32) (o outcome) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		defer over(cancel)
		s := &strike{at: c.at, times: times}
		f := newFleet(ctx, t, dir, 1, nil)
		m := f.machine(0)
		m.registration = c.registration
		c.fault.strike(m, s)
		begin := time.Now()
		err := m.boot(ctx, boots)
		o.took = time.Since(begin)
		if err != nil {
			o.class = err.Class.Code
			if err.Advice == "" {
				t.Errorf("no next step: %s", err)
			}
		}
		if err := m.sound(); err != nil {
			t.Error(err)
		}
		s.over.Store(true)
		if s.n.Load() == 0 {
			t.Error("the fault never struck")
		}
		if err := m.boot(ctx, boots); err != nil {
			t.Errorf("with the fault gone it does not join: %s", err)
		}
		if err := m.sound(); err != nil {
			t.Error(err)
		}
		if n := len(f.azure.Agents()); n != 1 {
			t.Errorf("%d agents at the end", n)
		}
		if t.Failed() {
			t.Log(m.said.String())
		}
	})
	return o
}

// A cell is one fault at one place.
type cell struct {
	fault networkFault
	at    string

	registration string // agent.registration; "" = script
}

// A networkFault is a row of the matrix. answer strikes at requests, dial at connections.
type networkFault struct {
	name   string
	answer func(w http.ResponseWriter, r *http.Request, next http.Handler)
	dial   func(ctx context.Context, m *machine, address string, next func() (net.Conn, error)) (net.Conn, error)
	setup  func(m *machine)
	want   string // one word for each point or host: see expected
	within time.Duration
}

func (n networkFault) strike(m *machine, s *strike) {
	if n.setup != nil {
		n.setup(m)
	}
	if n.answer != nil {
		m.front(func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if s.strikes(m.pointOf(r)) {
					n.answer(w, r, next)
					return
				}
				next.ServeHTTP(w, r)
			})
		})
	}
	if n.dial != nil {
		dial := m.dial
		m.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			at := map[string]string{"169.254.169.254:80": "IMDS", "contoso.vault.azure.net:443": "vault", "dev.azure.com:443": "DevOps",
				"management.azure.com:443": "ARM", sim.ProxyAddress: "proxy"}[address]
			next := func() (net.Conn, error) { return dial(ctx, network, address) }
			if s.strikes(at) {
				return n.dial(ctx, m, address, next)
			}
			return next()
		}
	}
}

// answers is a fault that answers so.
func answers(
	status int,
	headers map[string]string,
	body string,
) func(http.ResponseWriter, *http.Request, http.Handler) {
	return func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		w.Header().Set("Content-Type", "application/json")
		for k, v := range headers {
			if v == "DATE" {
				v = time.Now().Add(20 * time.Second).UTC().Format(http.TimeFormat)
			}
			w.Header().Set(k, v)
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// instead answers as the service does, but for what change makes of the body.
func instead(
	change func(header http.Header, body string) string,
) func(http.ResponseWriter, *http.Request, http.Handler) {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		rec := &recorded{header: http.Header{}, status: http.StatusOK}
		next.ServeHTTP(rec, r)
		body := change(rec.header, rec.body.String())
		maps.Copy(w.Header(), rec.header)
		w.WriteHeader(rec.status)
		_, _ = io.WriteString(w, body)
	}
}

type recorded struct {
	header http.Header
	status int
	body   strings.Builder
}

func (r *recorded) Header() http.Header         { return r.header }
func (r *recorded) WriteHeader(status int)      { r.status = status }
func (r *recorded) Write(p []byte) (int, error) { return r.body.Write(p) }

// cut ends the connection; said is what comes before.
func cut(said string) func(http.ResponseWriter, *http.Request, http.Handler) {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		_, _ = io.WriteString(c, said)
		_ = c.Close()
	}
}

func hang(_ http.ResponseWriter, r *http.Request, _ http.Handler) {
	select {
	case <-r.Context().Done():
	case <-time.After(time.Hour):
	}
}

// drip sends a byte each second, without end.
func drip(w http.ResponseWriter, r *http.Request, _ http.Handler) {
	w.Header().Set("Content-Type", "application/json")
	for _, err := io.WriteString(w, "{"); err == nil && r.Context().Err() == nil; _, err = io.WriteString(w, " ") {
		if http.NewResponseController(w).Flush() != nil {
			return
		}
		select {
		case <-time.After(time.Second):
		case <-r.Context().Done():
		}
	}
}

func flood(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
	w.Header().Set("Content-Type", "application/json")
	chunk := `"` + strings.Repeat("x", 1<<20) + `",`
	_, _ = io.WriteString(w, `{"x":[`)
	for range 100 {
		if _, err := io.WriteString(w, chunk); err != nil {
			return
		}
	}
}

// spoiled dials to something else than what is meant.
func spoiled(certificate, want string) networkFault {
	return networkFault{
		name: "TLS: " + certificate,
		want: want,
		dial: func(_ context.Context, m *machine, address string, next func() (net.Conn, error)) (net.Conn, error) {
			host, _, _ := net.SplitHostPort(address)
			m.certificate(host, certificate)
			c, err := next()
			if err == nil {
				c = &handshaken{Conn: c, then: func() { m.certificate(host, "") }}
			}
			return c, err
		},
	}
}

// handshaken calls then when the connection ends: a flawed certificate always ends it.
type handshaken struct {
	net.Conn
	then func()
}

func (h *handshaken) Close() error {
	h.then()
	return h.Conn.Close()
}

// certificate spoils that of a host.
func (m *machine) certificate(host, flaw string) {
	s, err := sim.Load("")
	if err != nil {
		m.t.Error(err)
		return
	}
	s.VMs = m.azure.VMs()
	if flaw != "" {
		s.Certificates = map[string]string{host: flaw}
	}
	if err := m.azure.Apply(s); err != nil {
		m.t.Error(err)
	}
}

// actual is what the two runs of a cell say, in a word: "=" it joins as if nothing were; "~class"
// it waits, joins when the fault passes, and ends with the class at the deadline if it does not;
// "!class" it ends with the class at once.
func (c cell) actual(t *testing.T) (word string, waited time.Duration) {
	passes := c.run(t, quickDir(t), hitTwice)
	stays := c.run(t, quickDir(t), -1)
	switch {
	case passes.class == "" && stays.class == "":
		return "=", passes.took
	case passes.class == "" && stays.took >= boots-45*time.Second && stays.took <= boots+time.Minute:
		return "~" + stays.class, passes.took
	case passes.class == stays.class && stays.took < boots/2:
		return "!" + stays.class, passes.took
	}
	return fmt.Sprintf(
		"passes: %q after %s, stays: %q after %s",
		passes.class,
		passes.took,
		stays.class,
		stays.took,
	), passes.took
}

func TestNetworkFaults(t *testing.T) {
	for i, n := range networkFaults() {
		if testing.Short() && i%10 != 0 {
			continue
		}
		t.Run(n.name, func(t *testing.T) {
			t.Parallel()
			places := points
			if n.dial != nil {
				places = hosts
			}
			if n.setup != nil {
				places = []string{"proxy"}
			}
			want := strings.Fields(n.want)
			var got []string
			for i, at := range places {
				if i < len(want) && want[i] == "-" {
					got = append(got, "-")
					continue
				}
				word, waited := cell{fault: n, at: at}.actual(t)
				got = append(got, word)
				t.Logf("%-10s %s after %s", at, word, waited.Round(time.Millisecond))
				if limit := max(n.within, 10*time.Second); word[0] != '=' && waited > limit {
					t.Errorf("at %s it took %s, which is more than %s", at, waited, limit)
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("got  %s\nwant %s", strings.Join(got, " "), n.want)
			}
		})
	}
}
