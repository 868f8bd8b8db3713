package gate

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/retry"
	"azp-bootstrap/bootstrap/scripts"
)

const cloudInit = "cloud-init"

// Exit codes of `cloud-init status` (cloudinit/cmd/status.py): 1 = it ended with errors, 2 = with
// some that it recovered from (since 23.4).
const (
	failed    = 1
	recovered = 2
)

// awaitCloudInit waits until cloud-init has ended, in whatever way: what it could not do is its own
// to say, and scripts that need it can look. A VM without it, or where it is switched off
// (cloud-init says so itself, at once), waits for nothing.
func (g Gate) awaitCloudInit(ctx context.Context, r Run, program string) error {
	if program == "" {
		r.Warns("there is no cloud-init on this VM: it is not waited for", cloudInit)
		return nil
	}
	r.Waits(cloudInit)
	for {
		tail := &tail{}
		exit, err := r.Program(ctx, agent.Program{Name: cloudInit, Argv: []string{program, "status", "--wait"}, Env: g.Env},
			func(line string) {
				if line = strings.TrimLeft(line, "."); tail.keep(line) { // a dot for each look
					r.Says(cloudInit, line)
				}
			})
		if exit < 0 && err == nil && ctx.Err() == nil {
			retry.Pause(ctx, time.Second) // as in script
		}
		const hint = "Look at: cloud-init status --long; /var/log/cloud-init-output.log. start.timeout allows it more " +
			"time. A command of cloud-init's own that waits for this VM to be ready (status --wait) waits for ever."
		switch {
		case errors.Is(context.Cause(ctx), retry.ErrDeadline):
			return fault.New(fault.Start, "cloud-init has not ended within %s%s", g.Start.Timeout, tail).Hint(hint)
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			return err
		case exit == 0:
			return nil
		case exit == failed && runsOn(runFolder) && retry.Pause(ctx, time.Second):
			continue // before 23.4, --wait ends with the first error
		}
		what := "cloud-init ended with errors: the VM goes on all the same"
		if exit != failed && exit != recovered {
			what = "whether cloud-init has ended cannot be found out: the VM goes on all the same"
		}
		r.Warns(what+tail.String(), cloudInit)
		return nil
	}
}

// runFolder is where cloud-init says in each boot how far it is.
const runFolder = "/run/cloud-init"

// runsOn reports whether cloud-init has begun and not written its result, and its last service may
// still do so.
func runsOn(folder string) bool {
	_, begun := os.Stat(filepath.Join(folder, "status.json"))
	_, ended := os.Stat(filepath.Join(folder, "result.json"))
	return begun == nil && ended != nil && !agent.UnitOver("cloud-final.service")
}

// installed is where a program is; "" if it is not.
func installed(name string) string {
	for _, dir := range filepath.SplitList(scripts.Path) {
		if fi, err := os.Stat(filepath.Join(dir, name)); err == nil && fi.Mode().IsRegular() && fi.Mode()&0o111 != 0 {
			return filepath.Join(dir, name)
		}
	}
	return ""
}
