package bootstrap

import (
	"context"
	"sync/atomic"
	"time"
)

const (
	lookAwake = 5 * time.Second // at the clocks
	longNap   = time.Minute     // what is less is no hibernation, nor worth a new look
)

// A rest notices that the machine has slept: hibernation ends with all that runs where it stood, tokens
// in memory included, on a VM of which much may have changed; it may even be another one.
type rest struct {
	slept func() time.Duration // since the boot; as the kernel counts it
	woke  atomic.Bool          // since somebody asked
}

// A resumed is told on the way of a reload: what is under way begins anew.
type resumed struct{}

func (resumed) String() string { return "resumed" }
func (resumed) Signal()        {}

// feel compares clocks until ctx ends. A clock that runs on while the machine sleeps is compared with one that does
// not: the kernel's, or, where that learns nothing of the sleep, the wall's, which somebody sets right.
func (r *rest) feel(ctx context.Context, told func(slept time.Duration)) {
	tick := time.NewTicker(lookAwake)
	defer tick.Stop()
	before, sleptBefore := time.Now(), r.slept()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now, slept := time.Now(), r.slept()
		jump := now.Round(0).Sub(before.Round(0)) - now.Sub(before) // of the wall's clock
		if nap := max(slept-sleptBefore, jump); nap >= longNap {
			r.woke.Store(true)
			told(nap)
		}
		before, sleptBefore = now, slept
	}
}

// feelsRest lets whatever is under way begin anew when the machine has slept; end ends that.
func (p *program) feelsRest(ctx context.Context) (end func()) {
	slept := p.Slept
	if slept == nil {
		slept = sleptSinceBoot
	}
	p.rest.slept = slept
	ctx, end = context.WithCancel(ctx)
	go p.rest.feel(ctx, func(nap time.Duration) {
		p.Log.WithField("slept", nap.Round(time.Second).String()).
			Warn("this VM has slept, as after hibernation: what is held is dropped, and everything is looked at anew")
		select {
		case p.reload <- resumed{}:
		default: // a reload is on its way: it will do
		}
	})
	return end
}

// rested reports whether the machine has slept since this was asked last. Azure is listened to anew then: a
// connection of before may never say a word.
func (p *program) rested() bool {
	if !p.rest.woke.Swap(false) {
		return false
	}
	p.hears.Anew()
	return true
}
