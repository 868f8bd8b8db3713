package health

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/journal"
)

// A Server serves health, status and metrics on an address of the configuration.
type Server struct {
	Live    *Live
	Version string

	address string
	grace   atomic.Int64 // a time.Duration: another configuration may change it while somebody asks
	stop    func()
}

// Serve makes the server answer on address ("" = nowhere) until ctx ends or another address is
// asked for. The error is a fault of class network: the VM joins all the same.
func (s *Server) Serve(ctx context.Context, address string, grace time.Duration) error {
	s.grace.Store(int64(grace))
	if s.stop != nil && s.address == address {
		return nil
	}
	if s.stop != nil {
		s.stop()
		s.stop = nil
	}
	if s.address = address; address == "" {
		return nil
	}
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return fault.New(fault.Network, "health cannot be served on %s", address).Because(err).
			Hint("Another program listens there: name another address in health.listen (and in the Application " +
				"Health extension), or \"\" for none.")
	}
	srv := &http.Server{
		Handler:        s.handler(),
		ErrorLog:       log.New(io.Discard, "", 0),
		ReadTimeout:    5 * time.Second,
		WriteTimeout:   10 * time.Second,
		IdleTimeout:    30 * time.Second,
		MaxHeaderBytes: 8 << 10,
	}
	go func() { _ = srv.Serve(crowded(ln)) }()
	unhook := context.AfterFunc(ctx, func() { _ = srv.Close() })
	s.stop = func() {
		unhook()
		_ = srv.Close()
	}
	return nil
}

func (s *Server) handler() http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(&metrics{s.Live, s.Version})
	m := http.NewServeMux()
	m.HandleFunc("GET /healthz", s.healthz)
	m.HandleFunc(
		"GET /status",
		func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, s.Live.State()) },
	)
	m.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	return m
}

// healthz answers both forms of the Application Health extension at once. The binary form takes 200
// for healthy and everything else for unhealthy. The rich form takes any 2xx with a state in the
// body, and everything else for "unknown", which is Initializing until the grace period ends. So:
// 200 Healthy, 202 Unhealthy, 503 while the VM is on its way (docs/decisions/health-codes.md).
func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) {
	v := s.Live.Verdict(time.Duration(s.grace.Load()))
	status := map[Verdict]int{
		Healthy: http.StatusOK, Unhealthy: http.StatusAccepted, Initializing: http.StatusServiceUnavailable,
	}[v]
	state := s.Live.State()
	body := struct {
		State  Verdict        `json:"ApplicationHealthState"`
		Phase  string         `json:"phase"`
		Error  string         `json:"error,omitempty"`
		Paused *journal.Pause `json:"paused,omitempty"`
	}{State: v, Phase: state.Phase, Paused: state.Paused}
	if state.LastError != nil && v != Healthy {
		body.Error = state.LastError.Code
	}
	answer(w, status, body)
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil && !errors.Is(err, http.ErrHandlerTimeout) {
		return // the caller is gone
	}
}
