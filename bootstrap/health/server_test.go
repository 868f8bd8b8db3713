package health

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"azp-bootstrap/bootstrap/journal"
)

func TestVerdict(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLive()
		expect := func(when string, want Verdict) {
			t.Helper()
			if got := l.Verdict(10 * time.Minute); got != want {
				t.Errorf("%s: %s, want %s", when, got, want)
			}
		}
		expect("at the start", Initializing)
		for _, p := range []string{journal.Failed, journal.Removed} {
			l.Set(journal.State{Phase: p})
			expect(p+", the grace is not over", Unhealthy)
		}
		l = NewLive()
		l.Set(journal.State{Phase: journal.Ready})
		expect("ready by an earlier boot's word only", Initializing)
		l.Assert()
		expect("asserted", Healthy)
		l.AgentDown(true)
		expect("the agent does not run", Unhealthy)
		l.AgentDown(false)
		expect("it runs again", Healthy)
		l.Set(journal.State{Phase: journal.Register})
		expect("on its way again", Initializing)
		time.Sleep(11 * time.Minute)
		expect("the grace is over", Unhealthy)
		l.Set(journal.State{Phase: journal.Ready})
		l.Assert()
		expect("joined at last", Healthy)
		l.Set(journal.State{Phase: journal.Ready, Agent: journal.Agent{Full: true}})
		expect("there is no room for jobs", Unhealthy)
		l.Assert()
		expect("an attempt found it so", Unhealthy)
		l.Set(journal.State{Phase: journal.Ready})
		expect("there is room again", Healthy)
		l.Set(journal.State{Phase: journal.Draining})
		expect("its job is waited for", Healthy)
		for _, p := range []string{journal.Failed, journal.Removed, journal.Draining} {
			l.Set(journal.State{Phase: p})
			expect(p, Unhealthy)
		}
		l.Assert()
		expect("a daemon that was started meanwhile waits for the job", Healthy)
		l.Set(journal.State{Phase: journal.Register})
		expect("on its way once more", Unhealthy) // the grace is long over
		l.Assert()
		expect("a job is waited for before the agent is registered anew", Healthy)
		l.Set(journal.State{Phase: journal.Service})
		expect("the job has ended", Unhealthy)
	})
}

func TestHandler(t *testing.T) {
	l := NewLive()
	s := &Server{Live: l, Version: "1"}
	s.grace.Store(int64(time.Hour))
	h := s.handler()
	for _, c := range []struct {
		method, path string
		set          func()
		status       int
		state        string
	}{
		{"GET", "/healthz", func() {}, 503, "Initializing"},
		{"GET", "/healthz", func() { l.Set(sample()); l.Assert() }, 200, "Healthy"},
		{"GET", "/healthz", func() { l.Set(journal.State{Phase: journal.Failed, LastError: &journal.Failure{Code: "pat"}}) }, 202, "Unhealthy"},
		{"POST", "/healthz", func() {}, 405, ""},
		{"GET", "/", func() {}, 404, ""},
		{"GET", "/metrics", func() { l.Set(journal.State{Phases: []journal.Phase{{Name: "x"}, {Name: "x"}}}) }, 200, ""},
	} {
		c.set()
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(c.method, c.path, nil))
		var body struct{ ApplicationHealthState string }
		_ = json.Unmarshal(w.Body.Bytes(), &body)
		if w.Code != c.status || body.ApplicationHealthState != c.state {
			t.Errorf("%s %s: %d %s", c.method, c.path, w.Code, w.Body)
		}
	}
	paused := sample()
	paused.Paused = &journal.Pause{Since: paused.StartedAt, By: "alice", Reason: "patches"}
	l.Set(paused)
	l.Assert()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/healthz", nil))
	want := `{"ApplicationHealthState":"Healthy","phase":"ready","paused":{"since":"2026-11-24T03:00:00Z","by":"alice","reason":"patches"}}`
	if w.Code != http.StatusOK || strings.TrimSpace(w.Body.String()) != want {
		t.Errorf("/healthz of a VM that is paused: %d %s", w.Code, w.Body)
	}
	l.Set(sample())
	w = httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/status", nil))
	var got journal.State
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || got.Agent != sample().Agent {
		t.Errorf("/status: %v %s", err, w.Body)
	}
}

// A thousand callers at once are answered, and one more beside those that open connections, say
// nothing, and come again.
func TestManyAndSlowCallers(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := ln.Addr().String()
	_ = ln.Close()
	s := &Server{Live: NewLive()}
	if err := s.Serve(ctx, address, time.Hour); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	failed := make(chan error, 1000)
	for range 1000 {
		all.Go(func() {
			c := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 30 * time.Second}
			res, err := c.Get("http://" + address + "/healthz")
			if err == nil {
				_ = res.Body.Close()
				if res.StatusCode != http.StatusServiceUnavailable {
					err = fmt.Errorf("answered %s", res.Status)
				}
			}
			if err != nil {
				failed <- err
			}
		})
	}
	all.Wait()
	close(failed)
	if n := len(failed); n > 10 { // where more come at once than there is room for, the oldest makes place
		t.Errorf("%d of 1000 callers failed, one with: %v", n, <-failed)
	}
	for range 2 * maxConnections { // each begins anew as soon as it is cut off
		go func() {
			for ctx.Err() == nil {
				c, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
				if err != nil {
					return
				}
				_, _ = io.WriteString(c, "GET /healthz HTTP/1.1\r\nX: ")
				_, _ = io.Copy(io.Discard, c)
				_ = c.Close()
			}
		}()
	}
	for range 8 {
		c := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
		res, err := c.Get("http://" + address + "/healthz")
		if err != nil {
			t.Fatalf("a probe beside callers that say nothing: %v", err)
		}
		_ = res.Body.Close()
		<-time.After(20 * time.Millisecond)
	}
	// asked for another address, it moves there
	if err := s.Serve(ctx, "", time.Hour); err != nil {
		t.Fatal(err)
	}
	if _, err := http.Get("http://" + address + "/healthz"); err == nil {
		t.Error("it still answers")
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	if err := s.Serve(ctx, taken.Addr().String(), time.Hour); err == nil {
		t.Error("it claims to listen where another does")
	}
}
