package sim

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// A Sim is one simulated Azure.
type Sim struct {
	mu          sync.Mutex
	scenario    *Scenario
	tokens      map[string]token  // access tokens of managed identities
	agentTokens map[string]*agent // the agents' own tokens
	servers     []*server
	log         []Request
	file        *os.File
	ca          *authority
	packages    string       // folder of agent packages
	grown       func() error // serves the VMs that a scenario has added; nil = nobody has to

	events      []ScheduledEvent
	incarnation int
	jobs        []*Job
	waiting     []*Job  // for an agent that can take them
	fates       []*Fate // of VMs
}

// A Request is one request that the simulator saw. Credentials are not in it, only their kind.
type Request struct {
	At      time.Time `json:"at"`
	Service string    `json:"service"`
	VM      string    `json:"vm,omitempty"`
	Method  string    `json:"method"`
	URL     string    `json:"url"`
	Auth    string    `json:"auth,omitempty"` // basic, bearer
	Agent   string    `json:"userAgent,omitempty"`
	Status  int       `json:"status"` // 0 = cut
	Fault   bool      `json:"fault,omitempty"`
	Millis  float64   `json:"ms"`
	Bytes   int       `json:"bytes,omitempty"` // of the answer's body
}

// New makes an Azure from a scenario. Its certificate authority and its log are written to dir.
func New(s *Scenario, dir string) (*Sim, error) {
	ca, err := newAuthority()
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(
		filepath.Join(dir, "ca.pem"),
		ca.pem,
		0o644,
	); err != nil { //nolint:gosec // a public certificate
		return nil, err
	}
	f, err := os.OpenFile(
		filepath.Join(dir, "requests.jsonl"),
		os.O_CREATE|os.O_WRONLY|os.O_TRUNC,
		0o644,
	) //nolint:gosec // a log
	if err != nil {
		return nil, err
	}
	sim := &Sim{
		scenario:    s,
		tokens:      map[string]token{},
		agentTokens: map[string]*agent{},
		file:        f,
		ca:          ca,
		packages:    filepath.Join(dir, "packages"),
	}
	for i := range s.Servers {
		sim.servers = append(sim.servers, newServer(sim, s.Servers[i]))
	}
	return sim, nil
}

// Apply takes VMs, vaults, PATs, faults and certificates from another scenario; what stands on the
// Azure DevOps servers stays.
func (s *Sim) Apply(n *Scenario) error {
	if err := n.check(); err != nil {
		return err
	}
	s.mu.Lock()
	n.Servers = s.scenario.Servers
	s.scenario = n
	grown := s.grown
	s.mu.Unlock()
	if grown == nil {
		return nil
	}
	return grown()
}

// CA is the PEM of the authority that signs every certificate here.
func (s *Sim) CA() []byte { return s.ca.pem }

// serve runs a handler of a service: faults strike first, and every request is logged.
func (s *Sim) serve(service, vm string, w http.ResponseWriter, r *http.Request, h http.HandlerFunc) {
	begin := time.Now()
	rec := &recorder{ResponseWriter: w}
	f := s.fault(service, r)
	defer func() {
		auth, _, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		q := Request{
			At:      begin.UTC(),
			Service: service,
			VM:      vm,
			Method:  r.Method,
			URL:     r.Host + r.URL.RequestURI(),
			Auth:    strings.ToLower(auth),
			Agent:   r.UserAgent(),
			Status:  rec.status,
			Fault:   f != nil,
			Millis:  float64(time.Since(begin).Microseconds()) / 1000,
			Bytes:   rec.bytes,
		}
		s.mu.Lock()
		s.log = append(s.log, q)
		line, _ := json.Marshal(q)
		_, _ = s.file.Write(append(line, '\n'))
		s.mu.Unlock()
	}()
	if f == nil {
		h(rec, r)
		return
	}
	if f.Delay > 0 {
		select {
		case <-time.After(f.Delay):
		case <-r.Context().Done():
			return
		}
	}
	if f.Cut {
		if c, _, err := http.NewResponseController(w).Hijack(); err == nil {
			_ = c.Close()
		}
		return
	}
	if f.Status == 0 { // only late
		h(rec, r)
		return
	}
	for k, v := range f.Headers {
		rec.Header().Set(k, v)
	}
	if f.RetryAfter != "" {
		rec.Header().Set("Retry-After", f.RetryAfter)
	}
	kind := f.Type
	if kind == "" {
		kind = "application/json"
	}
	rec.Header().Set("Content-Type", kind)
	rec.WriteHeader(f.Status)
	_, _ = rec.Write([]byte(f.Body))
}

func (s *Sim) fault(service string, r *http.Request) *Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.scenario.Faults {
		f := &s.scenario.Faults[i]
		if f.Service != service || f.Method != "" && f.Method != r.Method || !f.match.MatchString(r.Host+r.URL.Path) {
			continue
		}
		f.seen++
		if f.seen > f.Skip && (f.Times == 0 || f.seen <= f.Skip+f.Times) {
			return f
		}
	}
	return nil
}

type recorder struct {
	http.ResponseWriter
	status, bytes int
}

func (r *recorder) WriteHeader(code int) {
	if r.status == 0 {
		r.status = code
	}
	r.ResponseWriter.WriteHeader(code)
}

func (r *recorder) Write(b []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	n, err := r.ResponseWriter.Write(b)
	r.bytes += n
	return n, err
}

func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

type object = map[string]any
