package gate

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/scripts"
)

// The events at which root's scripts run: each has a folder of its name.
const (
	AfterJob = "afterJob" // a job has ended
	Paused   = "paused"   // an operator has paused the VM
	Leaving  = "leaving"  // the VM is about to leave
	Failed   = "failed"   // an attempt failed for good, or there is no room for jobs
)

// Events are all of them.
var Events = []string{AfterJob, Paused, Leaving, Failed}

// HookLock is the file by whose lock the scripts of an event run once at a time.
func HookLock(event string) string { return "lock." + HookKind(event) }

// HookFiles are the files of the state folder that hooks need.
func HookFiles() (names []string) {
	for _, event := range Events {
		names = append(names, agent.ProgramFiles(HookKind(event))...)
		names = append(names, HookLock(event))
	}
	return names
}

// HookKind is the kind of an event's programs.
func HookKind(event string) string { return "hook-" + event }

// Hooked reports whether there is anything to run at an event, or to complain about.
func Hooked(dir, event string) bool {
	if dir == "" {
		return false
	}
	names, _, err := scripts.Of(filepath.Join(dir, event), scripts.Hooks)
	return len(names) > 0 || err != nil
}

// Hooks runs the scripts of an event's folder one after the other, each of them, whatever becomes of another, until
// ctx ends. The error says which did not end well.
func Hooks(ctx context.Context, dir, event string, env []string, most time.Duration, r Run) error {
	dir = filepath.Join(dir, event)
	names, ignored, err := scripts.Of(dir, scripts.Hooks)
	if err != nil {
		return err
	}
	for _, i := range ignored {
		r.Warns("not run as a hook: "+i.Why, filepath.Join(event, i.Name))
	}
	for _, name := range names {
		said, of := &tail{}, filepath.Join(event, name)
		if ctx.Err() != nil {
			err = errors.Join(err, fmt.Errorf("the hook %s was not run: the time was over", of))
			continue
		}
		exit, e := r.Program(ctx, agent.Program{
			Kind: HookKind(event), Name: name, Argv: []string{filepath.Join(dir, name)}, Env: env, Most: most,
		}, func(line string) {
			if said.keep(line) {
				r.Says(of, line)
			}
		})
		switch {
		case ctx.Err() != nil:
			err = errors.Join(err, fmt.Errorf("the hook %s did not end in time and was ended%s", of, said))
		case e != nil:
			err = errors.Join(err, fmt.Errorf("the hook %s: %w", of, e))
		case exit < 0:
			err = errors.Join(err, fmt.Errorf("the hook %s was ended by a signal%s", of, said))
		case exit > 0:
			e = fmt.Errorf("the hook %s failed with exit code %d%s", of, exit, said)
			if why := scripts.Unrun(filepath.Join(dir, name), exit); why != "" {
				e = fmt.Errorf("%w; %s", e, why)
			}
			err = errors.Join(err, e)
		}
	}
	return err
}
