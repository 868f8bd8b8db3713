package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"azp-bootstrap/bootstrap"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/secret"
)

func (a *app) sweepCommand() *cobra.Command {
	var s bootstrap.Sweeping
	var existing string
	var fromStdin, asJSON bool
	c := &cobra.Command{
		Use:   "sweep",
		Short: "Remove agents of VMs that are gone; says what it would do until --yes",
		Long: `sweep looks at every agent of the configured target and removes those whose VM is gone: they carry the
instance ID of a VM (azp-bootstrap gave it to them), are offline, and their VM is not in the list of
--existing, or they have been offline for longer than --older-than (24h, unless a list is given). An
agent that is online, or that azp-bootstrap did not register, is never touched.

It says what it would do; with --yes it does it. It runs anywhere, with a configuration file or with
--set, and with the configured credential or a PAT from standard input. Make the list right before:
a VM that is missing from it counts as gone.`,
		Example: `  azp-bootstrap sweep
  az vmss list-instances -g shop -n web --query [].vmId -o tsv | azp-bootstrap sweep --existing - --yes
  azp-bootstrap sweep --pat-stdin --set url=https://dev.azure.com/contoso --set target.pool.name=Default <pat`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o, err := a.options()
			if err != nil {
				return err
			}
			if s.OlderThan < 0 {
				return fault.New(fault.Usage, "--older-than %s is negative", s.OlderThan).Hint("Write for example --older-than 24h.")
			}
			if existing == "-" && fromStdin {
				return fault.New(fault.Usage, "--existing - and --pat-stdin both read standard input").Hint("Give the list as a file.")
			}
			if existing != "" {
				if !cmd.Flags().Changed("older-than") {
					s.OlderThan = -1
				}
				if s.Existing, err = readInstances(existing, cmd.InOrStdin()); err != nil {
					return err
				}
			}
			if fromStdin {
				if s.PAT, err = readPAT(cmd); err != nil {
					return err
				}
				defer s.PAT.Drop()
			}
			report, err := bootstrap.Sweep(cmd.Context(), o, s)
			if report != nil {
				if e := showSweep(cmd.OutOrStdout(), report, s.Yes, asJSON); e != nil {
					return e
				}
			}
			for _, line := range report {
				if err == nil && line.Fate == bootstrap.Refused {
					err = &alreadyShown{fault.ByCode(line.Class).Exit}
				}
			}
			return err
		},
	}
	f := c.Flags()
	f.StringVar(&existing, "existing", "", "`FILE` with the instance IDs (vmId) of the VMs that exist, one per line; - = standard input")
	f.DurationVar(&s.OlderThan, "older-than", 24*time.Hour, "agents that are offline for longer are of VMs that are gone")
	f.BoolVar(&s.Yes, "yes", false, "remove them")
	f.BoolVar(&fromStdin, "pat-stdin", false, "read the PAT from standard input")
	f.BoolVar(&asJSON, "json", false, "as JSON, every agent of the target")
	return c
}

var instanceID = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// readInstances reads a list of instance IDs. One that is empty or holds something else is refused:
// it is what a failed command leaves, and would make every VM count as gone.
func readInstances(file string, stdin io.Reader) (map[string]bool, error) {
	in := stdin
	if file != "-" {
		f, err := os.Open(file) //nolint:gosec // the user names it
		if err != nil {
			return nil, fault.New(fault.Usage, "--existing").Because(err).Hint("Name a file with one instance ID per line.")
		}
		defer f.Close() //nolint:errcheck // only read
		in = f
	}
	const hint = "Make it so: az vmss list-instances -g GROUP -n NAME --query [].vmId -o tsv (single VMs: az vm list --query [].vmId -o tsv)."
	ids := map[string]bool{}
	lines := bufio.NewScanner(in)
	for n := 1; lines.Scan(); n++ {
		id := strings.ToLower(strings.TrimSpace(lines.Text()))
		if id == "" {
			continue
		}
		if !instanceID.MatchString(id) {
			return nil, fault.New(fault.Usage, "--existing %s: line %d is not an instance ID", file, n).Hint(hint)
		}
		ids[id] = true
	}
	if err := lines.Err(); err != nil {
		return nil, fault.New(fault.Usage, "--existing %s", file).Because(err).Hint(hint)
	}
	if len(ids) == 0 {
		return nil, fault.New(fault.Usage, "--existing %s: the list is empty", file).
			Hint("Every VM would count as gone. If that is so, use --older-than 0s in its place.")
	}
	return ids, nil
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
		return pat, fault.New(fault.Usage, "--pat-stdin: what standard input holds is no PAT").Because(err).Hint("Give the token alone: azp-bootstrap sweep --pat-stdin <FILE.")
	}
	return pat, nil
}

func showSweep(out io.Writer, report []bootstrap.Swept, yes, asJSON bool) error {
	if asJSON {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		return e.Encode(report)
	}
	counts := map[string]int{}
	foreign, online := 0, 0
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, line := range report {
		switch counts[line.Fate]++; {
		case line.Online:
			online++
			continue
		case line.InstanceID == "":
			foreign++
			continue
		}
		since := "unknown"
		if line.Since != nil {
			since = humanize.Time(*line.Since)
		}
		fmt.Fprintf(w, "%s\tVM %s\toffline since %s\t%s: %s\n", line.Agent, line.InstanceID, since, line.Fate, line.Why)
		if line.Hint != "" {
			fmt.Fprintf(w, "\tNext: %s\n", line.Hint)
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(out, "%d agents: %d online, %d offline that azp-bootstrap did not register, ", len(report), online, foreign)
	var err error
	switch {
	case yes && counts[bootstrap.Refused] > 0:
		_, err = fmt.Fprintf(out, "%d removed, %d could not be removed.\n", counts[bootstrap.Gone], counts[bootstrap.Refused])
	case yes:
		_, err = fmt.Fprintf(out, "%d removed.\n", counts[bootstrap.Gone])
	case counts[bootstrap.Doomed] > 0:
		_, err = fmt.Fprintf(out, "%d would be removed. Nothing was: --yes does it.\n", counts[bootstrap.Doomed])
	default:
		_, err = fmt.Fprintln(out, "none to remove.")
	}
	return err
}
