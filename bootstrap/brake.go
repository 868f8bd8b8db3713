package bootstrap

import (
	"context"
	"os"
	"time"

	"github.com/cenkalti/backoff/v5"

	"azp-bootstrap/bootstrap/leave"
)

// A brake slows down bringing up an agent that falls over and over: the first time it is brought up
// at once, then after a minute, later after up to 15. One that stood for long is new to it.
type brake struct {
	backoff   *backoff.ExponentialBackOff
	notBefore time.Time
}

const stoodLong = 15 * time.Minute

func (f *brake) watched(watch func(notBefore time.Time) (fell bool, n *leave.Notice)) *leave.Notice {
	begun := time.Now()
	fell, n := watch(f.notBefore)
	if time.Since(begun) > stoodLong {
		f.backoff.Reset()
	}
	if fell {
		f.notBefore = time.Now().Add(f.backoff.NextBackOff())
	}
	return n
}

// pauseOr waits until the time is over, ctx ends or a signal or a notice comes, which it returns.
func pauseOr(ctx context.Context, d time.Duration, signals <-chan os.Signal, heard <-chan leave.Notice) *leave.Notice {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	select {
	case <-ctx.Done():
	case <-signals:
	case n := <-heard:
		return &n
	}
	return nil
}
