package agent

import (
	"context"

	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/secret"
)

// Clean is for systems with scripts of root's.
// CleanRecord would name a script at work: there are none here.
const CleanRecord = "clean.pid"

// ReadyToClean: there are no scripts here.
func (r Runner) ReadyToClean() error { return nil }

// EndCleaning: there are no scripts here.
func (r Runner) EndCleaning(context.Context) error { return nil }

// Clean is refused.
func (r Runner) Clean(context.Context, string, string, *secret.Redactor, func(script, line string)) error {
	return fault.New(fault.Config, "disk.min is not for Windows").Hint("Leave disk out.")
}
