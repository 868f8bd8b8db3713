// Package fault is the house's only vocabulary of failure. Every error that reaches a person has a
// class (with one exit code and one entry in docs/troubleshooting.md), says what failed on which
// name and what Azure answered, gives the next step, and knows whether waiting can help.
package fault

import (
	"errors"
	"fmt"
	"time"
)

// A Class is one row of the exit-code table.
type Class struct {
	Code string // as in status and state.json
	Exit int    // the process's exit code
}

// The classes, in the order of their exit codes.
var (
	Internal = Class{"internal", 1}
	Usage    = Class{"usage", 2}
	Config   = Class{"config", 10}
	IMDS     = Class{"imds", 11}
	Identity = Class{"identity", 12}
	Vault    = Class{"vault", 13}
	PAT      = Class{"pat", 14}
	Scope    = Class{"pat-scope", 15}
	Target   = Class{"target", 16}
	Agent    = Class{"agent", 17}
	Service  = Class{"service", 18}
	Network  = Class{"network", 19}
	State    = Class{"state", 20}
	Start    = Class{"start", 21}
	Disk     = Class{"disk", 22}
)

// Classes lists every class, for documentation and tests.
func Classes() []Class {
	return []Class{
		Internal, Usage, Config, IMDS, Identity, Vault, PAT, Scope, Target, Agent, Service, Network, State, Start, Disk,
	}
}

// ByCode finds the class with this code; Internal if there is none.
func ByCode(code string) Class {
	for _, c := range Classes() {
		if c.Code == code {
			return c
		}
	}
	return Internal
}

// An Error is built once, where the answer is understood, and only carried above that.
type Error struct {
	Class   Class
	Message string        // what failed, on which name, what was answered
	Advice  string        // what to do next
	Wait    bool          // waiting may help
	After   time.Duration // wait at least this long before asking again; 0 = no wish
	Cause   error
	Subject string // where one class covers several things: which; else empty
}

// OfJob is the subject of faults that are no more than a job that runs on this VM.
const OfJob = "job"

// New begins an error of class c. It is lasting until Passing says otherwise.
func New(c Class, format string, args ...any) *Error {
	return &Error{Class: c, Message: Here(fmt.Sprintf(format, args...))}
}

// Hint sets the next step for the person who reads this at 3 a.m.
func (e *Error) Hint(format string, args ...any) *Error {
	e.Advice = Here(fmt.Sprintf(format, args...))
	return e
}

// Because records what caused it; the cause's text is part of the message.
func (e *Error) Because(err error) *Error {
	e.Cause = err
	return e
}

// About says which of the things that its class covers the error is about.
func (e *Error) About(subject string) *Error {
	e.Subject = subject
	return e
}

// Passing marks the error as one that waiting may mend. A cause may be given.
func (e *Error) Passing(cause ...error) *Error {
	e.Wait = true
	for _, c := range cause {
		e.Cause = c
	}
	return e
}

// Retry sets the least time to wait before the next try.
func (e *Error) Retry(after time.Duration) *Error {
	e.After = after
	return e
}

func (e *Error) Error() string {
	if e.Cause == nil {
		return e.Message
	}
	return e.Message + ": " + e.Cause.Error()
}

func (e *Error) Unwrap() error { return e.Cause }

// From finds the fault in err's chain. An error that no room classified is a bug of ours, unless it
// only says that the caller's context ended.
func From(err error) *Error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return New(
		Internal,
		"unexpected error",
	).Because(err).
		Hint("This is a bug of azp-bootstrap: please report it with the log.")
}
