//go:build linux

package bootstrap_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"azp-bootstrap/bootstrap"
	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/secret"
)

var interleavings = flag.Int("interleavings", 25, "sequences of crashes, restarts, clones and terminations")

// A mortal machine can lose its power at each of its effects: before and after every request that reaches
// Azure, and before and after everything that it does to its agent.
type mortal struct {
	*machine
	cutAt   int // the number of the effect; 0 = none
	effects int
	dead    bool
	cancel  context.CancelFunc
	kept    disk
	files   map[string][]byte // of the state folder
	gone    bool              // was terminated
}

var errDead = errors.New("the power is off")

// effect counts; it reports false if there is no power.
func (m *mortal) effect() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dead {
		return false
	}
	if m.effects++; m.effects != m.cutAt {
		return true
	}
	m.dead = true
	m.kept = m.disk
	m.files = map[string][]byte{}
	names, _ := filepath.Glob(filepath.Join(m.state, "*"))
	for _, n := range names {
		m.files[n], _ = os.ReadFile(n)
	}
	m.cancel()
	return false
}

// to does something that has an effect, if there is power before, and says whether there still is after.
func (m *mortal) to(do func() error) error {
	if !m.effect() {
		return errDead
	}
	err := do()
	if !m.effect() {
		return errDead
	}
	return err
}

func (m *mortal) Configure(ctx context.Context, r agent.Registration, pat secret.PAT, redactor *secret.Redactor, line func(string)) (id int, err error) {
	err = m.to(func() error { id, err = m.machine.Configure(ctx, r, pat, redactor, line); return err })
	return id, err
}

func (m *mortal) Start(s agent.Service, ca string) (name string, err error) {
	return "", m.to(func() error { _, err := m.machine.Start(s, ca); return err })
}

func (m *mortal) Remove(service string) error {
	return m.to(func() error { return m.machine.Remove(service) })
}
func (m *mortal) Wipe() error { return m.to(m.machine.Wipe) }

// lives runs do with power until the effect of this number (0 = for good), then puts back what was on the
// disk at that instant.
func (m *mortal) lives(ctx context.Context, cutAt int, do func(ctx context.Context, o bootstrap.Options) error) (cut bool, err error) {
	ctx, m.cancel = context.WithCancel(ctx)
	defer m.cancel()
	m.cutAt, m.effects, m.dead = cutAt, 0, false
	o := m.options(10 * time.Minute)
	o.Agent = m
	err = do(ctx, o)
	if !m.dead {
		return false, err
	}
	m.stop() // with the registration that it runs by, which may be newer than the disk's
	m.disk = m.kept
	names, _ := filepath.Glob(filepath.Join(m.state, "*"))
	for _, n := range names {
		_ = os.Remove(n)
	}
	for n, data := range m.files {
		if err := os.WriteFile(n, data, 0o600); err != nil {
			m.t.Fatal(err)
		}
	}
	m.dead = false
	return true, nil
}

// TestEveryInterleaving plays sequences of boots, restarts, clones, terminations and agents that somebody
// removes, each of them cut off at a random effect or not at all, and looks after each step whether what must
// hold does.
func TestEveryInterleaving(t *testing.T) {
	for n := range few(*interleavings) {
		s := *seed + uint64(n)
		t.Run(fmt.Sprint("seed ", s), func(t *testing.T) {
			t.Parallel()
			dir := quickDir(t)
			synctest.Test(t, func(t *testing.T) { play(t, dir, rand.New(rand.NewPCG(s, 3))) })
		})
	}
}

func play(t *testing.T, dir string, r *rand.Rand) {
	ctx, cancel := context.WithCancel(context.Background())
	defer over(cancel)
	f := newFleet(ctx, t, dir, 3, nil)
	var all []*mortal
	byName := map[string]*mortal{}
	never := r.IntN(2) == 0
	for i := range 3 {
		m := &mortal{machine: f.machine(i)}
		m.never = never
		dial := m.dial
		m.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			if m.dead {
				return nil, errDead
			}
			return dial(ctx, network, address)
		}
		all = append(all, m)
		byName[m.name] = m
	}
	f.front = func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			m := byName[r.RemoteAddr]
			drop := func() {
				if c, _, err := http.NewResponseController(w).Hijack(); err == nil {
					_ = c.Close()
				}
			}
			if !m.effect() {
				drop()
				return
			}
			rec := &recorded{header: http.Header{}, status: http.StatusOK}
			next.ServeHTTP(rec, r)
			if !m.effect() {
				drop()
				return
			}
			for k, v := range rec.header {
				w.Header()[k] = v
			}
			w.WriteHeader(rec.status)
			_, _ = w.Write([]byte(rec.body.String()))
		})
	}
	run := func(ctx context.Context, o bootstrap.Options) error { return bootstrap.Run(ctx, o) }
	leave := func(ctx context.Context, o bootstrap.Options) error {
		_, err := bootstrap.Deregister(ctx, o, bootstrap.Leaving{Now: true})
		return err
	}
	var story []string
	for range 4 + r.IntN(8) {
		m := all[r.IntN(len(all))]
		if m.gone {
			continue
		}
		cutAt := 0
		if r.IntN(3) > 0 {
			cutAt = 1 + r.IntN(45)
		}
		before := f.ofOthers(m.name)
		what := ""
		var cut bool
		var err error
		switch r.IntN(8) {
		case 0, 1, 2:
			what = "boots"
			m.stop()
			if m.disk.service {
				m.start()
			}
			cut, err = m.lives(ctx, cutAt, run)
		case 3:
			what = "its daemon restarts"
			cut, err = m.lives(ctx, cutAt, run)
		case 4:
			what = "the power goes"
			m.stop()
		case 5:
			from := all[r.IntN(len(all))]
			if from == m || from.gone {
				continue
			}
			what = "gets a copy of the disk of " + from.name
			m.stop()
			m.clone(from)
		case 6:
			what = "somebody removes its agent"
			f.azure.Remove(m.agentName())
		case 7:
			what = "is terminated"
			if cut, err = m.lives(ctx, cutAt, leave); err == nil && !cut {
				m.stop()
				m.gone = true
			}
		}
		story = append(story, fmt.Sprintf("%s %s (cut at effect %d: %t): %v", m.name, what, cutAt, cut, err))
		if err != nil {
			t.Errorf("%s", err)
		}
		if err := m.sound(); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Error(err)
		}
		if what != "somebody removes its agent" {
			if after := f.ofOthers(m.name); before != after {
				t.Errorf("what %s did changed the agents of others:\n%s\n%s", m.name, before, after)
			}
		}
		if t.Failed() {
			break
		}
	}
	for _, m := range all {
		if m.gone || t.Failed() {
			continue
		}
		m.stop()
		if m.disk.service {
			m.start()
		}
		if _, err := m.lives(ctx, 0, run); err != nil {
			t.Errorf("at last %s does not join: %s", m.name, err)
		}
	}
	if !t.Failed() {
		for i, m := range all {
			want := 1
			if m.gone {
				want = 0
			}
			if n := f.online(fmt.Sprintf("5c7a1b1e-0000-4d3a-9a00-%012d", i)); n != want {
				t.Errorf("at last %s has %d agents online, not %d", m.name, n, want)
			}
		}
	}
	if t.Failed() {
		t.Logf("%s\nat last: %v", strings.Join(story, "\n"), f.azure.Agents())
		for _, m := range all {
			t.Logf("%s: %+v\n%s", m.name, m.disk, m.said.String())
		}
	}
}

// clone copies a disk.
func (m *mortal) clone(from *mortal) {
	m.disk = from.disk
	_ = os.RemoveAll(m.state)
	if err := os.CopyFS(m.state, os.DirFS(from.state)); err != nil && !errors.Is(err, os.ErrNotExist) {
		m.t.Fatal(err)
	}
}

// agentName is the name under which this VM registers.
func (m *machine) agentName() string {
	if m.called != "" {
		return m.called
	}
	var i int
	_, _ = fmt.Sscanf(m.name, "web_%d", &i)
	return fmt.Sprintf("web-%06d", i)
}

// ofOthers lists the agents of other VMs, with whether they take jobs.
func (f *fleet) ofOthers(vm string) string {
	var i int
	_, _ = fmt.Sscanf(vm, "web_%d", &i)
	var out []string
	for _, a := range f.azure.Agents() {
		if a.InstanceID != fmt.Sprintf("5c7a1b1e-0000-4d3a-9a00-%012d", i) {
			out = append(out, fmt.Sprint(a.Name, " ", a.ID, " ", a.Disabled))
		}
	}
	return strings.Join(out, ", ")
}

func (f *fleet) online(instance string) (n int) {
	for _, a := range f.azure.Agents() {
		if a.InstanceID == instance && a.Status == "online" {
			n++
		}
	}
	return n
}
