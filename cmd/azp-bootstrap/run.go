package main

import (
	"context"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"

	"azp-bootstrap/bootstrap"
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

func (a *app) runCommand() *cobra.Command {
	var once bool
	c := &cobra.Command{
		Use:   "run",
		Short: "Bring this VM to ready, then watch over it (the daemon)",
		Long: `run is the daemon: it brings this VM to ready and then watches over it. It may be cut off at any
instant and asked again: it goes on where it was, and on a VM that is ready it only verifies.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o, err := a.options()
			if err != nil {
				return err
			}
			o.Once = once
			sparing()
			return asService(cmd.Context(), func(ctx context.Context) error {
				return bootstrap.Run(ctx, o)
			})
		},
	}
	c.Flags().
		BoolVar(&once, "once", false, "end when the VM is ready (exit code 0) or has failed (its class's exit code)")
	return c
}
