package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// act tells the running simulator to do something, and prints what it answers.
func act(cmd *cobra.Command, dir, path string, form url.Values) error {
	out, err := control(dir, http.MethodPost, path, form)
	if err == nil {
		_, err = cmd.OutOrStdout().Write(out)
	}
	return err
}

func job(dir *string) *cobra.Command {
	var takes time.Duration
	var name, run, pool string
	var wait bool
	c := &cobra.Command{
		Use:   "job [AGENT]",
		Short: "Give an agent a job",
		Long: `job gives a job to an agent that can take one. With --wait it is queued, and begins when the agent can
take it; with --pool any agent of the pool may.`,
		Args: cobra.MaximumNArgs(1),
	}
	c.Flags().BoolVar(&wait, "wait", false, "queue it, until the agent can take it")
	c.Flags().StringVar(&pool, "pool", "", "queue it for any agent of the pool of this `name`")
	c.Flags().DurationVar(&takes, "takes", 5*time.Second, "how long its work takes, after its step if it has one")
	c.Flags().StringVar(&run, "run", "", "its step: a shell `script`, run by the agent's worker in the work folder")
	c.Flags().StringVar(&name, "name", "deploy", "its `name`")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if run != "" && !cmd.Flags().Changed("takes") {
			takes = 0
		}
		if len(args) == 0 == (pool == "") {
			return errors.New("name an agent, or a pool with --pool")
		}
		form := url.Values{"agent": args, "name": {name}, "run": {run}, "takes": {takes.String()}, "pool": {pool},
			"wait": {strconv.FormatBool(wait || pool != "")}}
		return act(cmd, *dir, "/jobs", form)
	}
	return c
}

func refresh(dir *string) *cobra.Command {
	c := &cobra.Command{Use: "update-agent AGENT", Short: "Tell an agent to update itself, as a server does", Args: cobra.ExactArgs(1)}
	to := c.Flags().String("to", "4.250.0", "the `version`")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		return act(cmd, *dir, "/refresh", url.Values{"name": args, "version": {*to}})
	}
	return c
}

func setSecret(dir *string) *cobra.Command {
	var vault, value string
	var expiresIn time.Duration
	var disabled, rotate bool
	c := &cobra.Command{
		Use:   "set-secret NAME",
		Short: "Store a new version of a secret, as az keyvault secret set does",
		Long: `set-secret stores a new version of a secret in a vault. With --rotate the PAT that it held is revoked
in Azure DevOps, and the new value is a PAT with the same rights: a rotation.`,
		Example: `  azp-sim set-secret azp-pat --rotate
  azp-sim set-secret azp-pat --value 'not a PAT' --expires-in 96h`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			form := url.Values{
				"name": args, "vault": {vault}, "value": {value},
				"disabled": {strconv.FormatBool(disabled)}, "rotate": {strconv.FormatBool(rotate)},
			}
			if expiresIn != 0 {
				form.Set("expiresIn", expiresIn.String())
			}
			return act(cmd, *dir, "/set-secret", form)
		},
	}
	c.Flags().StringVar(&vault, "vault", "", "the vault's `host` (default: the first)")
	c.Flags().StringVar(&value, "value", "", "its `value` (default: a random one with the shape of a PAT)")
	c.Flags().DurationVar(&expiresIn, "expires-in", 0, "when it ends, from now")
	c.Flags().BoolVar(&disabled, "disabled", false, "disable it")
	c.Flags().BoolVar(&rotate, "rotate", false, "the value is a PAT, and the one before is revoked")
	return c
}

func event(dir *string) *cobra.Command {
	var in time.Duration
	var vms []string
	types := []string{"Terminate", "Preempt", "Reboot", "Redeploy", "Freeze"}
	c := &cobra.Command{
		Use: "event " + strings.Join(
			types,
			"|",
		),
		Short:     "Schedule an event for a VM or several, as the platform would",
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		ValidArgs: types,
	}
	c.Flags().DurationVar(&in, "in", 5*time.Minute, "not before this time from now")
	c.Flags().StringArrayVar(&vms, "vm", []string{"web_1"}, "`name` of a VM that it concerns; may be repeated")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		return act(cmd, *dir, "/events", url.Values{"type": {args[0]}, "vm": vms, "in": {in.String()}})
	}
	return c
}

func cancelEvent(dir *string) *cobra.Command {
	c := &cobra.Command{Use: "cancel-event ID", Short: "Cancel an event before it starts, as the platform may"}
	c.Args = cobra.ExactArgs(1)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		return act(cmd, *dir, "/cancel-event", url.Values{"id": {args[0]}})
	}
	return c
}

// enable makes the commands enable and disable.
func enable(dir *string, name string, enabled bool) *cobra.Command {
	c := &cobra.Command{Use: name + " AGENT", Short: "Let a person " + name + " an agent in the portal"}
	c.Args = cobra.ExactArgs(1)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		return act(cmd, *dir, "/enable", url.Values{"name": {args[0]}, "enabled": {strconv.FormatBool(enabled)}})
	}
	return c
}

func deleteAgent(dir *string) *cobra.Command {
	var leave bool
	c := &cobra.Command{
		Use:   "delete-agent NAME",
		Short: "Remove an agent from the servers, as a person would in the portal",
	}
	c.Args = cobra.ExactArgs(1)
	c.Flags().
		BoolVar(&leave, "leave-in-pool", false, "delete the VM resource or target only: the agent stays in the pool")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		return act(cmd, *dir, "/delete", url.Values{"name": {args[0]}, "leaveInPool": {strconv.FormatBool(leave)}})
	}
	return c
}

func rename(dir *string) *cobra.Command {
	kinds := []string{"pool", "project", "environment", "deploymentGroup"}
	c := &cobra.Command{Use: "rename " + strings.Join(kinds, "|") + " OLD NEW"}
	c.Short, c.Args = "Give a target or project another name; its ID stays", kindFirst(kinds, 3)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		return act(cmd, *dir, "/rename", url.Values{"kind": {args[0]}, "old": {args[1]}, "new": {args[2]}})
	}
	return c
}

func deleteTarget(dir *string) *cobra.Command {
	kinds := []string{"pool", "environment", "deploymentGroup"}
	c := &cobra.Command{Use: "delete-target " + strings.Join(kinds, "|") + " NAME"}
	c.Short, c.Args = "Delete a target and the agents in it", kindFirst(kinds, 2)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		return act(cmd, *dir, "/delete-target", url.Values{"kind": {args[0]}, "name": {args[1]}})
	}
	return c
}

// kindFirst wants so many arguments, of which the first is a kind.
func kindFirst(kinds []string, n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := cobra.ExactArgs(n)(cmd, args); err != nil {
			return err
		}
		if !slices.Contains(kinds, args[0]) {
			return fmt.Errorf("the kind is one of %s, not %q", strings.Join(kinds, ", "), args[0])
		}
		return nil
	}
}

func populate(dir *string) *cobra.Command {
	var n int
	var offline time.Duration
	c := &cobra.Command{
		Use: "populate POOL", Short: "Put agents of deleted VMs into a pool", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			form := url.Values{"pool": {args[0]}, "agents": {strconv.Itoa(n)}, "offline": {offline.String()}}
			if _, err := control(*dir, http.MethodPost, "/populate", form); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%d agents of VMs that are gone are in %s now.\n", n, args[0])
			return err
		},
	}
	c.Flags().IntVar(&n, "agents", 100, "how many")
	c.Flags().DurationVar(&offline, "offline-for", 48*time.Hour, "since when they are offline")
	return c
}

func ageAgent(dir *string) *cobra.Command {
	var offline, made time.Duration
	c := &cobra.Command{
		Use: "age-agent NAME", Short: "Let an agent be offline since long ago", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			form := url.Values{
				"name":    {args[0]},
				"offline": {offline.String()},
				"made":    {max(offline, made, 0).String()},
			}
			_, err := control(*dir, http.MethodPost, "/age", form)
			return err
		},
	}
	c.Flags().DurationVar(&offline, "offline-for", -1, "since when it is offline (default: as it is)")
	c.Flags().DurationVar(&made, "made", 0, "since when it is registered, at least as long")
	return c
}
