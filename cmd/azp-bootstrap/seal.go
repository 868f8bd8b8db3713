package main

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"

	"github.com/spf13/cobra"

	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/image"
	"azp-bootstrap/bootstrap/line"
)

func (a *app) sealCommand() *cobra.Command {
	var s image.Sealing
	var asJSON bool
	c := &cobra.Command{
		Use:   "seal",
		Short: "Image time, last step: remove all that belongs to this host, then check the image",
		Long: `seal is the last step of an image build: it removes the state, the agent's registration and service, the
journal and logs that name this host, so that every clone boots as new; with --deep also SSH host keys,
the machine's ID and cloud-init's traces (for builds without waagent -deprovision; something must make
the host keys anew at the first boot, as cloud-init does). Then it checks the
image and fails with the names of files that must not be in it: registrations, keys, state, tokens, logs
that name a host, files that others may write, a package that is not what it should be.

--check only checks, also images that others made; --root checks or seals an image that is mounted.
On a VM whose agent is registered seal refuses: azp-bootstrap deregister comes first.`,
		Example: `  azp-bootstrap seal --deep
  azp-bootstrap seal --check
  azp-bootstrap seal --check --root /mnt/image`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := a.logger(); err != nil { // its flags are checked for every command
				return err
			}
			if s.Check && s.Force {
				return fault.New(fault.Usage, "--check changes nothing: there is nothing to --force").
					Hint("Give one of the two.")
			}
			if err := needRootFor(s); err != nil {
				return err
			}
			s.Say = func(format string, args ...any) {
				fmt.Fprintln(cmd.ErrOrStderr(), line.Lines(fmt.Sprintf(format, args...)))
			}
			found, err := image.Seal(
				cmd.Context(),
				image.Where{ConfigFile: a.config, StateDir: a.stateDir, Set: a.set},
				s,
			)
			if err != nil {
				return err
			}
			if asJSON {
				e := json.NewEncoder(cmd.OutOrStdout())
				e.SetIndent("", "  ")
				e.SetEscapeHTML(false)
				if found == nil {
					found = []image.Finding{}
				}
				if err := e.Encode(found); err != nil {
					return err
				}
				if len(found) > 0 {
					return &alreadyShown{fault.State.Exit}
				}
				return nil
			}
			if len(found) > 0 {
				return image.Unsealed(found)
			}
			what := "Sealed: shut down and capture the image."
			if s.Check {
				what = "Nothing is in this image that must not be."
			}
			fmt.Fprintln(cmd.OutOrStdout(), what)
			return nil
		},
	}
	f := c.Flags()
	f.BoolVar(&s.Check, "check", false, "check only, change nothing")
	f.BoolVar(&s.Deep, "deep", false, "SSH host keys, the machine's ID and cloud-init's traces, too")
	f.BoolVar(&s.Force, "force", false, "although the agent is registered: it stays in Azure DevOps")
	f.StringVar(&s.Root, "root", "", "the image's root `folder`, where it is mounted; default: this machine")
	f.BoolVar(&asJSON, "json", false, "findings as JSON")
	return c
}

// needRootFor: sealing this machine takes root; an image's folder, whoever may write there.
func needRootFor(s image.Sealing) error {
	if (s.Root == "" || s.Root == "/") && runtime.GOOS != "windows" && os.Geteuid() != 0 {
		return fault.New(fault.State, "only root can look at all of this machine").Hint("Run it with sudo.")
	}
	return nil
}
