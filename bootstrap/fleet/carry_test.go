package fleet

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"azp-bootstrap/bootstrap/devops"
	"azp-bootstrap/bootstrap/fault"
)

// A fakePool answers as the server does.
type fakePool struct {
	there   map[int]*devops.Agent
	asked   []int
	deleted []int
	fails   map[int]error // to delete
	hidden  error         // in place of each answer about one agent
	onAsk   func()
}

func (p *fakePool) ByID(_ context.Context, id int) (*devops.Agent, error) {
	p.asked = append(p.asked, id)
	if p.onAsk != nil {
		p.onAsk()
	}
	if p.hidden != nil {
		return nil, p.hidden
	}
	if a := p.there[id]; a != nil {
		return a, nil
	}
	return nil, fault.New(fault.Service, "no agent").Because(devops.ErrGone)
}

func (p *fakePool) Delete(_ context.Context, a *devops.Agent) error {
	if err := p.fails[a.ID]; err != nil {
		return err
	}
	p.deleted = append(p.deleted, a.ID)
	return nil
}

// doomed plans agents that all are to be removed.
func doomed(t *testing.T, n int) (*fakePool, []Verdict) {
	p := &fakePool{there: map[int]*devops.Agent{}, fails: map[int]error{}}
	agents := make([]*devops.Agent, n)
	for i := range n {
		agents[i] = old("gone", func(a *devops.Agent) { a.ID = i + 1 })
		is := *agents[i]
		p.there[is.ID] = &is
	}
	verdicts, err := Plan(agents, nil, Policy{}, now)
	if err != nil || verdicts[0].Fate != Doomed {
		t.Fatalf("%+v, %v", verdicts, err)
	}
	return p, verdicts
}

func quietly(int, int) {}

func TestTheSecondLookSparesWhatChanged(t *testing.T) {
	for name, c := range map[string]struct {
		change func(p *fakePool)
		fate   string
	}{
		"unchanged":            {func(*fakePool) {}, Gone},
		"online":               {func(p *fakePool) { p.there[1].Online, p.there[1].Offline = true, false }, Kept},
		"of unknown status":    {func(p *fakePool) { p.there[1].Offline = false }, Kept},
		"was online meanwhile": {func(p *fakePool) { p.there[1].Since = now }, Kept},
		"another VM's":         {func(p *fakePool) { p.there[1].InstanceID = "new" }, Kept},
		"nobody's":             {func(p *fakePool) { p.there[1].InstanceID = "" }, Kept},
		"registered anew":      {func(p *fakePool) { p.there[1].Created = now }, Kept},
		"gone":                 {func(p *fakePool) { delete(p.there, 1) }, Kept},
		"another of its name":  {func(p *fakePool) { p.there[9] = p.there[1]; delete(p.there, 1) }, Kept},
		"an answer of another": {func(p *fakePool) { p.there[1].ID = 9 }, Kept},
		"not to be seen":       {func(p *fakePool) { p.hidden = fault.New(fault.Scope, "no").Hint("Give it.") }, Refused},
	} {
		p, verdicts := doomed(t, 1)
		c.change(p)
		if err := Carry(t.Context(), p, verdicts, quietly); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if v := verdicts[0]; v.Fate != c.fate || (len(p.deleted) > 0) != (c.fate == Gone) || v.Why == "" {
			t.Errorf("%s: %s (%s), deleted %v", name, v.Fate, v.Why, p.deleted)
		}
		if !slices.Equal(p.asked, []int{1}) {
			t.Errorf("%s: asked for %v", name, p.asked)
		}
	}
}

// One dead agent whose job the server still holds is one line; the others go on, and at once.
func TestEachAgentIsTriedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, verdicts := doomed(t, 3)
		p.fails[1] = fault.New(fault.Service, "the agent still runs a job").Passing().Retry(time.Second).Hint("Wait.")
		p.fails[2] = errors.New("nobody classified it")
		begun, steps := time.Now(), 0
		if err := Carry(t.Context(), p, verdicts, func(done, of int) { steps += of }); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begun); took > time.Second || steps != 4*3 {
			t.Errorf("it took %s; progress: %d", took, steps)
		}
		v := verdicts[0]
		if v.Fate != Refused || v.Class != "service" || !strings.Contains(v.Why, "runs a job") || v.Hint != "Wait." {
			t.Errorf("%+v", v)
		}
		if verdicts[1].Class != "internal" || verdicts[2].Fate != Gone || !slices.Equal(p.asked, []int{1, 2, 3}) {
			t.Errorf("%+v, asked %v", verdicts[1:], p.asked)
		}
	})
}

// A server that asks to be left alone is, before the next agent is tried.
func TestTheServersWishIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, verdicts := doomed(t, 2)
		p.fails[1] = fault.New(fault.Network, "busy").Passing().Retry(40 * time.Second)
		begun := time.Now()
		if err := Carry(t.Context(), p, verdicts, quietly); err != nil || time.Since(begun) != 40*time.Second {
			t.Errorf("%s, %v", time.Since(begun), err)
		}
		if verdicts[0].Fate != Refused || verdicts[1].Fate != Gone {
			t.Errorf("%+v", verdicts)
		}
	})
}

func TestWhatIsNotReachedIsSaid(t *testing.T) {
	for name, cause := range map[string]error{"interrupted": nil, "deadline": errors.New("the deadline has passed")} {
		p, verdicts := doomed(t, 3)
		ctx, cancel := context.WithCancelCause(t.Context())
		p.onAsk = func() {
			if len(p.asked) == 2 {
				cancel(cause)
				p.hidden = ctx.Err()
			}
		}
		err := Carry(ctx, p, verdicts, quietly)
		if f := fault.From(
			err,
		); cause != nil && (f.Class != fault.Network || f.Advice == "") ||
			cause == nil && err != context.Canceled {
			t.Errorf("%s: %v", name, err)
		}
		if verdicts[0].Fate != Gone || verdicts[1].Fate != Refused || verdicts[2].Fate != Doomed ||
			!strings.Contains(verdicts[2].Why, "not tried") {
			t.Errorf("%s: %+v", name, verdicts)
		}
		if len(p.asked) != 2 {
			t.Errorf("%s: asked %v", name, p.asked)
		}
	}
}
