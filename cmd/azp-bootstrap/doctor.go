package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"azp-bootstrap/bootstrap/doctor"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/line"
)

func (a *app) doctorCommand() *cobra.Command {
	var asJSON bool
	var only []string
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Check everything this VM needs to join; changes nothing",
		Long: `doctor checks configuration, IMDS, identity, vault, secret, PAT, scopes, target, agent package, service,
clock, disk, what the agent's start waits for, and whether jobs reach Azure's metadata service, one line each, with the fix. It changes nothing. Exit code: 0, or the class's of the
first check that failed; what failed after it may follow from it.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o, err := a.options()
			if err != nil {
				return err
			}
			report, err := doctor.Examine(cmd.Context(), o.Means)
			if err != nil {
				return err
			}
			if report, err = chosen(report, only); err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if asJSON {
				e := json.NewEncoder(out)
				e.SetIndent("", "  ")
				e.SetEscapeHTML(false)
				err = e.Encode(report)
			} else {
				showChecks(out, report, out == os.Stdout && colour(os.Stdout))
			}
			for _, c := range report {
				if err == nil && c.Outcome == doctor.Bad {
					err = &alreadyShown{fault.ByCode(c.Class).Exit}
				}
			}
			return err
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	c.Flags().StringSliceVar(&only, "only", nil, "show only these `checks`, and what kept them from being made: vault,pat")
	return c
}

// chosen leaves of a report the checks of these names. One that was not made because something before
// it failed is no answer: what failed is left, too.
func chosen(report []doctor.Check, only []string) ([]doctor.Check, error) {
	if len(only) == 0 {
		return report, nil
	}
	names := make([]string, 0, len(report))
	for _, c := range report {
		names = append(names, c.Name)
	}
	unmade := false
	for _, name := range only {
		i := slices.Index(names, name)
		if i < 0 {
			return nil, fault.New(fault.Usage, "there is no check %q", name).Hint("The checks: %s.", strings.Join(names, ", "))
		}
		unmade = unmade || report[i].Outcome == doctor.Skipped
	}
	return slices.DeleteFunc(report, func(c doctor.Check) bool {
		return !slices.Contains(only, c.Name) && (!unmade || c.Outcome != doctor.Bad)
	}), nil
}

func showChecks(out io.Writer, report []doctor.Check, color bool) {
	marks := map[string][2]string{doctor.OK: {"✓", "32"}, doctor.Bad: {"✗", "31"}, doctor.Skipped: {"–", "2"}, doctor.Warned: {"!", "33"}}
	for _, c := range report {
		m := marks[c.Outcome]
		if color {
			m[0] = "\x1b[" + m[1] + "m" + m[0] + "\x1b[0m"
		}
		fmt.Fprintf(out, "%s %-13s %s\n", m[0], c.Name, line.Lines(c.Detail))
		if c.Hint != "" {
			fmt.Fprintf(out, "  %-13s Next: %s\n", "", line.Lines(c.Hint))
		}
	}
}
