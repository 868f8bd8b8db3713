package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"azp-bootstrap/bootstrap"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/health"
	"azp-bootstrap/bootstrap/journal"
	"azp-bootstrap/bootstrap/member"
)

func (a *app) statusCommand() *cobra.Command {
	var asJSON, wait, watch, timeline bool
	var picture string
	var timeout time.Duration
	c := &cobra.Command{
		Use:   "status",
		Short: "Where this VM stands",
		Long: `status shows where this VM stands: whether its agent and the daemon run, its phases with their times,
and the last error with what to do.
Exit code: 0; the class's of the error if the boot failed; 18 if the VM is ready but its agent does not run; 22 if there is no room for its jobs.
--watch shows it again and again, until interrupted.
--timeline draws the last boot as bars, so that a slow one explains itself; --svg FILE makes a picture of it.
--wait blocks until ready or failed, and shows the phase at work, what it waits for and when it gives up.
While a daemon runs, it waits for an attempt of that daemon: the result of an earlier one does not count.`,
		Example: `  azp-bootstrap status
  azp-bootstrap status --watch
  azp-bootstrap status --timeline
  azp-bootstrap status --json | jq -r .phase
  azp-bootstrap status --wait --timeout 10m && echo joined`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if timeout <= 0 {
				return fault.New(fault.Usage, "--timeout %s is not more than zero", timeout).
					Hint("Write for example --timeout 10m.")
			}
			if cmd.Flags().Changed("timeout") && !wait {
				return fault.New(fault.Usage, "--timeout goes with --wait").Hint("Write --wait --timeout %s.", timeout)
			}
			if watch && (wait || asJSON) {
				return fault.New(fault.Usage, "--watch goes with neither --wait nor --json").
					Hint("Use --wait --json for scripts, --watch to look on.")
			}
			timeline = timeline || picture != ""
			if timeline && (watch || asJSON) {
				return fault.New(fault.Usage, "--timeline and --svg go with neither --watch nor --json").
					Hint("The phases stand in --json, too: .phases.")
			}
			if watch {
				return a.lookOn(cmd.Context(), cmd.OutOrStdout())
			}
			s, err := a.readState()
			var timedOut error
			if err == nil && wait {
				s, timedOut, err = a.await(cmd.Context(), timeout)
			}
			if err != nil {
				return err
			}
			alive := health.Look(a.stateDir, s)
			if !asJSON {
				a.wanted(&s)
			}
			if timeline {
				if err := drawTimeline(cmd.OutOrStdout(), s, picture); err != nil {
					return err
				}
			} else if err := show(cmd.OutOrStdout(), s, alive, asJSON); err != nil {
				return err
			}
			if timedOut != nil {
				return timedOut
			}
			if s.Phase == journal.Failed && s.LastError != nil {
				return &alreadyShown{fault.ByCode(s.LastError.Code).Exit}
			}
			if down := alive.Down(s); down != nil {
				return &alreadyShown{down.Class.Exit}
			}
			if s.NoRoom() {
				return &alreadyShown{fault.Disk.Exit}
			}
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "as JSON: state.json, and what runs now under \"live\"")
	c.Flags().BoolVar(&wait, "wait", false, "block until ready or failed")
	c.Flags().BoolVar(&watch, "watch", false, "look on until interrupted; elsewhere than on a terminal a line for each change")
	c.Flags().BoolVar(&timeline, "timeline", false, "draw the last boot: its phases, and where it waited")
	c.Flags().StringVar(&picture, "svg", "", "with --timeline: write the picture to this `file`")
	c.Flags().DurationVar(&timeout, "timeout", 10*time.Minute, "with --wait: how long")
	return c
}

// drawTimeline draws the last boot on out, or into a file.
func drawTimeline(out io.Writer, s journal.State, file string) error {
	t, ok := health.NewTimeline(s, health.Booted(), time.Now())
	if !ok {
		return fault.New(fault.State, "there is no boot to draw: this VM has not begun to join").
			Hint("azp-bootstrap status says where it stands.")
	}
	if file == "" {
		t.Text(out, newScreen(os.Stdout, time.Time{}).width, out == os.Stdout && colour(os.Stdout))
		return nil
	}
	var picture bytes.Buffer
	if err := t.SVG(&picture); err != nil {
		return err
	}
	if err := os.WriteFile(file, picture.Bytes(), 0o644); err != nil { //nolint:gosec // a picture without secrets
		return fault.New(fault.Usage, "the picture cannot be written").Because(err).Hint("Name a file in a folder that you may write to.")
	}
	fmt.Fprintf(out, "Drawn: %s\n", file)
	return nil
}

// wanted shows what a VM that has not found its target yet is configured to join, as far as files tell.
func (a *app) wanted(s *journal.State) {
	if s.Target.Kind != "" || s.Attempt == 0 || s.Phase == journal.Removed {
		return
	}
	if c, err := a.load(a.config); err == nil && c.Target.Kind() != "" {
		s.Target = journal.Target{Kind: c.Target.Kind(), Project: c.Target.Project(), Name: c.Target.Name(), URL: c.Server.Base}
	}
}

func show(out io.Writer, s journal.State, alive health.Alive, asJSON bool) error {
	if asJSON {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		return e.Encode(struct {
			journal.State
			Live health.Alive `json:"live"`
		}{s, alive})
	}
	health.Render(out, s, out == os.Stdout && colour(os.Stdout), alive)
	return nil
}

// means are what every command that looks at the VM brings along; log may be nil where nothing is
// said.
func (a *app) means(log *logrus.Logger) member.Means {
	return member.Means{ConfigFile: a.config, Set: a.set, StateDir: a.stateDir, Log: log, Redactor: &a.redactor}
}

func (a *app) readState() (journal.State, error) {
	s, damaged, err := bootstrap.Status(a.means(nil))
	if damaged != nil {
		return s, fault.New(fault.State, "%s is damaged", journal.File(a.stateDir)).Because(damaged).
			Hint("The next run sets it aside and finds out anew where the VM stands: systemctl restart azp-bootstrap.")
	}
	return s, err
}

// await looks at the state until the VM is ready and its agent runs, or it failed. Looking is
// cheap: the files are small and replaced whole.
func (a *app) await(ctx context.Context, timeout time.Duration) (s journal.State, timedOut, err error) {
	end := time.NewTimer(timeout)
	defer end.Stop()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	shown := newScreen(os.Stderr, time.Time{})
	defer shown.clear()
	for {
		alive := health.Daemon(a.stateDir) // first: a state that is read later is of this attempt, too
		if s, err = a.readState(); err != nil {
			return s, nil, err
		}
		switch {
		case alive.Pending: // what stands there is of an earlier attempt
		case s.Phase == journal.Failed:
			return s, nil, nil
		case s.Phase == journal.Removed:
			return s, fault.New(fault.State, "this VM has left Azure DevOps: there is nothing to wait for").
				Hint("azp-bootstrap rejoin joins it again."), nil
		case s.Phase == journal.Ready:
			if alive = health.Look(a.stateDir, s); alive.Joined(s) {
				return s, nil, nil
			}
			tick.Reset(time.Second) // the service manager is asked
		}
		if n := len(s.Phases); !alive.Pending || n > 0 && !s.Phases[n-1].StartedAt.Before(*alive.DaemonSince) {
			shown.draw(s)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return s, nil, ctx.Err()
		case <-end.C:
			return s, alive.TimedOut(s, timeout), nil
		}
	}
}

// lookOn shows the status anew each second, until ctx ends.
func (a *app) lookOn(ctx context.Context, out io.Writer) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	onTerminal := out == os.Stdout && terminal(os.Stdout)
	lines := &screen{out: out}
	for {
		s, err := a.readState()
		if err != nil {
			return err
		}
		if onTerminal {
			var page bytes.Buffer
			health.Render(&page, s, colour(os.Stdout), health.Look(a.stateDir, s))
			if _, err := fmt.Fprintf(out, "\x1b[H\x1b[2J%s\n%s, every second; Ctrl-C ends\n", page.Bytes(), time.Now().Format(time.TimeOnly)); err != nil {
				return err
			}
		} else {
			lines.draw(s)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}
