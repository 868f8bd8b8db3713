package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"azp-bootstrap/bootstrap/doctor"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/line"
)

func (a *app) doctorCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Check everything this VM needs to join; changes nothing",
		Long: `doctor checks configuration, IMDS, identity, vault, secret, PAT, scopes, target, agent package, service,
clock and disk, one line each, with the fix. It changes nothing. Exit code: 0, or the class's of the
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
	return c
}

func showChecks(out io.Writer, report []doctor.Check, color bool) {
	marks := map[string][2]string{doctor.OK: {"✓", "32"}, doctor.Bad: {"✗", "31"}, doctor.Skipped: {"–", "2"}}
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
