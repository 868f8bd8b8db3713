//go:build linux

package bootstrap_test

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"azp-bootstrap/bootstrap"
	"azp-bootstrap/bootstrap/journal"
)

// A hibernated is a VM whose kernel counts how long it has slept, beside what it asks.
type hibernated struct {
	*machine
	slept       atomic.Int64
	vault, meta atomic.Int32 // how often they were asked
	stalls      atomic.Bool  // Azure DevOps
}

func (h *hibernated) sleeps(d time.Duration) { h.slept.Add(int64(d)) }

func (h *hibernated) runs(ctx context.Context) (end func()) {
	h.front(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case strings.HasPrefix(r.Host, "contoso.vault"):
				h.vault.Add(1)
			case r.URL.Path == "/metadata/instance":
				h.meta.Add(1)
			case strings.HasPrefix(r.Host, "dev.azure.com") && h.stalls.Load():
				w.Header().Set("Retry-After", "300") // while the PAT is held
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			next.ServeHTTP(w, r)
		})
	})
	o := h.options(2 * time.Hour)
	o.Set, o.Once = []string{"health.listen="}, false
	o.Slept = func() time.Duration { return time.Duration(h.slept.Load()) }
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() { defer close(ended); _ = bootstrap.Run(ctx, o) }()
	return func() { cancel(); <-ended }
}

// After hibernation a VM that is ready asks who it is, and Azure DevOps for its agent, at once; its notices are
// heard on connections of now; a short nap is none.
func TestAReadyVMThatHasSlept(t *testing.T) {
	fewVMs(t, 1, nil, func(ctx context.Context, t *testing.T, all []*machine) {
		h := &hibernated{machine: all[0]}
		end := h.runs(ctx)
		defer func() { end() }()
		time.Sleep(10 * time.Minute)
		meta, vault := h.meta.Load(), h.vault.Load()
		h.sleeps(30 * time.Second)
		time.Sleep(10 * time.Minute)
		if h.meta.Load() != meta || h.vault.Load() != vault || strings.Contains(h.said.String(), "has slept") {
			t.Errorf("a nap: asked %d, %d times", h.meta.Load()-meta, h.vault.Load()-vault)
		}
		h.sleeps(9 * time.Hour)
		time.Sleep(8 * time.Second)
		if h.meta.Load() < meta+2 || h.vault.Load() == vault { // the attempt, and who listens
			t.Errorf("asked %d, %d times", h.meta.Load()-meta, h.vault.Load()-vault)
		}
		if n := strings.Count(h.said.String(), "this VM has slept, as after hibernation"); n != 1 {
			t.Errorf("told %d times", n)
		}
		h.azure.Schedule([]string{h.name}, "Terminate", takenIn)
		time.Sleep(12 * time.Second)
		if len(h.azure.Agents()) != 0 {
			t.Errorf("it did not leave: %v", h.azure.Agents())
		}
	})
}

// What is under way begins anew: the PAT that was held through the sleep is not used after it.
func TestAVMThatSleptOnItsWay(t *testing.T) {
	fewVMs(t, 1, nil, func(ctx context.Context, t *testing.T, all []*machine) {
		h := &hibernated{machine: all[0]}
		h.stalls.Store(true)
		end := h.runs(ctx)
		defer func() { end() }()
		time.Sleep(time.Minute)
		if h.vault.Load() != 1 {
			t.Errorf("the vault was asked %d times", h.vault.Load())
		}
		h.stalls.Store(false)
		h.sleeps(time.Hour)
		time.Sleep(30 * time.Second)
		s, _, err := journal.Read(h.state)
		if err != nil || s.Phase != journal.Ready || h.vault.Load() != 2 {
			t.Errorf("%s, the vault was asked %d times, %v", s.Phase, h.vault.Load(), err)
		}
	})
}
