//go:build linux

package bootstrap_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"azp-bootstrap/bootstrap"
	"azp-bootstrap/bootstrap/member"
	"azp-bootstrap/bootstrap/sim"
)

// A fleet is a simulated Azure and VMs of it in one process, in memory. In a testing/synctest
// bubble its time is virtual. The whole of the product runs, but for Microsoft's agent: that lives
// in memory too.
type fleet struct {
	t     testing.TB
	dir   string
	azure *sim.Sim
	net   *sim.Memory
	pat   string

	mu     sync.Mutex
	before func(http.Handler) http.Handler
	astray []string // credentials that went where they must not
}

func TestMain(m *testing.M) {
	// The signal package's own goroutine, which Run wants, must not belong to a bubble.
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGURG)
	signal.Stop(c)
	code := m.Run()
	for _, do := range atEnd {
		do()
	}
	os.Exit(code)
}

var atEnd []func()

// over ends a bubble: connections that are being made have their limits, which pass in no time.
func over(cancel func()) {
	cancel()
	time.Sleep(2 * time.Minute)
	synctest.Wait()
}

// few is a part of n where tests must be short.
func few(n int) int {
	if testing.Short() {
		return max(1, n/8)
	}
	return n
}

// quickDir is a temporary folder, in memory where the system has such a file system: what a boot
// writes, it syncs.
func quickDir(t testing.TB) string {
	dir, err := os.MkdirTemp("/dev/shm", "azp-fleet-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// newFleet makes an Azure with n VMs, which ends with ctx.
func newFleet(ctx context.Context, t testing.TB, dir string, n int, more func(*sim.Scenario)) *fleet {
	t.Helper()
	s, err := sim.Load("")
	if err != nil {
		t.Fatal(err)
	}
	severalVMs(s, n)
	if more != nil {
		more(s)
	}
	f := &fleet{t: t, dir: dir, pat: s.PATs[0].Value}
	if f.azure, err = sim.New(s, dir); err != nil {
		t.Fatal(err)
	}
	f.net = f.azure.Memory(ctx, f.watched)
	return f
}

// severalVMs makes n of the scenario's one.
func severalVMs(s *sim.Scenario, n int) {
	one := s.VMs[0]
	s.VMs = nil
	for i := range n {
		v := one
		v.ID = fmt.Sprintf("5c7a1b1e-0000-4d3a-9a00-%012d", i)
		v.Name, v.ComputerName = fmt.Sprintf("web_%d", i), fmt.Sprintf("web-%06d", i)
		s.VMs = append(s.VMs, v)
	}
}

// watched sees every request: the managed identity's token may go to the vault alone, the PAT to
// Azure DevOps alone.
func (f *fleet) watched(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if a := r.Header.Get("Authorization"); a != "" {
			kind, _, _ := strings.Cut(a, " ")
			host := strings.TrimSuffix(r.Host, ":443")
			if want := map[string]string{"contoso.vault.azure.net": "Bearer", "dev.azure.com": "Basic",
				"management.azure.com": "Bearer"}[host]; kind != want {
				f.mu.Lock()
				f.astray = append(f.astray, kind+" to "+r.Host)
				f.mu.Unlock()
			}
		}
		f.mu.Lock()
		before := f.before
		f.mu.Unlock()
		if before == nil {
			before = func(h http.Handler) http.Handler { return h }
		}
		before(h).ServeHTTP(w, r)
	})
}

// front stands before every service from now on; nil takes it away.
func (f *fleet) front(before func(http.Handler) http.Handler) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.before = before
}

// ofInstances counts the agents on the servers by the VM that they belong to.
func (f *fleet) ofInstances() map[string]int {
	n := map[string]int{}
	for _, a := range f.azure.Agents() {
		n[a.InstanceID]++
	}
	return n
}

// sound is what holds after anything: one agent of a VM at most, no secret where none may be, a
// state that can be read.
func (m *machine) sound() error {
	for id, n := range m.ofInstances() {
		if n > 1 {
			return fmt.Errorf("%d agents of VM %s", n, id)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.astray) > 0 {
		return fmt.Errorf("a credential went astray: %v", m.astray)
	}
	forms := []string{m.pat, base64.StdEncoding.EncodeToString([]byte(":" + m.pat)), "eyJ0eXAiOi"}
	leaks := func(where, text string) error {
		for _, form := range forms {
			if strings.Contains(text, form) {
				return fmt.Errorf("a secret is in %s", where)
			}
		}
		return nil
	}
	if err := leaks("the log", m.said.String()); err != nil {
		return err
	}
	if strings.Contains(m.said.String(), "goroutine ") {
		return errors.New("it panicked")
	}
	files, err := filepath.Glob(filepath.Join(m.state, "*"))
	if err != nil {
		return err
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if err := leaks(file, string(data)); err != nil {
			return err
		}
	}
	_, damaged, err := bootstrap.Status(
		member.Means{ConfigFile: filepath.Join(m.dir, "config-"+m.name+".yaml"), StateDir: m.state},
	)
	return errors.Join(damaged, err)
}
