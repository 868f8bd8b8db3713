package retry

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"azp-bootstrap/bootstrap/fault"
)

// pauses are those between tries that all fail with the same, until there were so many or the time is over.
func pauses(t *testing.T, f *fault.Error, most int) (all []time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 24*time.Hour)
	defer cancel()
	_ = Do(ctx, func() error {
		if len(all) == most {
			return fault.New(fault.Internal, "enough")
		}
		return f
	}, func(w Wait) { all = append(all, w.Pause) })
	return all
}

// Who asks to be left alone is, and thousands that were told the same do not come back in one
// instant. Looks of our own come when they should.
func TestTheServersWishIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const wish = 10 * time.Second
		late := 0
		for _, p := range pauses(t, fault.New(fault.Network, "busy").Passing().Retry(wish), 100) {
			if p < wish || p > wish+wish/10+1 {
				t.Errorf("asked again after %s", p)
			}
			if p > wish+wish/50 {
				late++
			}
		}
		if late < 30 {
			t.Errorf("only %d of 100 came later than they were told", late)
		}
		for _, p := range pauses(t, fault.New(fault.Service, "not yet").Passing().Retry(time.Second), 10) {
			if p != time.Second {
				t.Errorf("looked again after %s", p)
			}
		}
	})
}

// Each wait is drawn between nothing and twice the interval, which grows to 20 s.
func TestPausesStayShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := pauses(t, fault.New(fault.Network, "away").Passing(), 200)
		longest := time.Duration(0)
		for n, p := range all {
			if longest = max(longest, p); p > 40*time.Second || n == 0 && p > 500*time.Millisecond {
				t.Errorf("pause %d: %s", n, p)
			}
		}
		if len(all) != 200 || longest < 30*time.Second {
			t.Errorf("%d pauses, the longest %s", len(all), longest)
		}
	})
}

func TestWhatLastsEndsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		err := Do(t.Context(), func() error {
			if tries++; tries > 3 {
				return nil
			}
			return fault.New(fault.PAT, "revoked")
		}, func(Wait) {})
		if tries != 1 || fault.From(err).Class != fault.PAT {
			t.Errorf("%d tries: %v", tries, err)
		}
	})
}

// At the deadline the last fault says why, not the clock.
func TestTheDeadlineTellsTheLastFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, ErrDeadline)
		defer cancel()
		begin := time.Now()
		err := Do(ctx, func() error { return fault.New(fault.Vault, "throttled").Passing() }, func(Wait) {})
		if took := time.Since(begin); took > time.Minute || fault.From(err).Class != fault.Vault ||
			!strings.Contains(err.Error(), "gave up at the deadline: throttled") {
			t.Errorf("after %s: %v", took, err)
		}
	})
}

// A daemon whose boot failed tries again for as long as the VM lives: soon at first, and never after hours only.
func TestSlowly(t *testing.T) {
	s := Slowly()
	for n := range 50 {
		p := s.NextBackOff()
		if p < 40*time.Second || p > 20*time.Minute || n == 0 && p > 2*time.Minute || n > 20 && p < 10*time.Minute {
			t.Errorf("pause %d: %s", n, p)
		}
	}
}
