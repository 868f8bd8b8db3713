package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/fleet"
	"azp-bootstrap/bootstrap/line"
	"azp-bootstrap/bootstrap/secret"
)

func (a *app) sweepCommand() *cobra.Command {
	var s fleet.Sweeping
	var existing string
	var olderThan time.Duration
	var fromStdin, asJSON bool
	c := &cobra.Command{
		Use:   "sweep",
		Short: "Remove agents of deleted VMs; says what it would do until --yes",
		Long: `sweep looks at every agent of the configured target and removes those of deleted VMs: agents that
azp-bootstrap registered (they carry the instance ID of their VM), and that have been offline for
longer than --older-than: a day, or an hour if --existing gives a list of the VMs that exist. With a list,
an agent is removed only if its VM is not in the list and it tells where in Azure its VM is. Agents of an
earlier version do not tell that.

Never removed: an agent that is online, that azp-bootstrap did not register, that was registered less
than an hour ago (its VM may be joining), or that went offline less than an hour ago, unless --older-than
says so. Each agent is checked once more before it is removed.

A list that cannot be this target's is refused, and nothing is removed: one that lacks VMs whose agents
are online, or that names no VM of any agent here. If several scale sets share the target, list the VMs
of all of them, or let --scale-set limit the sweep to the one whose VMs are listed. Ages count from the
time that the list was made: of a file, when it was last written.

It says what it would do; with --yes it does it. It runs anywhere, with a configuration file or with
--set, and with the configured credential or a PAT from standard input.`,
		Example: `  azp-bootstrap sweep
  az vmss list-instances -g shop -n web --query '[].vmId' -o tsv |
    azp-bootstrap sweep --existing - --scale-set web --yes
  azp-bootstrap sweep --pat-stdin --set url=https://dev.azure.com/contoso --set target.pool.name=Default <pat`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := a.logger()
			if err != nil {
				return err
			}
			s.ConfigFile, s.Set, s.Log, s.Redactor = a.config, a.set, log, &a.redactor
			if cmd.Flags().Changed("older-than") {
				s.Policy.OlderThan = &olderThan
			}
			if olderThan < 0 {
				return fault.New(fault.Usage, "--older-than %s is negative", olderThan).
					Hint("Write for example --older-than 24h.")
			}
			if existing == "-" && fromStdin {
				return fault.New(fault.Usage, "--existing - and --pat-stdin both read standard input").
					Hint("Give the list as a file.")
			}
			if existing != "" {
				if s.Existing, err = readList(existing, cmd.InOrStdin()); err != nil {
					return err
				}
			}
			if fromStdin {
				if s.PAT, err = readPAT(cmd); err != nil {
					return err
				}
				defer s.PAT.Drop()
			}
			s.Progress = sweepProgress(cmd.ErrOrStderr())
			report, err := fleet.Sweep(cmd.Context(), s)
			if report != nil {
				if e := showSweep(cmd.OutOrStdout(), report, s.Yes, asJSON, s.Policy.Scope != fleet.Scope{}); e != nil {
					return e
				}
			}
			for _, v := range report {
				if err == nil && v.Fate == fleet.Refused {
					err = &alreadyShown{fault.ByCode(v.Class).Exit}
				}
			}
			return err
		},
	}
	f := c.Flags()
	f.StringVar(&existing, "existing", "",
		"`FILE` with the instance IDs (vmId) of the VMs that exist, one per line; - = standard input")
	f.DurationVar(
		&olderThan,
		"older-than",
		0,
		"only agents that are offline for longer (default 24h; with --existing 1h)",
	)
	scope := &s.Policy.Scope
	f.StringVar(&scope.ScaleSet, "scale-set", "", "only agents whose VM is of the scale set with this `NAME`")
	f.StringVar(
		&scope.ResourceGroup,
		"resource-group",
		"",
		"only agents whose VM is in the resource group with this `NAME`",
	)
	f.StringVar(
		&scope.SubscriptionID,
		"subscription",
		"",
		"only agents whose VM is in the subscription with this `ID`",
	)
	f.BoolVar(&s.Yes, "yes", false, "remove them")
	f.BoolVar(&fromStdin, "pat-stdin", false, "read the PAT from standard input")
	f.BoolVar(&asJSON, "json", false, "as JSON, every agent of the target")
	return c
}

// readList reads the list of VMs that exist. One from standard input was made just now.
func readList(file string, stdin io.Reader) (*fleet.List, error) {
	if file == "-" {
		return fleet.ReadList(stdin, file, time.Now())
	}
	const hint = "Name a file with one instance ID per line."
	f, err := os.Open(file) //nolint:gosec // the user names it
	if err != nil {
		return nil, fault.New(fault.Usage, "--existing").Because(err).Hint(hint)
	}
	defer f.Close() //nolint:errcheck // only read
	info, err := f.Stat()
	if err != nil {
		return nil, fault.New(fault.Usage, "--existing").Because(err).Hint(hint)
	}
	return fleet.ReadList(f, file, info.ModTime())
}

// sweepProgress shows on a terminal how far a sweep is.
func sweepProgress(out io.Writer) func(done, of int) {
	var bar *progressbar.ProgressBar
	return func(done, of int) {
		if of == 0 || !terminal(os.Stderr) {
			return
		}
		if bar == nil {
			bar = progressbar.NewOptions(of, progressbar.OptionSetWriter(out), progressbar.OptionShowCount(),
				progressbar.OptionSetDescription("removing agents"), progressbar.OptionClearOnFinish(),
				progressbar.OptionThrottle(100*time.Millisecond))
		}
		_ = bar.Set(done)
	}
}

// readPAT reads the PAT from standard input, without an echo on a terminal.
func readPAT(cmd *cobra.Command) (secret.PAT, error) {
	var data []byte
	var err error
	if terminal(os.Stdin) {
		fmt.Fprint(cmd.ErrOrStderr(), "PAT: ")
		data, err = term.ReadPassword(int(os.Stdin.Fd())) //nolint:gosec // a descriptor
		fmt.Fprintln(cmd.ErrOrStderr())
	} else {
		data, err = io.ReadAll(io.LimitReader(cmd.InOrStdin(), 64<<10))
	}
	defer clear(data)
	var pat secret.PAT
	if err == nil {
		pat, err = secret.NewPAT(string(data))
	}
	if err != nil {
		return pat, fault.New(fault.Usage, "--pat-stdin: what standard input holds is no PAT").Because(err).
			Hint("Give the token alone: azp-bootstrap sweep --pat-stdin <FILE.")
	}
	return pat, nil
}

// showSweep shows the verdicts; limited says that a scope was given.
func showSweep(out io.Writer, report []fleet.Verdict, yes, asJSON, limited bool) error {
	if asJSON {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		return e.Encode(report)
	}
	counts := map[string]int{}
	foreign, online, outside := 0, 0, 0
	hints := map[string]int{}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, v := range report {
		switch counts[v.Fate]++; {
		case v.Online:
			online++
			continue
		case v.InstanceID == "":
			foreign++
			continue
		case !v.InScope:
			outside++
		}
		since := "unknown"
		if v.Since != nil {
			since = humanize.Time(*v.Since)
		}
		fmt.Fprintf(w, "%s\tVM %s\toffline since %s\t%s: %s\n",
			line.Shown(v.Agent), line.Shown(v.InstanceID), since, v.Fate, line.Shown(v.Why))
		if v.Hint != "" {
			hints[line.Shown(v.Hint)]++
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, h := range slices.Sorted(maps.Keys(hints)) { // once for all that it is for
		whose := ""
		if hints[h] > 1 {
			whose = fmt.Sprintf(" (for %d of them)", hints[h])
		}
		fmt.Fprintf(out, "Next%s: %s\n", whose, h)
	}
	agents := "1 agent"
	if len(report) != 1 {
		agents = fmt.Sprintf("%d agents", len(report))
	}
	fmt.Fprintf(out, "%s: %d online, %d offline", agents, online, len(report)-online)
	var kept []string
	if foreign > 0 {
		kept = append(kept, fmt.Sprintf("%d not registered by azp-bootstrap", foreign))
	}
	if outside > 0 {
		kept = append(kept, fmt.Sprintf("%d out of scope", outside))
	}
	if len(kept) > 0 {
		fmt.Fprintf(out, " (%s)", strings.Join(kept, ", "))
	}
	fmt.Fprint(out, "; ")
	var err error
	left := counts[fleet.Refused] + counts[fleet.Doomed]
	switch {
	case yes && left > 0:
		_, err = fmt.Fprintf(out, "%d removed, %d could not be removed.\n", counts[fleet.Gone], left)
	case yes:
		_, err = fmt.Fprintf(out, "%d removed.\n", counts[fleet.Gone])
	case counts[fleet.Doomed] > 0:
		_, err = fmt.Fprintf(out, "%d would be removed. Nothing was: --yes does it.\n", counts[fleet.Doomed])
	default:
		_, err = fmt.Fprintln(out, "none to remove.")
	}
	if err == nil && limited && len(report) > 0 && !slices.ContainsFunc(report, func(v fleet.Verdict) bool { return v.InScope }) {
		_, err = fmt.Fprintln(out, "No agent here is of that scale set, resource group or subscription: are the names right?")
	}
	return err
}
