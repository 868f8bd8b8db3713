package bootstrap

import (
	"context"
	"time"

	"azp-bootstrap/bootstrap/devops"
	"azp-bootstrap/bootstrap/health"
	"azp-bootstrap/bootstrap/journal"
	"azp-bootstrap/bootstrap/retry"
)

// leave takes this VM out of Azure DevOps, wherever it stands on its way; the caller has the VM's turn. done is false if nothing
// was registered and the VM stays.
func (b *Boot) leave(ctx context.Context, n notice) (done bool, err error) {
	limit := b.Config.Deadline
	if !n.until.IsZero() {
		limit = max(time.Until(n.until), atLeast)
	}
	within, cancel := context.WithTimeoutCause(ctx, limit, retry.ErrDeadline)
	defer cancel()
	if b.VM.VMID == "" { // a clone must not deregister the VM that it was copied from: discover tells
		if err := b.through(within, phases[:1], true); err != nil {
			return false, err
		}
	}
	b.Place = devops.Place{} // nothing that config.sh has begun is gone on with
	if n.goes {
		return true, b.depart(ctx, n)
	}
	if b.state().Registering != nil && !n.local {
		if err := b.patiently(within, func(*devops.Client) error { return b.settleIntent(within) }); err != nil {
			return false, err
		}
	}
	switch s := b.state(); {
	case s.Phase == journal.Removed && s.ByAzure(): // and stays so, by the operator's word
		return false, b.journal.Update(func(s *journal.State) { s.RemovedBy = n.by })
	case s.Phase == journal.Removed || s.Agent.ID == 0:
		return false, nil
	}
	return true, b.depart(ctx, n)
}

// A Leaving says how an operator wants this VM to leave.
type Leaving struct {
	Now   bool // a running job is not waited for
	Local bool // the server is not asked: what stands there stays
}

// Deregister is the command: drain, remove from Azure DevOps, remove the agent's service. done is false if nothing was
// registered.
func Deregister(ctx context.Context, o Options, how Leaving) (done bool, err error) {
	report := newReporter(o, health.NewLive())
	defer report.Console.Close()
	b, err := begin(ctx, o, report, nil, nil)
	if err != nil {
		return false, err
	}
	if err := b.configure(); err != nil {
		return false, err
	}
	unlock, err := b.turn(ctx)
	if err != nil {
		return false, err
	}
	defer unlock()
	n := notice{why: "deregister", by: journal.ByOperator, wait: !how.Now, local: how.Local}
	hears := newEar()
	defer hears.stop()
	if b.Config.Drain.Enabled { // Azure may take the VM away meanwhile
		hears.to(ctx, b.Config.IMDS.Endpoint, scheduledEvents{b.imds, b.Log})
	}
	for {
		over, _, err := hears.during(ctx, nil, nil, func(ctx context.Context) (err error) {
			done, err = b.leave(ctx, n)
			return err
		})
		if over == nil {
			return done, err
		}
		n = n.with(*over)
	}
}

// patiently asks Azure DevOps, with the one retry loop.
func (b *Boot) patiently(ctx context.Context, do func(*devops.Client) error) error {
	return b.retry(ctx, journal.Waiting, func() error {
		c, err := b.access.DevOps(ctx)
		if err != nil {
			return err
		}
		return do(c)
	}, func(int) {})
}
