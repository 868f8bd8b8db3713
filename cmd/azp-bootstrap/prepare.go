package main

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/config"
	"azp-bootstrap/bootstrap/fault"
)

func (a *app) prepareCommand() *cobra.Command {
	var file, sum, dir, user string
	c := &cobra.Command{
		Use:   "prepare --package FILE --sha256 SUM",
		Short: "Image time: put a verified agent package in place",
		Long: `prepare puts the Azure Pipelines agent's package in place at image time, so that boot downloads
nothing: it verifies the file against its SHA-256, keeps it beside the agent's folder
(AGENT_DIR.package, root's own), unpacks it and creates the service user. Asked again with the same
package, it only verifies.

The agent's folder and user come from the configuration (agent.dir, agent.user) if there is one.`,
		Example: `  azp-bootstrap prepare --package vsts-agent-linux-x64-4.248.0.tar.gz --sha256 3f0c…`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" || sum == "" {
				return fault.New(fault.Usage, "--package and --sha256 are both needed").Hint("The agent's release page lists the file and its SHA-256 for each platform.")
			}
			var err error
			home := agent.Home{Dir: dir, User: user}
			flags := cmd.Flags()
			if !flags.Changed("dir") || !flags.Changed("user") {
				d, u, err := config.AgentHome(a.config, a.set)
				if err != nil {
					return err
				}
				if !flags.Changed("dir") {
					home.Dir = d
				}
				if !flags.Changed("user") {
					home.User = u
				}
			}
			if home.Dir, err = filepath.Abs(home.Dir); err != nil {
				return fault.New(fault.Usage, "--dir %s", dir).Because(err).Hint("Name an absolute path.")
			}
			m, err := home.Prepare(file, sum, func(format string, args ...any) {
				fmt.Fprintf(cmd.ErrOrStderr(), format+"\n", args...)
			})
			if err != nil {
				return err
			}
			what := "The agent"
			if m.Version != "" {
				what = "Agent " + m.Version
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s is in place: %s\n", what, home.Dir)
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&file, "package", "", "agent package `FILE` (.tar.gz, .zip on Windows)")
	f.StringVar(&sum, "sha256", "", "its SHA-256 `SUM`")
	f.StringVar(&dir, "dir", "", "the agent's `folder` (default: agent.dir of the configuration)")
	f.StringVar(&user, "user", "", "the agent's `account` (default: agent.user of the configuration)")
	return c
}
