package agent

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/coreos/go-systemd/v22/dbus"
	"github.com/coreos/go-systemd/v22/unit"

	"azp-bootstrap/bootstrap/fault"
)

// runsOnce is what the unit of an agent runs that serves once. AgentService.js, which runsvc.sh keeps,
// starts a listener again that has failed, whatever it has done before: after an error in the middle of
// a job that would be a second one. So the listener runs by itself, and nobody starts it again but the
// daemon, when it has asked the server.
//
// After an update (exit code 4) what replaces the programs is still at work, in this control group: it
// has the five seconds that AgentService.js gives it. A background process of a shell ignores SIGINT,
// and so does .NET then; SIGTERM ends the listener's session as well (Agent.cs, Agent_Unloading).
const runsOnce = `trap 'kill -TERM $PID' TERM INT; "$0" run --startuptype service & PID=$!; wait $PID; CODE=$?; ` +
	`while kill -0 $PID 2>/dev/null; do wait $PID; CODE=$?; done; [ $CODE -ne 4 ] || sleep 5; exit $CODE`

// startsOnce is the command of that unit.
func (h Home) startsOnce() string {
	script := strings.ReplaceAll(runsOnce, "$", "$$") // systemd's variables
	return "/bin/sh -c " + strconv.Quote(script) + " " + strconv.Quote(strings.ReplaceAll(h.path(listener), "$", "$$"))
}

// ticket is the file without which the unit of an agent that serves once does not start. It is there
// while the daemon starts it, and never else: not in a boot, and not when systemd or a person starts it.
func ticket(instance string) string { return filepath.Join(wordFolder, "once-"+instance) }

// onceUnit is the unit of an agent that runs one job: it is not enabled, waits for a ticket of its own
// and is never started again.
func (h Home) onceUnit(s Service) func(plain, name, user, instance, work string, groups ...string) (string, error) {
	return func(plain, name, user, instance, work string, groups ...string) (string, error) {
		lines := slices.DeleteFunc(h.lines(plain, name, user, instance, work, groups...), func(o *unit.UnitOption) bool {
			return o.Name == "WantedBy" || o.Name == "RestartSec"
		})
		for _, l := range lines {
			switch l.Name {
			case "ExecStart":
				l.Value = h.startsOnce()
			case "Restart":
				l.Value = "no"
			case "ConditionPathExists":
				l.Value = ticket(instance)
			}
		}
		set := func(name, value string) {
			lines = append(lines, &unit.UnitOption{Section: "Service", Name: name, Value: value})
		}
		set("SuccessExitStatus", "4 143")
		set("Environment", onceInput)
		if path := h.jobs(s.Environment)["PATH"]; path != "" { // as runsvc.sh does with .path
			set("Environment", strconv.Quote("PATH="+path))
		}
		return unitText(lines)
	}
}

// startOnce starts a unit for its only job. One that stands from an earlier configuration is enabled, and
// must not be any more.
func startOnce(ctx context.Context, name, instance string, replaced bool) error {
	if instance == "" || instance != filepath.Base(instance) {
		return fault.New(fault.Internal, "the instance %q cannot be allowed an agent", instance)
	}
	ctx, cancel := context.WithTimeout(ctx, systemdPatience)
	defer cancel()
	c, err := dbus.NewWithContext(ctx)
	if err != nil {
		return serviceFault(name, "cannot be managed", err)
	}
	defer c.Close()
	if replaced {
		_, _ = c.DisableUnitFilesContext(ctx, []string{name}, false) // what counts is that its condition is another one
		if err := c.ReloadContext(ctx); err != nil {
			return serviceFault(name, "cannot be installed", err)
		}
	}
	err = os.MkdirAll(wordFolder, 0o755) //nolint:gosec // nothing in it is secret
	if err == nil {
		err = os.WriteFile(ticket(instance), nil, 0o644) //nolint:gosec // the same
	}
	if err != nil {
		return fault.New(fault.Service, "the agent's service may not start: %s", ticket(instance)).Because(err).
			Hint("Check that /run can be written; run as root.")
	}
	defer os.Remove(ticket(instance)) //nolint:errcheck // one that stays is removed with the next start, and by each boot
	if err = job(ctx, c.StartUnitContext, name); err != nil && c.ReloadContext(ctx) == nil {
		err = job(ctx, c.StartUnitContext, name) // an older systemd may not have seen the file
	}
	if err != nil {
		return serviceFault(name, "does not start", err)
	}
	return nil
}
