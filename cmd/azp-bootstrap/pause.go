package main

import (
	"context"
	"fmt"
	"os"
	"os/user"
	"time"

	"github.com/spf13/cobra"

	"azp-bootstrap/bootstrap"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/line"
)

func (a *app) pauseCommand() *cobra.Command {
	var how bootstrap.Pausing
	c := &cobra.Command{
		Use:   "pause",
		Short: "Let the agent take no new job, for maintenance of this VM",
		Long: `pause disables this VM's own agent in Azure DevOps, for patches and reboots: it takes no new job, and the
running one goes on. The VM stays joined and Healthy. The pause outlasts reboots, restarts of the daemon and new
registrations; azp-bootstrap resume ends it, and so does a deregister.

--wait returns when no job runs any more. If one still runs after --timeout, the exit code is 18, and the VM
stays paused.
If Azure DevOps cannot be asked within two minutes nothing is changed, and the exit code is the class's of the error.`,
		Example: `  azp-bootstrap pause --wait --timeout 2h --reason "kernel update" && reboot
  azp-bootstrap resume`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if how.Timeout <= 0 {
				return fault.New(fault.Usage, "--timeout %s is not more than zero", how.Timeout).
					Hint("Write for example --timeout 2h.")
			}
			how.By = operator()
			waits := how.Timeout
			if !how.Wait {
				waits = 0
			}
			return a.tells(cmd, func(ctx context.Context, o bootstrap.Options) (string, error) {
				return bootstrap.Pause(ctx, o, how)
			}, waits)
		},
	}
	c.Flags().BoolVar(&how.Wait, "wait", false, "return when no job runs any more")
	c.Flags().DurationVar(&how.Timeout, "timeout", time.Hour, "with --wait: how long a running job is waited for")
	c.Flags().StringVar(&how.Reason, "reason", "", "why, in one line of `text`: status and /healthz show it")
	return c
}

func (a *app) resumeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "resume",
		Short: "Let the agent take jobs again after a pause",
		Long: `resume ends a pause: it enables the agent that the pause has disabled. An agent that somebody had
disabled in Azure DevOps before stays so, and that is said.
If Azure DevOps cannot be asked within two minutes nothing is changed, and the exit code is the class's of the error.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.tells(cmd, bootstrap.Resume, 0)
		},
	}
}

// tells does work that ends with a sentence.
func (a *app) tells(
	cmd *cobra.Command, work func(context.Context, bootstrap.Options) (string, error), waits time.Duration,
) error {
	o, err := a.options()
	if err != nil {
		return err
	}
	said, end := "", time.Now().Add(waits).Format("15:04:05")
	err = a.drawn(cmd, o.Log, func(s *screen, over bool) {
		state, err := a.readState()
		switch {
		case over || err != nil:
		case waits > 0 && state.Paused != nil:
			s.says("paused", "waits for its job until "+end)
		default:
			s.says("asks", "Azure DevOps")
		}
	}, func(ctx context.Context) (err error) {
		said, err = work(ctx, o)
		return err
	})
	if err == nil {
		fmt.Fprintln(cmd.OutOrStdout(), said)
	}
	return err
}

// longestName is how long an account's name may be: those of a directory are longer than Linux's own.
const longestName = 128

// operator is the account that runs this command: sudo's caller, if there is one.
func operator() string {
	names := []string{os.Getenv("SUDO_USER")}
	if u, err := user.Current(); err == nil {
		names = append(names, u.Username)
	}
	for _, name := range names {
		if name != "" && line.Wrong(name, longestName) == "" && line.Shown(name) == name {
			return name
		}
	}
	return fmt.Sprintf("the account %d", os.Geteuid())
}
