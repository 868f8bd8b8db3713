// Package phase runs the steps of the journey. Each is journalled, told to whoever looks, and tried
// again as long as waiting helps. A step may be asked again after a crash at any point inside it:
// it first looks at what is already there.
package phase

import (
	"context"
	"errors"
	"time"

	"github.com/sirupsen/logrus"

	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/health"
	"azp-bootstrap/bootstrap/journal"
	"azp-bootstrap/bootstrap/retry"
)

// A Runner runs phases.
type Runner struct {
	Journal *journal.Journal
	Report  *health.Reporter
	Log     *logrus.Logger
	Redact  func(string) string
	Drop    func()      // forgets the PAT, which is not held through a long wait
	Runs    func() bool // whether this VM's agent runs
}

// Fields are what a phase found, for the log.
type Fields = logrus.Fields

// A Step is what a phase does. The error is a *fault.Error, which says the class and whether
// waiting helps.
type Step func(ctx context.Context) (Fields, error)

// Run takes the VM through the phase called name, and journals it.
func (r Runner) Run(ctx context.Context, name string, do Step) error {
	if err := r.Journal.Update(func(s *journal.State) { s.Begin(name) }); err != nil {
		return err
	}
	done, fields, err := r.through(ctx, name, do)
	err = errors.Join(err, r.Journal.Update(func(s *journal.State) { s.End(done) }))
	if err == nil {
		r.Report.PhaseDone(done, fields)
	}
	return err
}

// Verify takes the VM through a phase that may find that there is nothing to do: the journal says
// nothing of it.
func (r Runner) Verify(ctx context.Context, name string, do Step) error {
	done, fields, err := r.through(ctx, name, do)
	if err == nil {
		r.Report.PhaseDone(done, fields)
	}
	return err
}

func (r Runner) through(ctx context.Context, name string, do Step) (done journal.Phase, fields Fields, err error) {
	begun := time.Now()
	r.Report.PhaseBegun(name)
	retries := 0
	err = r.Retry(ctx, name, func() (err error) {
		fields, err = do(ctx)
		return err
	}, func(n int) { retries = n })
	took := time.Since(begun).
		Round(time.Millisecond).
		Seconds()
		// with the monotonic clock, which survives a jump of the other
	return journal.Phase{Name: name, Seconds: took, Retries: retries}, fields, err
}

// pollsUnsaid is how long polls go on before status says what is waited for.
const pollsUnsaid = 30 * time.Second

// Retry is retry.Do for a phase: what is waited for is told and journalled, and no secret is kept
// through it. counted, if not nil, hears of each try that failed.
func (r Runner) Retry(ctx context.Context, name string, do func() error, counted func(retries int)) error {
	begun := time.Now()
	return retry.Do(ctx, do, func(w retry.Wait) {
		if w.Fault.Subject == fault.OfJob {
			r.Report.Live.Assert() // a VM whose job is waited for is not to be replaced
		}
		if w.Polls {
			r.Report.Polls(name, w.Fault)
			if name == journal.Online && time.Since(begun) >= pollsUnsaid {
				r.Record(w.Fault, stumble(ctx, w)) // status says what is waited for
			}
			return
		}
		// Azure DevOps may ask for minutes in which a crowd would fetch its PATs over and over,
		// three requests each; so the PAT is held until it is asked again, and the vault's token
		// likewise.
		if w.Pause >= retry.Limit && w.Fault.After == 0 {
			r.Drop()
		}
		if counted != nil {
			counted(w.Retries)
		}
		r.Report.Waits(name, w.Fault, w.Retries, w.Pause)
		if name == journal.Waiting { // the state is another run's to write
			return
		}
		if r.Journal.State().Phase == journal.Ready && r.Runs() { // what is waited for does not touch it
			r.Report.Live.Assert()
		}
		r.Record(w.Fault, stumble(ctx, w))
	})
}

// stumble keeps a passing fault with the next try, and until when there are any.
func stumble(ctx context.Context, w retry.Wait) func(*journal.State, *journal.Failure) {
	return func(s *journal.State, why *journal.Failure) {
		why.NextTry = why.At.Add(w.Pause.Round(time.Second))
		if end, ok := ctx.Deadline(); ok {
			why.GivesUp = end.UTC().Truncate(time.Second)
		}
		s.Stumble(why)
	}
}

// Record keeps a fault in the journal.
func (r Runner) Record(f *fault.Error, how func(*journal.State, *journal.Failure)) {
	why := journal.Why(f, r.Redact)
	if err := r.Journal.Update(func(s *journal.State) { how(s, why) }); err != nil {
		r.Log.WithError(err).Error("the failure could not be recorded")
	}
}

// Beside is an error that does not change where the VM stands.
func Beside(s *journal.State, why *journal.Failure) { s.LastError = why }
