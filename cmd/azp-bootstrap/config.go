package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/azure"
	"azp-bootstrap/bootstrap/config"
	"azp-bootstrap/bootstrap/line"
	"azp-bootstrap/bootstrap/vm"
)

func (a *app) configCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "config",
		Short: "Show, check or begin the configuration",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var asJSON, effective bool
	show := &cobra.Command{
		Use:   "show",
		Short: "Show the effective values, each with its source",
		Long: `show prints the values of the files, the environment and the flags, each with its source. User data
and VM tags are added at boot: --effective asks IMDS for them, on the VM, and shows the agent's name and
tags as they become on this VM.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := a.load(a.config)
			if err != nil {
				return err
			}
			var this *vm.VM
			if effective {
				if this, err = a.thisVM(cmd.Context()); err != nil {
					return err
				}
				cfg = this.Config
			}
			if !asJSON {
				fmt.Fprint(cmd.OutOrStdout(), cfg.Show())
				if this != nil {
					fmt.Fprintf(cmd.OutOrStdout(), "\n# on this VM, %s: the agent %q, with the tags %s\n",
						line.Shown(this.Instance.Name), this.AgentName, config.ShowValue(this.AgentTags))
				}
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
	show.Flags().BoolVar(&effective, "effective", false, "with user data and VM tags, which IMDS is asked for")
	example := &cobra.Command{
		Use:     "example",
		Short:   "Print a configuration with every key, explained",
		Example: "  azp-bootstrap config example >/etc/azp-bootstrap/config.yaml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := cmd.OutOrStdout().Write(exampleConfig)
			return err
		},
	}
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
			unseen := ""
			if ca := cfg.Network.CAFile; len(args) == 0 || args[0] == a.config {
				if _, err := (azure.Network{CAFile: ca}).Authorities(); err != nil {
					return err
				}
			} else if ca != "" {
				unseen = "Not looked at: " + ca + " (network.caFile), a file of the VM: run config check there.\n"
			}
			where := "the collection " + cfg.Server.Name + " of " + cfg.Server.Root
			if cfg.Server.Hosted {
				where = "the organization " + cfg.Server.Name
			}
			target := fmt.Sprintf("%s %q", cfg.Target.Kind(), cfg.Target.Name())
			if cfg.Target.Kind() == "" {
				target = "a target from user data or tags"
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s is good: joins %s in %s.\n%s", file, target, where, unseen)
			return nil
		},
	}
	schema := &cobra.Command{
		Use:   "schema",
		Short: "Print the configuration's JSON Schema, by which editors complete and check it",
		Long: `schema prints a JSON Schema of the configuration. Editors with a YAML language server complete and check a file
that begins with the line
  # yaml-language-server: $schema=PATH-OR-URL
It knows keys, types, words and defaults; config check knows more.`,
		Example: "  azp-bootstrap config schema >azp-bootstrap.schema.json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			e := json.NewEncoder(cmd.OutOrStdout())
			e.SetIndent("", "  ")
			e.SetEscapeHTML(false)
			return e.Encode(config.JSONSchema(string(exampleConfig)))
		},
	}
	c.AddCommand(show, check, example, schema)
	return c
}

//go:embed example.yaml
var exampleConfig []byte

// thisVM is the VM as its boot finds it: with user data and tags.
func (a *app) thisVM(ctx context.Context) (*vm.VM, error) {
	s, err := a.means(nil).Sources()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	v, err := s.Identify(ctx)
	return &v, err
}

func (a *app) load(file string) (*config.Config, error) {
	l, err := config.Load(file, os.Environ(), a.set)
	if err != nil {
		return nil, err
	}
	return l.Config()
}
