package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"azp-bootstrap/bootstrap"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/journal"
)

func (a *app) deregisterCommand() *cobra.Command {
	var how bootstrap.Leaving
	c := &cobra.Command{
		Use:   "deregister",
		Short: "Drain the agent, remove it from Azure DevOps and remove its service",
		Long: `deregister takes this VM out of Azure DevOps: its agent gets no new job, a running one is waited for (up
to drain.timeout), then the agent is removed from its target and its service from this VM. It uses
the PAT itself, and passes it to no other program on this VM.

Only this VM's own agent is removed. If Azure DevOps does not show it (its target was deleted, or the PAT's
owner may not see it), nothing is done; --local then forgets it on this VM alone.

The daemon leaves a VM that was deregistered alone; azp-bootstrap rejoin joins it again.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o, err := a.options()
			if err != nil {
				return err
			}
			var done bool
			if err := a.watched(cmd, o.Log, func(ctx context.Context) (err error) {
				done, err = bootstrap.Deregister(ctx, o, how)
				return err
			}); err != nil {
				s, e := a.readState()
				switch {
				case e != nil || s.Phase != journal.Ready:
				case s.Agent.Drained && s.Paused == nil:
					fmt.Fprintln(cmd.ErrOrStderr(), fault.Here("This VM stays, and its agent takes no jobs. When the cause is "+
						"fixed: deregister again, or let it work: systemctl restart azp-bootstrap."))
				default:
					fmt.Fprintln(cmd.ErrOrStderr(), "Nothing has changed: this VM stays as it was. Run deregister again when the cause is fixed.")
				}
				return err
			}
			if !done {
				fmt.Fprintln(
					cmd.OutOrStdout(),
					"This VM is not registered, as far as it knows, and does not join by itself: azp-bootstrap rejoin joins it.",
				)
				return nil
			}
			if how.Local {
				fmt.Fprintln(
					cmd.OutOrStdout(),
					"Deregistered on this VM. Azure DevOps was not asked: remove the agent there, if it still stands.",
				)
				return nil
			}
			fmt.Fprintln(cmd.OutOrStdout(), "Deregistered.")
			return nil
		},
	}
	c.Flags().BoolVar(&how.Now, "now", false, "do not wait for a running job")
	c.Flags().
		BoolVar(&how.Local, "local", false, "forget the registration on this VM only: what stands in Azure DevOps "+
			"stays there")
	return c
}

// options are those of every command that works on the VM.
func (a *app) options() (bootstrap.Options, error) {
	log, err := a.logger()
	return bootstrap.Options{Means: a.means(log), Version: version, Console: true}, err
}
