package main

import (
	"context"
	"fmt"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"

	"azp-bootstrap/bootstrap"
	"azp-bootstrap/bootstrap/health"
	"azp-bootstrap/bootstrap/journal"
)

// sparing suits a program that waits for others nearly all the time. The garbage collector runs
// less often than by default: a boot makes some 20 MB of garbage in a second, the daemon afterwards
// almost none. GOGC and GOMEMLIMIT in the environment still count.
func sparing() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(32 << 20) // from there on it runs as often as it must
	}
}

// joinNow brings the VM to ready, and says so to a person.
func (a *app) joinNow(cmd *cobra.Command, o bootstrap.Options) error {
	err := a.watched(cmd, o.Log, func(ctx context.Context) error { return bootstrap.Run(ctx, o) })
	if s, e := a.readState(); err == nil && e == nil && s.Phase == journal.Ready && terminal(os.Stderr) {
		health.Render(cmd.ErrOrStderr(), s, colour(os.Stderr), health.Look(a.stateDir, s))
	}
	return err
}

// rejoinCommand is what an operator looks for after a deregister.
func (a *app) rejoinCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "rejoin",
		Short: "Join again after a deregister",
		Long: `rejoin takes a deregister back: it brings this VM to ready, as run --once does, and tells the daemon
if one runs, so that it watches over the VM from then on. On a VM that is ready it only verifies.
Exit code: 0 if the VM is ready, else the class's of the error.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o, err := a.options()
			if err != nil {
				return err
			}
			o.Once = true
			sparing()
			if err := a.joinNow(cmd, o); err != nil {
				return err
			}
			if err := health.Nudge(a.stateDir); err != nil {
				o.Log.WithError(err).Warn("the daemon was not told: it finds out by itself within a minute")
			}
			fmt.Fprintln(cmd.OutOrStdout(), "Joined.")
			return nil
		},
	}
}

func (a *app) runCommand() *cobra.Command {
	var once bool
	c := &cobra.Command{
		Use:   "run",
		Short: "Bring this VM to ready, then watch over it (the daemon)",
		Long: `run is the daemon: it brings this VM to ready and then watches over it. If it is
interrupted, it continues where it was when it runs again; on a VM that is ready it only verifies.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o, err := a.options()
			if err != nil {
				return a.refusedAsService(err)
			}
			o.Once = once
			sparing()
			if once {
				return a.joinNow(cmd, o)
			}
			return a.asService(cmd.Context(), o)
		},
	}
	c.Flags().
		BoolVar(&once, "once", false, "end when the VM is ready (exit code 0) or has failed (its class's exit code)")
	c.Flags().BoolVar(&a.underManager, "service", false, "of the command line of a service of Windows")
	_ = c.Flags().MarkHidden("service")
	return c
}
