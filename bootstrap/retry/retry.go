// Package retry waits: the one retry loop of the house, and the pauses that others need.
package retry

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/cenkalti/backoff/v5"

	"azp-bootstrap/bootstrap/fault"
)

// ErrDeadline is the cause of a context whose time is over.
var ErrDeadline = errors.New("the deadline has passed")

// Limit is below what counts as waiting for something that failed.
const Limit = 5 * time.Second

// A Wait is what is told before each pause.
type Wait struct {
	Fault   *fault.Error
	Retries int // of passing faults so far; looks that come again soon by our own wish (Polls) are none
	Pause   time.Duration
	Polls   bool
}

// Do does something until it succeeds. Passing faults are waited out with full jitter (each wait is
// drawn between nothing and twice the interval) or as the server asks; lasting ones end it, and so
// does ctx's deadline, with the class of the last fault. If ctx is cancelled, the error is what
// that made of it.
func Do(ctx context.Context, do func() error, waits func(Wait)) error {
	var last *fault.Error
	retries := 0
	wait := backoff.NewExponentialBackOff()
	wait.InitialInterval, wait.MaxInterval = 250*time.Millisecond, 20*time.Second
	wait.Multiplier, wait.RandomizationFactor = 2, 1
	notify := func(_ error, pause time.Duration) {
		polls := pause < Limit && last.After > 0 && last.Class == fault.Service
		if !polls {
			retries++
		}
		waits(Wait{last, retries, pause, polls})
	}
	options := []backoff.RetryOption{
		backoff.WithBackOff(wait),
		backoff.WithMaxElapsedTime(0),
		backoff.WithNotify(notify),
	}
	if end, ok := ctx.Deadline(); ok {
		options = append(options, backoff.WithMaxElapsedTime(max(time.Until(end), time.Nanosecond)))
	}
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		err := do()
		if err == nil {
			return struct{}{}, nil
		}
		if ctx.Err() == nil || last == nil { // an end of time is no news of its own
			last = fault.From(err)
		}
		if !last.Wait {
			return struct{}{}, backoff.Permanent(err)
		}
		if last.After > 0 {
			after := last.After
			if last.Class != fault.Service { // those are polls of our own
				after = spread(after)
			}
			return struct{}{}, errors.Join(err, &backoff.RetryAfterError{Duration: after})
		}
		return struct{}{}, err
	}, options...)
	if err == nil || errors.Is(ctx.Err(), context.Canceled) || last == nil {
		return err
	}
	if last.Wait {
		gaveUp := *last
		gaveUp.Message = "gave up at the deadline: " + gaveUp.Message
		return &gaveUp
	}
	return last
}

// spread is at least what a server asks for, and up to a tenth more: it tells the same to thousands
// of VMs, which must not all come back in one instant.
func spread(wish time.Duration) time.Duration { return wish + rand.N(wish/10+1) }

// Slowly are the pauses between the attempts of a daemon whose boot failed.
func Slowly() *backoff.ExponentialBackOff {
	s := backoff.NewExponentialBackOff()
	s.InitialInterval, s.Multiplier, s.MaxInterval, s.RandomizationFactor = time.Minute, 1.5, 15*time.Minute, 0.3
	return s
}

// Pause waits; false means that ctx ended first.
func Pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
