//go:build linux

package bootstrap_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"azp-bootstrap/bootstrap"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/journal"
	"azp-bootstrap/bootstrap/sim"
)

var (
	cutStep = flag.Int("cuts", 1, "the power goes at each so-many-th effect of a VM that leaves by itself")
	allCuts = flag.Bool("allcuts", false, "also of VMs that run more than one job")
)

// lose are these VMs as ones that can lose their power at each of their effects. Azure may be asked to take one only when
// it has a reason to go by its retirement, and its agent is gone.
func lose(t *testing.T, all []*machine, as func(*mortal) retirement) (mortals []*mortal) {
	byName := map[string]*mortal{}
	for _, m := range all {
		one := &mortal{machine: m}
		dial := m.dial
		m.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			if !one.powered() {
				return nil, errDead
			}
			return dial(ctx, network, address)
		}
		byName[m.name] = one
		mortals = append(mortals, one)
	}
	all[0].front(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			one := byName[r.RemoteAddr]
			drop := func() {
				if c, _, err := http.NewResponseController(w).Hijack(); err == nil {
					_ = c.Close()
				}
			}
			if !one.effect() {
				drop()
				return
			}
			if strings.HasPrefix(r.Host, "management.azure.com") && r.Method == http.MethodDelete {
				if n, why := one.ofInstances()[one.instance()], as(one).mayGo(one); n != 0 || why != "" {
					t.Errorf("%s is to go: %d agents, and %s", one.name, n, why)
				}
			}
			rec := &recorded{header: http.Header{}, status: http.StatusOK}
			next.ServeHTTP(rec, r)
			if !one.effect() {
				drop()
				return
			}
			maps.Copy(w.Header(), rec.header)
			w.WriteHeader(rec.status)
			_, _ = w.Write([]byte(rec.body.String()))
		})
	})
	return mortals
}

// goesAway reports whether Azure was asked to take this VM.
func (m *machine) goesAway() bool {
	return slices.ContainsFunc(m.azure.Fates(), func(f sim.Fate) bool { return f.VM == m.name })
}

// untilItGoes is a daemon until Azure was asked to take its VM, or for so long.
func untilItGoes(m *mortal, limit time.Duration) func(ctx context.Context, o bootstrap.Options) error {
	return func(ctx context.Context, o bootstrap.Options) error {
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		o.Once, o.Set = false, []string{"health.listen="}
		go func() {
			for ctx.Err() == nil {
				time.Sleep(time.Second)
				if m.goesAway() {
					time.Sleep(5 * time.Second)
					cancel()
				}
			}
		}()
		_ = bootstrap.Run(ctx, o) // it ends with ctx
		return nil
	}
}

// A retirement is how VMs leave by themselves.
type retirement struct {
	name, retire string
	target       string    // "" = a pool; environment, group
	jobs         []float64 // seconds of those that wait from the start
	// mayGo says why a VM must not go now; "" if it may.
	mayGo func(m *mortal) string
}

func retirements() []retirement {
	age := func(m *mortal) string {
		if is := time.Since(m.journal().StartedAt); is < 9*time.Minute {
			return "it is " + is.String() + " old"
		}
		return ""
	}
	return []retirement{
		{name: "one job", retire: "{jobs: 1, then: delete}", jobs: []float64{20, 20}, mayGo: func(m *mortal) string {
			if n := len(m.jobsBegun()); n != 1 {
				return fmt.Sprintf("it has begun %d jobs", n)
			}
			return ""
		}},
		{name: "two jobs", retire: "{jobs: 2, then: delete}", jobs: []float64{20, 20, 20, 20}, mayGo: func(m *mortal) string {
			if n := len(m.jobsBegun()); n < 2 {
				return fmt.Sprintf("it has begun %d jobs", n)
			}
			return ""
		}},
		{name: "idle", retire: "{idle: 5m, then: delete}", jobs: []float64{20}, mayGo: func(m *mortal) string {
			for _, j := range m.azure.Jobs() {
				if j.Agent == m.agentName() && j.Result == "succeeded" && time.Since(j.Finished) < 5*time.Minute {
					return fmt.Sprintf("it had the job %+v", j)
				}
			}
			return ""
		}},
		{name: "idle and keep", retire: "{idle: 5m, keep: 1, then: delete}", mayGo: func(m *mortal) string {
			for _, a := range m.azure.Agents() {
				if a.InstanceID != m.instance() && a.Status == "online" && !a.Disabled {
					return ""
				}
			}
			return "no agent would stay online"
		}},
		{name: "age", retire: "{age: 10m, then: delete}", jobs: []float64{20, 600}, mayGo: age},
		{name: "age in an environment", retire: "{age: 10m, then: delete}", target: "environment", mayGo: age},
		{name: "age in a deployment group", retire: "{age: 10m, then: delete}", target: "group", mayGo: age},
	}
}

// of makes m such a VM.
func (c retirement) of(m *machine) {
	m.retire = c.retire
	if c.target != "" {
		m.pool, m.serves, m.group, m.registration = "", false, c.target == "group", "rest" // config.sh's stand-in knows no groups
	}
}

// The power goes at each effect of a VM that leaves by itself, from its first boot to its end, and comes back: no job is cut by
// the product, at most the one job is begun, the VM has its reason, no agent stays, and Azure takes the VM when its agent is
// gone, and not before.
func TestPowerCutsInALifeThatEndsByItself(t *testing.T) {
	for i, c := range retirements() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			step := *cutStep
			if i > 0 && step == 1 && !*allCuts || testing.Short() { // the one job has always each of its effects
				step = 13
			}
			if i > 0 && testing.Short() {
				step = 61
			}
			for at, over := 1+i%step, false; !over && !t.Failed(); at += step {
				over = !c.cut(t, at)
			}
		})
	}
}

// cut lets the power go at one effect; it reports whether there is such an effect.
func (c retirement) cut(t *testing.T, at int) (is bool) {
	t.Run(fmt.Sprint("effect ", at), func(t *testing.T) {
		retires(t, 2, c.retire, nil, func(ctx context.Context, t *testing.T, all []*machine) {
			other := all[1]
			other.retire, other.serves = "", false
			joins(ctx, t, other)
			c.of(all[0])
			m := lose(t, all, func(*mortal) retirement { return c })[0]
			for _, takes := range c.jobs {
				m.azure.Queue("", "Default", "waits", "", takes)
			}
			var err error
			if is, err = m.lives(ctx, at, untilItGoes(m, 40*time.Minute)); is {
				m.off()
				time.Sleep(20 * time.Second)
				_, err = m.lives(ctx, 0, untilItGoes(m, 2*time.Hour))
			}
			if err != nil {
				t.Error(err)
			}
			if !m.goesAway() || m.ofInstances()[m.instance()] != 0 || m.journal().Phase != journal.Removed {
				t.Errorf("it ends with fates %v, agents %v, %+v", m.azure.Fates(), m.azure.Agents(), m.journal())
			}
			if enabled, there := other.itsAgent(); !enabled || !there {
				t.Errorf("the other VM's agent: %v", m.azure.Agents())
			}
			if err := m.sound(); err != nil {
				t.Error(err)
			}
			if t.Failed() {
				t.Logf("%v of %+v\n%s", m.jobsBegun(), m.azure.Jobs(), m.said.String())
			}
		})
	})
	return is
}

// TestEveryInterleavingOfRetirements plays with VMs of one pool that leave by themselves, each in its way (in most of the plays
// after one job each): boots, restarts, jobs, pauses, agents that fall or that somebody disables or enables, notices of an end that
// does not come, each cut off at a random effect or not at all. Of a VM of one job at most one is begun, no job is cut by the
// product, and at last each VM goes that may, with its reason and with no agent left.
func TestEveryInterleavingOfRetirements(t *testing.T) {
	for n := range few(*interleavings) {
		s := *seed + uint64(n)
		t.Run(fmt.Sprint("seed ", s), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(s, 19))
			ways := retirements()[:1]
			if s%5 == 4 {
				ways = slices.DeleteFunc(retirements(), func(c retirement) bool { return c.target != "" })
			}
			retires(t, 3, ways[0].retire, nil, func(ctx context.Context, t *testing.T, all []*machine) {
				var story []string
				way := map[string]retirement{}
				for _, m := range all {
					m.registration = []string{"script", "rest"}[s%2]
					way[m.name] = ways[0]
					if len(ways) > 1 {
						way[m.name] = ways[r.IntN(len(ways))]
					}
					way[m.name].of(m)
				}
				vms := lose(t, all, func(m *mortal) retirement { return way[m.name] })
				defer func() {
					if t.Failed() {
						t.Log(strings.Join(story, "\n"))
						for _, m := range vms {
							t.Logf("%s (%s) began %v: %+v", m.name, m.retire, m.jobsBegun(), m.journal())
						}
					}
				}()
				for range 8 + r.IntN(12) {
					m := vms[r.IntN(len(vms))]
					if m.goesAway() {
						continue
					}
					story = append(story, playRetiring(ctx, t, r, m))
					soundOfRetiring(t, vms)
					if t.Failed() {
						return
					}
				}
				for _, m := range vms {
					m.goesAtLast(ctx, t, way[m.name])
				}
				soundOfRetiring(t, vms)
			})
		})
	}
}

// goesAtLast lets a VM be watched over, undisturbed, until it goes. One that must keep others online may stay, and say so.
func (m *mortal) goesAtLast(ctx context.Context, t *testing.T, way retirement) {
	if _, err := bootstrap.Resume(ctx, m.options(5*time.Minute)); err != nil && fault.From(err).Class != fault.State {
		t.Error(err)
	}
	for _, a := range m.azure.Agents() {
		if a.InstanceID == m.instance() && !m.journal().Shut() {
			m.azure.Enable(a.Name, true) // a person may have disabled it
		}
	}
	for range 9 {
		m.azure.Queue("", "Default", "at last", "", 30)
	}
	if !m.goesAway() {
		_, _ = m.lives(ctx, 0, untilItGoes(m, 3*time.Hour))
	}
	goes := m.goesAway() && m.ofInstances()[m.instance()] == 0
	waits := m.journal().Retire
	if !goes && (!strings.Contains(way.retire, "keep") || waits == nil || waits.Waits == "") {
		t.Errorf("at last %s does not go, or not its agent: %v\n%s", m.name, m.azure.Agents(), m.said.String())
	}
	m.off()
}

// playRetiring is one thing that happens to a VM that leaves by itself, or that it does.
func playRetiring(ctx context.Context, t *testing.T, r *rand.Rand, m *mortal) string {
	cutAt := 0
	if r.IntN(2) > 0 {
		cutAt = 1 + r.IntN(60)
	}
	what, cut, err := "", false, error(nil)
	switch r.IntN(10) {
	case 0, 1, 2:
		what = "boots and is watched over"
		m.off()
		cut, err = m.lives(ctx, cutAt, untilItGoes(m, time.Duration(1+r.IntN(1200))*time.Second))
	case 3, 4:
		what = "a job is queued"
		m.azure.Queue("", "Default", "any", "", float64(r.IntN(600)))
	case 5:
		what = "is paused"
		cut, err = m.lives(ctx, cutAt, func(ctx context.Context, o bootstrap.Options) error {
			_, err := bootstrap.Pause(ctx, o, bootstrap.Pausing{By: "alice"})
			return err
		})
	case 6:
		what = "is resumed"
		cut, err = m.lives(ctx, cutAt, func(ctx context.Context, o bootstrap.Options) error {
			_, err := bootstrap.Resume(ctx, o)
			return err
		})
	case 7:
		on := r.IntN(2) == 0
		what = fmt.Sprint("somebody enables its agent: ", on)
		m.azure.Enable(m.agentName(), on)
	case 8:
		what = "run --once"
		cut, err = m.lives(ctx, cutAt, once)
	case 9:
		what = "Azure takes it away, and does not"
		e := m.azure.Schedule([]string{m.name, "web_9"}, "Terminate", takenIn)
		cut, err = m.lives(ctx, cutAt, untilItGoes(m, 10*time.Minute))
		m.azure.Cancel(e.ID)
	}
	if f := fault.From(err); err != nil && f.Class != fault.State && f.Class != fault.Target {
		t.Error(err)
	}
	return fmt.Sprintf("%s %s (cut at effect %d: %t): %v", m.name, what, cutAt, cut, err)
}

func soundOfRetiring(t *testing.T, vms []*mortal) {
	for _, m := range vms {
		if got := m.jobsBegun(); len(got) > 1 && strings.Contains(m.retire, "jobs: 1") {
			t.Errorf("%s began jobs %v", m.name, got)
		}
		if err := m.sound(); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Error(err)
		}
	}
}
