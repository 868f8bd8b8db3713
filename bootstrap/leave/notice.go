// Package leave is the way out: it hears that this VM's end is near, drains its agent, and removes
// it from Azure DevOps, for Azure's word and for an operator's.
package leave

import (
	"context"
	"errors"
	"time"

	"azp-bootstrap/bootstrap/journal"
)

// A Notice says that this VM is about to go, or that it shall leave Azure DevOps.
type Notice struct {
	Why         string
	By          string    // who asks: the journal's word for it
	Goes        bool      // the VM goes, whether it can leave Azure DevOps or not
	Wait        bool      // a running job is waited for
	Local       bool      // Azure DevOps is not asked
	Until       time.Time // when the VM goes whatever we do; zero = not known
	Acknowledge func(context.Context) error
}

// With is what two notices come to: the earlier end counts, a job is waited for only if both let
// it, and both are answered.
func (n Notice) With(later Notice) Notice {
	both := later
	if !n.Until.IsZero() && (later.Until.IsZero() || n.Until.Before(later.Until)) {
		both.Until = n.Until
	}
	both.Wait, both.Local = n.Wait && later.Wait, n.Local || later.Local
	if n.By == journal.ByOperator {
		both.By = n.By
	}
	if first, second := n.Acknowledge, later.Acknowledge; first != nil && second != nil {
		both.Acknowledge = func(ctx context.Context) error { return errors.Join(first(ctx), second(ctx)) }
	} else if second == nil {
		both.Acknowledge = first
	}
	return both
}

// CutOff is the notice of a departure that was cut off, as the journal knows it.
func CutOff(s journal.State) Notice {
	n := Notice{Why: "left behind", By: s.RemovedBy, Goes: true}
	if s.DrainUntil != nil && time.Now().Before(*s.DrainUntil) { // the daemon was restarted meanwhile
		n.Wait, n.Until = true, s.DrainUntil.Add(margin)
	}
	return n
}

// A Listener hears of a VM's end from one source, until ctx ends.
type Listener interface {
	Listen(ctx context.Context, heard chan<- Notice)
}
