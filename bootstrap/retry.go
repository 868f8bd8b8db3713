package bootstrap

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"time"

	"github.com/cenkalti/backoff/v5"

	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/journal"
)

var (
	errDeadline = errors.New("the deadline has passed")
	errNotice   = errors.New("this VM is about to go")
)

// through takes the VM through phases, journalling each. Nothing is recorded of phases that only
// verify: there may be nothing to do.
func (b *Boot) through(ctx context.Context, phases []Phase, verifying bool) error {
	for _, p := range phases {
		b.phase = time.Now()
		if !verifying {
			if err := b.journal.Update(func(s *journal.State) { s.Begin(p.Name) }); err != nil {
				return err
			}
		}
		b.report.PhaseBegun(p.Name)
		var fields map[string]any
		retries := 0
		err := b.retry(ctx, p.Name, func() error {
			f, err := p.Do(ctx, b)
			fields = f
			return err
		}, func(n int) { retries = n })
		took := time.Since(b.phase).Round(time.Millisecond).Seconds() // with the monotonic clock, which survives a jump of the other
		done := journal.Phase{Name: p.Name, Seconds: took, Retries: retries}
		if !verifying {
			err = errors.Join(err, b.journal.Update(func(s *journal.State) { s.End(done) }))
		}
		if err != nil {
			return err
		}
		b.report.PhaseDone(done, fields)
	}
	return nil
}

// retry is the one retry loop of the house. Passing faults are waited out with full jitter (each
// wait is drawn between nothing and twice the interval) or as the server asks; lasting ones end it,
// and so does ctx's deadline, with the class of the last fault.
func (b *Boot) retry(ctx context.Context, phase string, do func() error, counted func(retries int)) error {
	var last *fault.Error
	retries, begun := 0, time.Now()
	wait := backoff.NewExponentialBackOff()
	wait.InitialInterval, wait.Multiplier, wait.MaxInterval, wait.RandomizationFactor = 250*time.Millisecond, 2, 20*time.Second, 1
	options := []backoff.RetryOption{backoff.WithBackOff(wait), backoff.WithMaxElapsedTime(0), backoff.WithNotify(func(_ error, d time.Duration) {
		if last.Subject == ofJob {
			b.report.Live.Assert() // a VM whose job is waited for is not to be replaced
		}
		if d < pollLimit && last.After > 0 && last.Class == fault.Service {
			b.report.Polls(phase, last)
			if phase != journal.Online || time.Since(begun) < pollsUnsaid {
				return
			}
			b.record(last, (*journal.State).Stumble) // status says what is waited for
			return
		}
		if d >= pollLimit && last.After == 0 {
			b.drop() // no secret is kept through a wait, but for a short one and one that a server asks for
		}
		retries++
		counted(retries)
		b.report.Waits(phase, last, retries, d)
		if phase == journal.Waiting { // the state is another run's to write
			return
		}
		if b.state().Phase == journal.Ready && b.agentRuns() { // what is waited for does not touch it
			b.report.Live.Assert()
		}
		b.record(last, (*journal.State).Stumble)
	})}
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

// spread is at least what a server asks for, and up to a tenth more: it tells the same to thousands of VMs, which
// must not all come back in one instant. Azure DevOps may ask for minutes in which a crowd would fetch its PATs over
// and over, three requests each; so the PAT is held until it is asked again, and the vault's token likewise.
func spread(wish time.Duration) time.Duration { return wish + rand.N(wish/10+1) }

// downloadLimit is how long an image build tries to get the agent's package; one try may take as long.
const downloadLimit = 10 * time.Minute

// pollsUnsaid is how long polls go on before status says what is waited for.
const pollsUnsaid = 30 * time.Second

// pollLimit is below what counts as waiting for something that failed.
const pollLimit = 5 * time.Second

// slowly are the pauses between the attempts of a daemon whose boot failed.
func slowly() *backoff.ExponentialBackOff {
	s := backoff.NewExponentialBackOff()
	s.InitialInterval, s.Multiplier, s.MaxInterval, s.RandomizationFactor = time.Minute, 1.5, 15*time.Minute, 0.3
	return s
}

// A brake slows down bringing up an agent that falls over and over: the first time it is brought up at
// once, then after a minute, later after up to 15. One that stood for long is new to it.
type brake struct {
	backoff   *backoff.ExponentialBackOff
	notBefore time.Time
}

const stoodLong = 15 * time.Minute

func (f *brake) watched(watch func(notBefore time.Time) (fell bool, n *notice)) *notice {
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
func pauseOr(ctx context.Context, d time.Duration, signals <-chan os.Signal, heard <-chan notice) *notice {
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

// pause waits; false means that ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
