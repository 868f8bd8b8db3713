package agent

import (
	"context"

	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/secret"
)

// ReadyToClean: there are no scripts here.
func (r Runner) ReadyToClean() error { return nil }

// Clean is refused: it is for systems with scripts of root's.
func (r Runner) Clean(context.Context, string, string, *secret.Redactor, func(script, line string)) error {
	return fault.New(fault.Config, "disk.min is not for Windows").Hint("Leave disk out.")
}
