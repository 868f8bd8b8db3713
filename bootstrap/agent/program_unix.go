//go:build unix

package agent

import (
	"cmp"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/secret"
)

// A Program is what whoever owns this VM lets run, before the agent starts or at some event: as who
// runs the daemon, not as the service user. Of one kind one runs at a time.
type Program struct {
	Kind string        // "" = start
	Name string        // of its unit, after that of the kind
	Argv []string      // with the program's absolute path
	Env  []string      // all that it finds in its environment
	Most time.Duration // after which its unit ends even if the daemon was killed; 0 = none
}

// units is how the names of its kind's units begin.
func (p Program) units() string { return "azp-bootstrap-" + cmp.Or(p.Kind, StartKind) + "-" }

// programRecord is where a program's process is recorded.
func (r Runner) programRecord(kind string) string {
	return filepath.Join(r.State, cmp.Or(kind, StartKind)+".pid")
}

// EndPrograms ends what a run that was killed left behind of a kind, with all that it started. A daemon that is killed
// takes along what waits for a unit, and not the unit: so it is the record that counts.
func (r Runner) EndPrograms(ctx context.Context, kind string) error {
	record := r.programRecord(kind)
	if !r.LeftPrograms(kind) {
		return nil
	}
	if unitsRun() {
		endUnits(ctx, Program{Kind: kind}.units()+"*.service")
	}
	if err := endRecorded(ctx, record, syscall.SIGKILL, 0); err != nil {
		return err
	}
	if kind != CleanKind { // its file stays, for when the disk is full
		_ = os.Remove(record)
	}
	return nil
}

// LeftPrograms reports whether there is a record of a kind: one runs, or was not seen to end.
func (r Runner) LeftPrograms(kind string) bool {
	pid, _ := written(r.programRecord(kind))
	return pid != 0
}

// RunProgram runs a program to its end or ctx's, and returns its exit code, -1 for a signal. Nothing
// that it started is left afterwards. Where the agent is a service, so is the program, for as long as
// it runs: neither the daemon's sandbox nor its control group limits it. One that an earlier run left
// behind is ended first. Each line of output goes to said, redacted.
func (r Runner) RunProgram(ctx context.Context, p Program, redactor *secret.Redactor, said func(string)) (int, error) {
	child := process{Dir: "/", Self: true, Env: p.Env, Argv: p.Argv, Record: r.programRecord(p.Kind), Stays: p.Kind == CleanKind}
	apart := !r.Process && unitsRun()
	if apart {
		endUnits(ctx, p.units()+"*.service")
		file, err := writeUnitScript(p)
		if err != nil {
			return -1, fault.New(fault.State, "the script that is to run").Because(err).Hint("Check that /run can be written; run as root.")
		}
		defer os.Remove(file) //nolint:errcheck // the next one is written over it
		child.Argv = unitCommand(p, file)
	}
	exit, err := child.run(ctx, func(out io.Reader, _ func()) { _ = redactor.Lines(out, said) })
	if apart && (exit < 0 || err != nil) { // who waits for the unit was ended, the unit was not
		endUnits(context.WithoutCancel(ctx), p.units()+p.Name+".service")
	}
	var own *fault.Error
	if err == nil || errors.As(err, &own) {
		return exit, err
	}
	return exit, fault.New(fault.Start, "%s cannot be run", p.Argv[0]).Because(err).
		Hint("Look at its rights, and at the log.")
}
