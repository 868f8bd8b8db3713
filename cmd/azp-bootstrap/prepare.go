package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/config"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/image"
	"azp-bootstrap/bootstrap/line"
)

func (a *app) prepareCommand() *cobra.Command {
	p := image.Preparation{Source: agent.DownloadSource}
	var noDependencies bool
	var pinned string
	c := &cobra.Command{
		Use:   "prepare --lock FILE | --package FILE --sha256 SUM | --pin VERSION",
		Short: "Image time: put a verified agent package in place",
		Long: `prepare puts the Azure Pipelines agent's package in place at image time, so that boot downloads
nothing: it downloads the package that the lock file pins for this platform (or takes the file at
hand), verifies its SHA-256, keeps it beside the agent's folder (AGENT_DIR.package, root's own), unpacks
it, creates the service user and the groups of agent.groups, and installs the native libraries that the agent needs, by the
distribution's package manager. If the same package is in place already, it only verifies.

A lock file has one line for each platform: PLATFORM VERSION SHA256. --pin VERSION writes this platform's:
compare its sum with the agent's release page before others build by it. The agent's folder and user, and
the way out (network), come from the configuration if there is one.`,
		Example: `  azp-bootstrap prepare --pin 4.269.0 --lock agent.lock
  azp-bootstrap prepare --lock agent.lock
  azp-bootstrap prepare --lock agent.lock --package vsts-agent-linux-x64-4.248.0.tar.gz
  azp-bootstrap prepare --package vsts-agent-linux-x64-4.248.0.tar.gz --sha256 3f0c…`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case pinned != "" && (p.SHA256 != "" || p.Package != ""):
				return fault.New(fault.Usage, "--pin downloads the package of a version").
					Hint("Leave --package and --sha256 away.")
			case pinned != "" && !agent.IsVersion(pinned):
				return fault.New(fault.Usage, "--pin %s is no version of the agent", line.Shown(pinned)).
					Hint("Write for example --pin 4.269.0: see the agent's release page.")
			case pinned != "" && p.Lock == "":
				p.Lock = "agent.lock"
			case pinned != "":
			case p.SHA256 != "" && p.Lock != "":
				return fault.New(fault.Usage, "--sha256 and --lock both say what the package must be").
					Hint("Give one of the two.")
			case p.SHA256 != "" && p.Package == "":
				return fault.New(fault.Usage, "--sha256 says nothing without --package").
					Hint("Give the file as well, or a lock file: --lock FILE.")
			case p.SHA256 == "" && p.Lock == "":
				return fault.New(fault.Usage, "neither --lock nor --sha256 says what the package must be").
					Hint("Give a lock file (--lock FILE), or --package FILE --sha256 SUM: the agent's release page " +
						"lists the sum for each platform.")
			}
			if _, err := a.logger(); err != nil { // its flags are checked for every command
				return err
			}
			p.By = version
			if err := protectOwn(); err != nil {
				return err
			}
			if err := a.home(cmd, &p); err != nil {
				return err
			}
			p.Dependencies = !noDependencies
			p.Report = func(format string, args ...any) {
				fmt.Fprintln(cmd.ErrOrStderr(), line.Lines(fmt.Sprintf(format, args...)))
			}
			p.Progress = a.progress(cmd)
			put := image.Prepare
			if pinned != "" {
				put = func(ctx context.Context, p image.Preparation) (agent.Manifest, error) {
					return image.Pin(ctx, p, pinned)
				}
			}
			m, err := put(cmd.Context(), p)
			if err != nil {
				return err
			}
			what := "The agent"
			if m.Version != "" {
				what = "Agent " + m.Version
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s is in place: %s\n", what, p.Dir)
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&pinned, "pin", "", "download this `VERSION`, and write its sum into the lock file (default agent.lock)")
	f.StringVar(&p.Lock, "lock", "", "lock `FILE` that pins version and SHA-256 for each platform")
	f.StringVar(
		&p.Package,
		"package",
		"",
		"agent package `FILE` at hand (.tar.gz, .zip on Windows); nothing is downloaded",
	)
	f.StringVar(&p.SHA256, "sha256", "", "its SHA-256 `SUM`, in place of a lock file")
	f.StringVar(&p.Source, "source", p.Source, "`URL` below which packages are, as VERSION/FILE")
	f.BoolVar(&noDependencies, "no-dependencies", false, "do not install the native libraries that the agent needs")
	f.BoolVar(&p.Trust, "trust", false, "Windows: put the authorities of network.caFile into this machine's store, which the agent trusts")
	f.StringVar(&p.Dir, "dir", "", "the agent's `folder` (default: agent.dir of the configuration)")
	f.StringVar(&p.User, "user", "", "the agent's `account` (default: agent.user of the configuration)")
	return c
}

// home completes what flags say by what the configuration says.
func (a *app) home(cmd *cobra.Command, p *image.Preparation) error {
	t, err := config.ForImage(a.config, a.set)
	if err != nil {
		return err
	}
	p.Network, p.Groups = t.Network, t.Groups
	if !cmd.Flags().Changed("dir") {
		p.Dir = t.Dir
	}
	if !cmd.Flags().Changed("user") {
		p.User = t.User
	}
	if p.Dir, err = filepath.Abs(p.Dir); err != nil {
		return fault.New(fault.Usage, "--dir %s", p.Dir).Because(err).Hint("Name an absolute path.")
	}
	return nil
}

// progress shows a download: a bar on a terminal, a line every ten seconds elsewhere.
func (a *app) progress(cmd *cobra.Command) func(done, total int64) {
	if terminal(os.Stderr) {
		var bar *progressbar.ProgressBar
		return func(done, total int64) {
			if bar == nil || bar.GetMax64() != total {
				bar = progressbar.NewOptions64(
					total,
					progressbar.OptionSetWriter(cmd.ErrOrStderr()),
					progressbar.OptionShowBytes(true),
					progressbar.OptionThrottle(
						100*time.Millisecond,
					),
					progressbar.OptionClearOnFinish(),
					progressbar.OptionSetWidth(40),
				)
			}
			_ = bar.Set64(done)
		}
	}
	next := time.Now().Add(10 * time.Second)
	return func(done, total int64) {
		if time.Now().Before(next) {
			return
		}
		next = time.Now().Add(10 * time.Second)
		of := ""
		if total > 0 {
			of = " of " + humanize.Bytes(uint64(total))
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "  %s%s\n", humanize.Bytes(uint64(done)), of) //nolint:gosec // not negative
	}
}
