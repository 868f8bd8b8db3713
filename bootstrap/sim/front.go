package sim

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Addresses are where the simulator listens.
type Addresses struct {
	IMDS    map[string]string `json:"imds"`  // URL by VM name
	Proxy   string            `json:"proxy"` // URL of the forward proxy
	Control string            `json:"control"`
	TLS     []string          `json:"tls,omitempty"` // host:port that answer for all names
	CA      string            `json:"ca"`            // file
	PID     int               `json:"pid"`
}

// write writes sim.json whole.
func (a Addresses) write(dir string) error {
	data, err := json.MarshalIndent(a, "", "  ")
	if err != nil {
		return err
	}
	tmp := filepath.Join(dir, "sim.json.new")
	if err := os.WriteFile(tmp, append(data, '\n'), 0o644); err != nil { //nolint:gosec // addresses
		return err
	}
	return os.Rename(tmp, filepath.Join(dir, "sim.json"))
}

// Listen says where to listen; ":0" ports are chosen.
type Listen struct {
	IMDS, Proxy, Control string
	TLS                  []string
	Dir                  string // ca.pem, sim.json and requests.jsonl go here
}

// Serve serves until ctx ends. sim.json in the folder, written when everything listens, says where.
func (s *Sim) Serve(ctx context.Context, l Listen) error {
	defer s.file.Close() //nolint:errcheck // a log; Windows removes no file that is open
	a := Addresses{IMDS: map[string]string{}, CA: filepath.Join(l.Dir, "ca.pem"), PID: os.Getpid()}
	failed := make(chan error, 1)
	start := func(addr string, h http.Handler, wrap func(net.Listener) net.Listener) (string, error) {
		ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
		if err != nil {
			return "", err
		}
		bound := ln.Addr().String()
		if wrap != nil {
			ln = wrap(ln)
		}
		srv := &http.Server{
			Handler:           h,
			ReadHeaderTimeout: 30 * time.Second,
			BaseContext:       func(net.Listener) context.Context { return ctx },
			ErrorLog:          quiet(),
		}
		context.AfterFunc(ctx, func() { _ = srv.Close() })
		go func() {
			if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
				select {
				case failed <- err:
				default:
				}
			}
		}()
		return bound, nil
	}
	inner := &tunnel{conns: make(chan net.Conn), done: ctx.Done()}
	srv := &http.Server{
		Handler:           http.HandlerFunc(s.front),
		ReadHeaderTimeout: 30 * time.Second,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ErrorLog:          quiet(),
	}
	go func() { _ = srv.Serve(inner) }()
	context.AfterFunc(ctx, func() { _ = srv.Close() })
	bound, err := start(l.Proxy, s.proxy(inner), nil)
	if err != nil {
		return err
	}
	a.Proxy = "http://" + bound
	for _, t := range l.TLS {
		bound, err := start(
			t,
			http.HandlerFunc(s.front),
			func(ln net.Listener) net.Listener { return tls.NewListener(ln, s.tlsConfig("localhost")) },
		)
		if err != nil {
			return err
		}
		a.TLS = append(a.TLS, bound)
	}
	if bound, err = start(l.Control, s.Control(), nil); err != nil {
		return err
	}
	a.Control = "http://" + bound
	// Every VM has an IMDS of its own, the first one at l.IMDS; and each that another scenario brings.
	grown := func() error {
		for _, vm := range s.VMs() {
			if a.IMDS[vm.Name] != "" {
				continue
			}
			addr := l.IMDS
			if len(a.IMDS) > 0 {
				host, _, err := net.SplitHostPort(l.IMDS)
				if err != nil {
					return err
				}
				addr = net.JoinHostPort(host, "0")
			}
			bound, err := start(addr, s.imds(vm.Name), nil)
			if err != nil {
				return err
			}
			a.IMDS[vm.Name] = "http://" + bound
		}
		return a.write(l.Dir)
	}
	if err := grown(); err != nil {
		return err
	}
	s.mu.Lock()
	var one sync.Mutex
	s.grown = func() error {
		one.Lock()
		defer one.Unlock()
		return grown()
	}
	s.mu.Unlock()
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		return err
	}
}

// front is everything behind TLS: which service is meant, the host name says.
func (s *Sim) front(w http.ResponseWriter, r *http.Request) {
	host := strings.ToLower(strings.TrimSuffix(r.Host, ":443"))
	if v := s.vault(host); v != nil {
		s.serve("vault", "", w, r, func(w http.ResponseWriter, r *http.Request) { s.answerVault(*v, w, r) })
		return
	}
	if host == downloadHost {
		s.serve("download", "", w, r, http.StripPrefix("/agent/", http.FileServer(http.Dir(s.packages))).ServeHTTP)
		return
	}
	if host == armHost {
		s.serve("arm", "", w, r, s.arm)
		return
	}
	if host == loginHost {
		s.serve("entra", "", w, r, s.entra)
		return
	}
	s.serve("devops", "", w, r, func(w http.ResponseWriter, r *http.Request) {
		switch host {
		case tokenHost:
			s.oauth(w, r)
			return
		}
		s.answerDevOps(host, w, r)
	})
}

// downloadHost has the agent's packages: those in the folder packages of the simulator's own.
const downloadHost = "download.agent.dev.azure.com"

func (s *Sim) known(host string) bool {
	name := strings.TrimSuffix(host, ":443")
	if name == tokenHost || name == downloadHost || name == armHost || name == loginHost || s.vault(name) != nil {
		return true
	}
	for _, v := range s.servers {
		if v.host() == name {
			return true
		}
	}
	return false
}

// proxy opens tunnels to the simulated services; to nothing else.
func (s *Sim) proxy(inner *tunnel) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.serve("proxy", "", w, r, func(w http.ResponseWriter, r *http.Request) {
			s.mu.Lock()
			p := s.scenario.Proxy
			s.mu.Unlock()
			if want := "Basic " + base64.StdEncoding.EncodeToString(
				[]byte(p.User+":"+p.Password),
			); p.User != "" &&
				r.Header.Get("Proxy-Authorization") != want {
				w.Header().Set("Proxy-Authenticate", `Basic realm="azp-sim"`)
				http.Error(w, "Proxy Authentication Required", http.StatusProxyAuthRequired)
				return
			}
			if r.Method != http.MethodConnect {
				http.Error(w, "only CONNECT is served here", http.StatusForbidden)
				return
			}
			if !s.known(strings.ToLower(r.Host)) {
				http.Error(w, "the name "+r.Host+" does not resolve", http.StatusServiceUnavailable) // as squid does
				return
			}
			c, buf, err := http.NewResponseController(w).Hijack()
			if err != nil {
				return
			}
			if rec, ok := w.(*recorder); ok {
				rec.status = http.StatusOK
			}
			_, _ = io.WriteString(c, "HTTP/1.1 200 Connection established\r\n\r\n")
			host, _, _ := net.SplitHostPort(r.Host)
			inner.hand(tls.Server(&buffered{c, buf.Reader}, s.tlsConfig(host)))
		})
	})
}

// buffered is a connection some of which was read already.
type buffered struct {
	net.Conn
	r io.Reader
}

func (b *buffered) Read(p []byte) (int, error) { return b.r.Read(p) }

// A tunnel is a listener that is handed its connections.
type tunnel struct {
	conns chan net.Conn
	done  <-chan struct{}
}

func (t *tunnel) hand(c net.Conn) {
	select {
	case t.conns <- c:
	case <-t.done:
		_ = c.Close()
	}
}

func (t *tunnel) Accept() (net.Conn, error) {
	select {
	case c := <-t.conns:
		return c, nil
	case <-t.done:
		return nil, net.ErrClosed
	}
}

func (*tunnel) Close() error   { return nil }
func (*tunnel) Addr() net.Addr { return &net.TCPAddr{} }
