package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"azp-bootstrap/bootstrap"
)

func (a *app) deregisterCommand() *cobra.Command {
	var now bool
	c := &cobra.Command{
		Use:   "deregister",
		Short: "Drain the agent, remove it from Azure DevOps and remove its service",
		Long: `deregister takes this VM out of Azure DevOps: its agent gets no new job, a running one is waited for (up
to drain.timeout), then the agent is removed from its target and its service from this VM. It fetches
the PAT for that, and gives it to nothing on this VM.

The daemon leaves a VM that was deregistered alone; azp-bootstrap run --once joins it again.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o, err := a.options()
			if err != nil {
				return err
			}
			done, err := bootstrap.Deregister(cmd.Context(), o, now)
			if err != nil {
				return err
			}
			if !done {
				fmt.Fprintln(cmd.OutOrStdout(), "This VM is not registered.")
				return nil
			}
			fmt.Fprintln(cmd.OutOrStdout(), "Deregistered.")
			return nil
		},
	}
	c.Flags().BoolVar(&now, "now", false, "do not wait for a running job")
	return c
}

// options are those of every command that works on the VM.
func (a *app) options() (bootstrap.Options, error) {
	log, err := a.logger()
	return bootstrap.Options{ConfigFile: a.config, Set: a.set, StateDir: a.stateDir, Version: version, Console: true, Log: log, Redactor: &a.redactor}, err
}
