package fleet

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"azp-bootstrap/bootstrap/devops"
)

var (
	seed  = flag.Uint64("seed", 0, "run only this world; 0 = many")
	cases = flag.Int("cases", 20000, "how many worlds")
)

// A vm of a random world, whose agent stands in the pool.
type vm struct {
	id            string
	born          time.Time
	deleted       time.Time // zero: it exists
	set, grp, sub string
	agent         *devops.Agent // nil: it has not registered yet, or another VM took its agent over
}

func (v *vm) existed(at time.Time) bool {
	return !v.born.After(at) && (v.deleted.IsZero() || v.deleted.After(at))
}

// A world is a pool that several fleets share, up to now.
type world struct {
	*rand.Rand
	vms    []*vm
	agents []*devops.Agent
}

// upTo draws a time span, short ones and long ones alike.
func (w *world) upTo(most time.Duration) time.Duration {
	return time.Duration(w.Float64() * w.Float64() * w.Float64() * float64(most))
}

func pick[T any](w *world, from ...T) T { return from[w.IntN(len(from))] }

func newWorld(r *rand.Rand) *world {
	w := &world{Rand: r}
	alone := w.IntN(3) == 0 // one scale set has the pool for itself
	for range w.IntN(12) {
		v := &vm{id: fmt.Sprintf("vm-%d", len(w.vms)), born: ago(w.upTo(500 * hour))}
		if w.IntN(3) == 0 {
			v.deleted = v.born.Add(w.upTo(now.Sub(v.born)))
		}
		if w.IntN(5) > 0 { // else an earlier version registered it
			v.set, v.grp, v.sub = pick(w, "web", "Web", "db"), pick(w, "shop", "other"), pick(w, "1", "2")
			if alone {
				v.set, v.grp, v.sub = "web", "shop", "1"
			}
		}
		w.vms = append(w.vms, v)
		w.register(v)
	}
	skew := time.Duration(w.IntN(11)-5) * minute // of the server's clock
	for _, a := range w.agents {
		for _, at := range []*time.Time{&a.Since, &a.Created} {
			if !at.IsZero() {
				*at = at.Add(skew)
			}
		}
	}
	for range w.IntN(3) { // others' agents
		w.agents = append(w.agents, &devops.Agent{ID: len(w.agents) + 1, Online: w.IntN(2) == 0,
			Since: ago(w.upTo(500 * hour)), Created: ago(500 * hour)})
	}
	return w
}

// register lets a VM join, or not yet: with an agent of its own, or by taking over one that is
// offline.
func (w *world) register(v *vm) {
	end := now
	if !v.deleted.IsZero() {
		end = v.deleted
	}
	at := v.born.Add(w.upTo(min(hour, end.Sub(v.born)))) // a boot that takes an hour is a long one
	if w.IntN(10) == 0 {
		return // it died, or has not come so far
	}
	a := &devops.Agent{ID: len(w.agents) + 1, Since: at, Created: at}
	if before := w.leftBehind(at); before != nil && w.IntN(2) == 0 {
		a = before.agent // with its ID, and with its createdOn and statusChangedOn
		before.agent = nil
		a.Created = at.Add(time.Duration(w.IntN(41)-20) * minute) // by the VM's clock
	} else {
		w.agents = append(w.agents, a)
		if w.IntN(4) == 0 {
			a.Since = time.Time{} // until its status changes for the first time
		}
	}
	a.Name, a.InstanceID, a.ScaleSet, a.ResourceGroup, a.SubscriptionID = v.id, v.id, v.set, v.grp, v.sub
	a.Online, a.Offline = false, true
	v.agent = a
	switch w.IntN(4) {
	case 0: // config.sh is done, the first session is to come
	case 1: // online
		if v.deleted.IsZero() {
			a.Online, a.Offline, a.Since = true, false, at.Add(w.upTo(now.Sub(at)))
			break
		}
		a.Since = v.deleted
	case 2: // it reboots
		a.Since = end.Add(-min(w.upTo(10*minute), end.Sub(at)))
	case 3: // it is off, or was when it was deleted
		a.Since = at.Add(w.upTo(end.Sub(at)))
	}
	if w.IntN(20) == 0 {
		a.Created = time.Time{} // a server that does not tell
	}
}

// leftBehind finds a deleted VM whose agent may be taken over at a time.
func (w *world) leftBehind(at time.Time) *vm {
	for _, v := range w.vms {
		a := v.agent
		if a != nil && !v.deleted.IsZero() && v.deleted.Before(at) && a.Since.Before(at) && a.Created.Before(at) {
			return v
		}
	}
	return nil
}

// trueList lists all VMs within the scope that existed when it was made, and perhaps more.
func (w *world) trueList(s Scope) *List {
	l := &List{ago(pick(w, 0, w.upTo(minute), w.upTo(100*hour))), map[string]bool{"elsewhere": true}}
	for _, v := range w.vms {
		covered := s.covers(&devops.Agent{ScaleSet: v.set, ResourceGroup: v.grp, SubscriptionID: v.sub})
		if v.existed(l.made) && (covered || w.IntN(2) == 0) {
			l.vms[v.id] = true
		}
	}
	return l
}

func (w *world) policy() Policy {
	p := Policy{}
	if w.IntN(2) == 0 {
		p.OlderThan = aged(pick(w, 0, w.upTo(hour), w.upTo(100*hour)))
	}
	if w.IntN(2) == 0 {
		p.Scope = Scope{pick(w, "web", "DB", ""), pick(w, "", "shop"), pick(w, "", "1")}
	}
	return p
}

// alive finds the VM of an agent that exists.
func (w *world) alive(a *devops.Agent) bool {
	for _, v := range w.vms {
		if v.agent == a && v.deleted.IsZero() {
			return true
		}
	}
	return false
}

func (w *world) tell(l *List, p Policy) string {
	var s strings.Builder
	age := "its own"
	if p.OlderThan != nil {
		age = p.OlderThan.String()
	}
	fmt.Fprintf(&s, "older than %s, scope %+v\n", age, p.Scope)
	if l != nil {
		fmt.Fprintf(&s, "list of %s ago: %v\n", now.Sub(l.made), l.vms)
	}
	for _, v := range w.vms {
		fmt.Fprintf(
			&s,
			"%s born %s ago, deleted %v, %s/%s/%s",
			v.id,
			now.Sub(v.born),
			!v.deleted.IsZero(),
			v.sub,
			v.grp,
			v.set,
		)
		if a := v.agent; a != nil {
			fmt.Fprintf(&s, ": agent %d made %s ago, online %v since %s",
				a.ID, now.Sub(a.Created), a.Online, now.Sub(a.Since))
		}
		fmt.Fprintln(&s)
	}
	return s.String()
}

func worlds(t *testing.T, each func(t *testing.T, w *world)) {
	first, n := uint64(time.Now().UnixNano()), *cases
	if *seed != 0 {
		first, n = *seed, 1
	}
	if testing.Short() {
		n = min(n, 2000)
	}
	t.Logf("%d worlds from seed %d", n, first)
	for i := range uint64(n) {
		if each(t, newWorld(rand.New(rand.NewPCG(first+i, 0)))); t.Failed() { //nolint:gosec // a test's world
			t.Fatalf("again: go test ./bootstrap/fleet -run '%s' -seed %d", t.Name(), first+i)
		}
	}
}

// No input of list, ages and policy makes a sweep remove an agent whose VM exists and whose owner
// gave a true list.
func TestNoLivingVMsAgentIsRemovedByATrueList(t *testing.T) {
	doomed, refused := 0, 0
	worlds(t, func(t *testing.T, w *world) {
		p := w.policy()
		l := w.trueList(p.Scope)
		verdicts, err := Plan(w.agents, l, p, now)
		if err != nil {
			refused++
		}
		for i, v := range verdicts {
			if v.Fate != Doomed {
				continue
			}
			doomed++
			if w.alive(w.agents[i]) || w.agents[i].InstanceID == "" {
				t.Errorf("%s would be removed (%s)\n%s", v.Agent, v.Why, w.tell(l, p))
			}
		}
		w.carried(t, verdicts, l, p)
	})
	t.Logf("%d doomed, %d lists refused", doomed, refused)
	if *seed == 0 && doomed == 0 {
		t.Error("nothing was ever removed: the worlds say nothing")
	}
}

// A list of a foreign subscription, whatever the ages: nothing that exists is removed. It is told
// by what agents tell of their VM, or by naming none at all.
func TestNoLivingVMsAgentIsRemovedByAForeignList(t *testing.T) {
	worlds(t, func(t *testing.T, w *world) {
		p := w.policy()
		l := &List{ago(w.upTo(100 * hour)), map[string]bool{"elsewhere": true}}
		theirs := w.IntN(2) == 0 // the subscription's own fleet may be in this pool, too
		for _, v := range w.vms {
			if theirs && v.sub == "2" && v.existed(l.made) {
				l.vms[v.id] = true
			}
		}
		verdicts, _ := Plan(w.agents, l, p, now)
		for i, v := range verdicts {
			if v.Fate == Doomed && w.alive(w.agents[i]) {
				t.Errorf("%s would be removed (%s)\n%s", v.Agent, v.Why, w.tell(l, p))
			}
		}
	})
}

// carried lets the world go on while the plan is carried out: nothing that came back meanwhile is
// removed.
func (w *world) carried(t *testing.T, verdicts []Verdict, l *List, p Policy) {
	pool := &fakePool{there: map[int]*devops.Agent{}}
	back := map[int]bool{}
	for _, a := range w.agents {
		is := *a
		switch w.IntN(8) {
		case 0: // its VM came back
			is.Online, is.Offline, is.Since = true, false, now.Add(time.Second)
			back[a.ID] = true
		case 1: // it came back, and went again
			is.Since = now.Add(time.Minute)
			back[a.ID] = true
		case 2: // a new VM takes it over
			is.InstanceID, is.Created = "new", now.Add(time.Second)
			back[a.ID] = true
		case 3: // its VM was reimaged without a new ID, and registers again
			is.Created = now.Add(time.Second)
			back[a.ID] = true
		case 4: // somebody removed it, and another of its name is there
			is.ID += 1000
		}
		pool.there[is.ID] = &is
	}
	if err := Carry(context.Background(), pool, verdicts, func(int, int) {}); err != nil {
		t.Error(err)
	}
	for _, id := range pool.deleted {
		if back[id] || id > 1000 {
			t.Errorf("agent %d was removed though it came back\n%s", id, w.tell(l, p))
		}
	}
}
