package agent

import (
	"context"
	"time"

	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/secret"
)

// A Program is what would run before the agent starts: there is no gate here.
type Program struct {
	Kind string
	Name string
	Argv []string
	Env  []string
	Most time.Duration
}

// EndPrograms: there are none here.
func (r Runner) EndPrograms(context.Context, string) error { return nil }

// LeftPrograms: there are none here.
func (r Runner) LeftPrograms(string) bool { return false }

// RunProgram is refused here, as the configuration is that asks for it.
func (r Runner) RunProgram(context.Context, Program, *secret.Redactor, func(string)) (int, error) {
	return -1, fault.New(fault.Config, "start and hooks are not for Windows").Hint("Delete it.")
}

// UnitOver: there are no units here.
func UnitOver(string) bool { return true }
