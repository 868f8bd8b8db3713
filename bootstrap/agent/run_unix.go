//go:build unix

package agent

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"azp-bootstrap/bootstrap/fault"
)

// A Runner keeps the configured agent running: as a service of the OS, or as a process of ours.
type Runner struct {
	Home
	Process bool   // agent.service: process
	State   string // the state folder: records and the agent's output
}

func (r Runner) record() string { return filepath.Join(r.State, "agent.pid") }

// configureRecord is where config.sh's process is recorded.
func (r Runner) configureRecord() string { return filepath.Join(r.State, "configure.pid") }

// Start makes the agent run, if it does not, trusting the certificates of caFile as well; it
// returns the name of its service, "" for a process.
func (r Runner) Start(ctx context.Context, s Service, caFile string) (string, error) {
	script := map[bool]string{false: "runsvc.sh", true: "run.sh"}[r.Process]
	if s.Once && !r.Process {
		script = listener
	}
	if _, err := r.read(script); errors.Is(err, fs.ErrNotExist) {
		return "", fault.New(fault.Agent, "the agent's folder has no %s, which starts it", script).Because(ErrGutted).
			Hint("If a job removed it, the next attempt recreates the agent: systemctl restart azp-bootstrap begins it " +
				"at once. If the package brought none, run azp-bootstrap prepare again.")
	}
	groups, err := GroupNumbers(s.Groups)
	if err != nil {
		return "", err
	}
	if !r.Process {
		if err := r.tell(s); err != nil {
			return "", err
		}
		return r.installService(ctx, s)
	}
	if recorded(r.record()) != 0 {
		return "", nil
	}
	if err := r.tell(s); err != nil {
		return "", err
	}
	env, err := r.baseEnvironment()
	if err != nil {
		return "", err
	}
	if path := r.jobs(s.Environment)["PATH"]; path != "" { // as runsvc.sh does with .path
		env = append(env, "PATH="+path) // the last one counts
	}
	if s.Once {
		env = append(env, onceInput)
	}
	// The agent outlives this process (run --once), so its output goes to a file, not to a pipe.
	out, err := os.OpenFile(filepath.Join(r.State, "agent.log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		return "", fault.New(fault.State, "the agent's log").
			Because(err).
			Hint("Check free space and rights of %s.", r.State)
	}
	defer out.Close() //nolint:errcheck // the child has its own
	// As a service: else run.sh starts itself anew after the agent's update (update.sh), beside the
	// one that is started here.
	argv := []string{r.path("run.sh"), "--startuptype", "service"}
	p := process{
		Dir: r.Dir, User: r.User, Groups: groups, Env: append(env, r.trust(caFile != "")...), Argv: argv, Record: r.record(),
	}
	cmd, err := p.start(ctx, out, true)
	if own := (*fault.Error)(nil); errors.As(err, &own) {
		return "", own
	}
	if err != nil {
		return "", fault.New(fault.Service, "the agent cannot be started").
			Because(err).
			Hint("The package may be damaged: run azp-bootstrap prepare again.")
	}
	go func() { _ = cmd.Wait() }() // so that it leaves no zombie
	return "", nil
}

// Running reports whether the agent runs, and the word of the service manager.
func (r Runner) Running(service string) (bool, string) {
	if !r.Process {
		state := serviceState(service)
		return state == "active", state
	}
	if recorded(r.record()) != 0 {
		return true, "running"
	}
	return false, "not running"
}

// Stop ends the agent: the listener takes SIGINT as the wish to end its session.
func (r Runner) Stop(ctx context.Context) error {
	if err := endRecorded(ctx, r.record(), syscall.SIGINT, 20*time.Second); err != nil {
		return fault.New(fault.Service, "the agent").Because(err).Hint("End it by hand, then run again.")
	}
	return nil
}

// Remove stops the agent in either form and removes its service. A config.sh that an earlier run
// left behind is ended as well.
func (r Runner) Remove(ctx context.Context, service string) error {
	if err := endRecorded(ctx, r.configureRecord(), syscall.SIGKILL, 0); err != nil {
		return fault.New(fault.Agent, "config.sh of an earlier run").
			Because(err).
			Hint("End it by hand, then run again.")
	}
	if err := r.Stop(ctx); err != nil {
		return err
	}
	return r.uninstallService(ctx, service)
}
