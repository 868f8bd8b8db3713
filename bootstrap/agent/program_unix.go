//go:build unix

package agent

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/secret"
	"azp-bootstrap/bootstrap/whole"
)

// A Program is what whoever owns this VM lets run before the agent starts: as who runs the daemon,
// not as the service user.
type Program struct {
	Name string   // of its unit, after programUnits
	Argv []string // with the program's absolute path
	Env  []string // all that it finds in its environment
}

// programUnits is how the names of programs' units begin.
const programUnits = "azp-bootstrap-start-"

// programRecord is where a program's process is recorded.
func (r Runner) programRecord() string { return filepath.Join(r.State, "start.pid") }

// EndPrograms ends what an earlier run left behind.
func (r Runner) EndPrograms(ctx context.Context) error {
	if !r.Process && unitsRun() && recorded(r.programRecord()) != 0 {
		endUnits(ctx, programUnits+"*.service")
	}
	return endRecorded(ctx, r.programRecord(), syscall.SIGKILL, 0)
}

// RunProgram runs a program to its end or ctx's, and returns its exit code, -1 for a signal. Nothing
// that it started is left afterwards. Where the agent is a service, so is the program, for as long as
// it runs: neither the daemon's sandbox nor its control group limits it. One that an earlier run left
// behind is ended first. Each line of output goes to said, redacted.
func (r Runner) RunProgram(ctx context.Context, p Program, redactor *secret.Redactor, said func(string)) (int, error) {
	child := process{Dir: "/", Self: true, Env: p.Env, Argv: p.Argv, Record: r.programRecord()}
	apart := !r.Process && unitsRun()
	if apart {
		endUnits(ctx, programUnits+"*.service")
		file := filepath.Join(r.State, ProgramFile)
		if err := whole.Write(file, []byte(unitScript(p)), 0o600); err != nil {
			return -1, fault.New(fault.State, "what is to run before the first job").Because(err).
				Hint("Check free space and rights of %s.", r.State)
		}
		defer os.Remove(file) //nolint:errcheck // the next one is written over it
		child.Argv = unitCommand(p, file)
	}
	exit, err := child.run(ctx, func(out io.Reader, _ func()) { _ = redactor.Lines(out, said) })
	if apart && (exit < 0 || err != nil) { // who waits for the unit was ended, the unit was not
		endUnits(context.WithoutCancel(ctx), programUnits+p.Name+".service")
	}
	var own *fault.Error
	if err == nil || errors.As(err, &own) {
		return exit, err
	}
	return exit, fault.New(fault.Start, "%s cannot be run", p.Argv[0]).Because(err).
		Hint("Look at its rights, and at the log.")
}
