package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/config"
)

func (a *app) configCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "config",
		Short: "Show or check the configuration",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var asJSON bool
	show := &cobra.Command{
		Use:   "show",
		Short: "Show the effective values, each with its source",
		Long: "show prints the effective values of the local sources, each with its source. User data and VM tags " +
			"are added at boot.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := a.load(a.config)
			if err != nil {
				return err
			}
			if !asJSON {
				fmt.Fprint(cmd.OutOrStdout(), cfg.Show())
				return nil
			}
			type entry struct {
				Value  string `json:"value"`
				Source string `json:"source"`
			}
			out := map[string]entry{}
			for k, v := range cfg.Values {
				out[k] = entry{config.ShowValue(v.Any), v.Where}
			}
			e := json.NewEncoder(cmd.OutOrStdout())
			e.SetIndent("", "  ")
			e.SetEscapeHTML(false)
			return e.Encode(out)
		},
	}
	show.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	check := &cobra.Command{
		Use:   "check [FILE]",
		Short: "Check the configuration; needs no Azure",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			file := a.config
			if len(args) == 1 {
				file = args[0]
			}
			cfg, err := a.load(file)
			if err != nil {
				return err
			}
			if err := (agent.Home{Dir: cfg.Agent.Dir, User: cfg.Agent.User}).Guarded(); err != nil {
				return err
			}
			where := "the collection " + cfg.Server.Name + " of " + cfg.Server.Root
			if cfg.Server.Hosted {
				where = "the organization " + cfg.Server.Name
			}
			target := fmt.Sprintf("%s %q", cfg.Target.Kind(), cfg.Target.Name())
			if cfg.Target.Kind() == "" {
				target = "a target from user data or tags"
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s is good: joins %s in %s.\n", file, target, where)
			return nil
		},
	}
	c.AddCommand(show, check)
	return c
}

func (a *app) load(file string) (*config.Config, error) {
	l, err := config.Load(file, os.Environ(), a.set)
	if err != nil {
		return nil, err
	}
	return l.Config()
}
