package fleet

import (
	"context"
	"errors"
	"time"

	"azp-bootstrap/bootstrap/devops"
	"azp-bootstrap/bootstrap/fault"
)

// A Pool is where the agents are.
type Pool interface {
	// ByID asks for an agent; devops.ErrGone if the server says that it is not there.
	ByID(ctx context.Context, id int) (*devops.Agent, error)
	Delete(ctx context.Context, a *devops.Agent) error
}

// Carry removes the agents that a plan dooms, each after a second look, and writes into the
// verdicts what became of them. Each is tried once: what one fails by is in its verdict, and the
// others go on. The error says that the time is over; what was not reached stays Doomed.
func Carry(ctx context.Context, p Pool, verdicts []Verdict, shown func(done, of int)) error {
	var doomed []*Verdict
	for i := range verdicts {
		if verdicts[i].Fate == Doomed {
			doomed = append(doomed, &verdicts[i])
		}
	}
	for n, v := range doomed {
		shown(n, len(doomed))
		if ctx.Err() != nil {
			return notReached(ctx, doomed[n:])
		}
		err := remove(ctx, p, v)
		if err == nil {
			continue
		}
		if ctx.Err() != nil { // cut off in the middle: whether it was removed is not known
			v.Fate, v.Why = Refused, err.Error()
			return notReached(ctx, doomed[n+1:])
		}
		f := fault.From(err)
		v.Fate, v.Why, v.Class, v.Hint = Refused, f.Error(), f.Class.Code, f.Advice
		if f.Class == fault.Network { // the server asks to be left alone
			pause(ctx, f.After)
		}
	}
	shown(len(doomed), len(doomed))
	return nil
}

// remove removes an agent that a second look finds as the plan saw it.
func remove(ctx context.Context, p Pool, v *Verdict) error {
	there, err := p.ByID(ctx, v.ID)
	if errors.Is(err, devops.ErrGone) {
		v.Fate, v.Why = Kept, "gone by itself meanwhile"
		return nil
	}
	if err != nil {
		return err
	}
	if !unchanged(v.seen, there) {
		v.Fate, v.Why = Kept, "it changed meanwhile: its VM may be back, or another VM took it over"
		return nil
	}
	if err := p.Delete(ctx, there); err != nil {
		return err
	}
	v.Fate = Gone
	return nil
}

func unchanged(was, is *devops.Agent) bool {
	same := is.ID == was.ID && is.InstanceID == was.InstanceID
	return same && is.Offline && is.Since.Equal(was.Since) && is.Created.Equal(was.Created)
}

func notReached(ctx context.Context, rest []*Verdict) error {
	for _, v := range rest {
		v.Why = "not tried: the time was over"
	}
	if errors.Is(context.Cause(ctx), context.Canceled) {
		return context.Canceled
	}
	return fault.New(fault.Network, "the time was over with %d agents left", len(rest)).Because(context.Cause(ctx)).
		Hint("Run sweep again: it goes on. A larger deadline lets it work for longer.")
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
