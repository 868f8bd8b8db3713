package bootstrap

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/cenkalti/backoff/v5"

	"azp-bootstrap/bootstrap/journal"
	"azp-bootstrap/bootstrap/retry"
)

var (
	errNotice = errors.New("this VM is about to go")
	errReload = errors.New("the configuration has changed")
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

// retry is retry.Do for a phase: what is waited for is told, journalled, and no secret is kept through it.
func (b *Boot) retry(ctx context.Context, phase string, do func() error, counted func(retries int)) error {
	begun := time.Now()
	return retry.Do(ctx, do, func(w retry.Wait) {
		if w.Fault.Subject == ofJob {
			b.report.Live.Assert() // a VM whose job is waited for is not to be replaced
		}
		if w.Polls {
			b.report.Polls(phase, w.Fault)
			if phase == journal.Online && time.Since(begun) >= pollsUnsaid {
				b.record(w.Fault, (*journal.State).Stumble) // status says what is waited for
			}
			return
		}
		// Azure DevOps may ask for minutes in which a crowd would fetch its PATs over and over, three requests each; so the PAT
		// is held until it is asked again, and the vault's token likewise.
		if w.Pause >= retry.Limit && w.Fault.After == 0 {
			b.drop()
		}
		counted(w.Retries)
		b.report.Waits(phase, w.Fault, w.Retries, w.Pause)
		if phase == journal.Waiting { // the state is another run's to write
			return
		}
		if b.state().Phase == journal.Ready && b.agentRuns() { // what is waited for does not touch it
			b.report.Live.Assert()
		}
		b.record(w.Fault, (*journal.State).Stumble)
	})
}

// pollsUnsaid is how long polls go on before status says what is waited for.
const pollsUnsaid = 30 * time.Second

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
