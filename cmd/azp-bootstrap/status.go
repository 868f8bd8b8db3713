package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"azp-bootstrap/bootstrap"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/health"
)

func (a *app) statusCommand() *cobra.Command {
	var asJSON, wait bool
	var timeout time.Duration
	c := &cobra.Command{
		Use:   "status",
		Short: "Where this VM stands",
		Long: `status shows where this VM stands: its phases with their times, and the last error with what to do.
Exit code: 0, or the class's of the error if the boot failed. --wait blocks until ready or failed.`,
		Example: `  azp-bootstrap status
  azp-bootstrap status --json | jq -r .phase
  azp-bootstrap status --wait --timeout 10m && echo joined`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if timeout <= 0 {
				return fault.New(fault.Usage, "--timeout %s is not more than zero", timeout).Hint("Write for example --timeout 10m.")
			}
			s, err := a.readState()
			var timedOut error
			if err == nil && wait {
				s, timedOut, err = a.await(cmd.Context(), timeout)
			}
			if err != nil {
				return err
			}
			if err := show(cmd.OutOrStdout(), s, asJSON); err != nil {
				return err
			}
			if timedOut != nil {
				return timedOut
			}
			if s.Phase == health.Failed && s.LastError != nil {
				return &alreadyShown{fault.ByCode(s.LastError.Code).Exit}
			}
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "as JSON (the same as state.json)")
	c.Flags().BoolVar(&wait, "wait", false, "block until ready or failed")
	c.Flags().DurationVar(&timeout, "timeout", 10*time.Minute, "with --wait: how long")
	return c
}

func show(out io.Writer, s health.State, asJSON bool) error {
	if asJSON {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		return e.Encode(s)
	}
	s.Render(out, out == os.Stdout && colour(os.Stdout))
	return nil
}

func (a *app) readState() (health.State, error) {
	s, damaged, err := bootstrap.Status(bootstrap.Options{ConfigFile: a.config, Set: a.set, StateDir: a.stateDir})
	if damaged != nil {
		return s, fault.New(fault.State, "%s is damaged", health.StateFile(a.stateDir)).Because(damaged).
			Hint("The next run sets it aside and finds out anew where the VM stands: systemctl restart azp-bootstrap.")
	}
	return s, err
}

// await looks at the state until the VM is ready or failed. Looking is cheap: the file is small and
// replaced whole.
func (a *app) await(ctx context.Context, timeout time.Duration) (s health.State, timedOut, err error) {
	end := time.NewTimer(timeout)
	defer end.Stop()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	line := progress{show: terminal(os.Stderr), begun: time.Now()}
	defer line.clear()
	for {
		if s, err = a.readState(); err != nil || s.Phase == health.Ready || s.Phase == health.Failed {
			return s, nil, err
		}
		if s.Phase == health.Removed {
			return s, fault.New(fault.State, "this VM has left Azure DevOps: there is nothing to wait for").
				Hint("azp-bootstrap run --once joins it again."), nil
		}
		line.draw(s)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return s, nil, ctx.Err()
		case <-end.C:
			class, hint := health.ClassOfPhase(s.Phase), "Watch it: azp-bootstrap status; journalctl -u azp-bootstrap."
			if s.LastError != nil {
				class, hint = s.LastError.Code, s.LastError.Hint
			}
			if class == "" {
				class, hint = fault.State.Code, "Does the daemon run? systemctl status azp-bootstrap."
			}
			return s, fault.New(fault.ByCode(class), "not ready after %s: still in the phase %s", timeout, s.Phase).Hint("%s", hint), nil
		}
	}
}

// progress is one line on a terminal that shows what is waited for.
type progress struct {
	show  bool
	begun time.Time
	turn  int
}

func (p *progress) draw(s health.State) {
	if !p.show {
		return
	}
	p.turn++
	text := s.Phase
	if s.LastError != nil {
		text += ": " + s.LastError.Message
	}
	if r := []rune(text); len(r) > 60 {
		text = string(r[:60]) + "…"
	}
	fmt.Fprintf(os.Stderr, "\r\x1b[K%c %s (%s)", []rune("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏")[p.turn%10], text, time.Since(p.begun).Round(time.Second))
}

func (p *progress) clear() {
	if p.show {
		fmt.Fprint(os.Stderr, "\r\x1b[K")
	}
}
