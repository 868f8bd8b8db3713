package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"azp-bootstrap/bootstrap/secret"
	"azp-bootstrap/cmd/azp-sim/compare"
)

// compareAzure is the command that asks a real Azure what the product asks, and the simulator the
// same.
func compareAzure() *cobra.Command {
	var q compare.Questions
	var v compare.Vault
	var pat, imds bool
	var caFile string
	c := &cobra.Command{
		Use:   "compare",
		Short: "Ask a real Azure DevOps, IMDS or vault and this simulator the same, and show what differs",
		Long: `compare sends the requests of azp-bootstrap to a real organization or collection, the same to a
simulator of its own, and prints where status, typeKey, or the keys and types of the JSON differ. It reads
only, unless --write is given: then a scratch agent is added to each target, changed, and removed again.

The report holds no names, values or secrets. Please paste it into an issue: each line shows where this
simulator, and so the tests of azp-bootstrap, are wrong about Azure.

Nothing differs: exit code 0. Something does: 1. The comparison could not be made: 2.`,
		Example: `  azp-sim compare --url https://dev.azure.com/contoso --pool Default --pat-stdin <pat.txt
  azp-sim compare --url https://dev.azure.com/contoso --project Shop --environment production \
      --deployment-group web-servers --write --pat-stdin <pat.txt
  azp-sim compare --imds --vault https://contoso.vault.azure.net --secret azp-pat      # on a VM in Azure`,
		Args:          cobra.NoArgs,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case q.URL == "" && !imds:
				return unfit("give --url, --imds or both")
			case q.URL != "" && !pat:
				return unfit("give the PAT on standard input, with --pat-stdin: an argument can be read by everyone")
			case (q.DeploymentGroup != "" || q.Environment != "") && q.Project == "":
				return unfit("a deployment group and an environment are of a --project")
			case v.URL != "" && (!imds || v.Secret == ""):
				return unfit("--vault needs --secret, and --imds for a token")
			case q.Pool == "" && q.DeploymentGroup == "" && q.Environment == "":
				q.Pool = "Default"
			}
			var err error
			if q.URL, err = address("--url", q.URL); err != nil {
				return err
			}
			if v.URL, err = address("--vault", v.URL); err != nil {
				return err
			}
			transport, err := outside(caFile)
			if err != nil {
				return unfit(err.Error())
			}
			var token secret.PAT
			if q.URL != "" {
				if token, err = patFrom(cmd.InOrStdin()); err != nil {
					return unfit(err.Error())
				}
			}
			return compared(cmd, q, v, imds, transport, token)
		},
	}
	f := c.Flags()
	f.StringVar(&q.URL, "url", "", "`URL` of the organization or collection")
	f.StringVar(&q.Pool, "pool", "", "`name` of an agent pool (default: Default, if no target is named)")
	f.StringVar(&q.Project, "project", "", "`name` of the project of deployment group and environment")
	f.StringVar(&q.DeploymentGroup, "deployment-group", "", "`name` of a deployment group")
	f.StringVar(&q.Environment, "environment", "", "`name` of an environment")
	f.BoolVar(&pat, "pat-stdin", false, "read the PAT from standard input")
	f.BoolVar(&q.Write, "write", false, "add a scratch agent to each target, change it, and remove it again")
	f.BoolVar(&imds, "imds", false, "ask this VM's Instance Metadata Service; this switches scheduled events on for it")
	f.StringVar(&v.Identity, "client-id", "", "client `ID` of the managed identity (default: the system-assigned one)")
	f.StringVar(&v.URL, "vault", "", "`URL` of a vault that the identity may read")
	f.StringVar(&v.Secret, "secret", "", "`name` of a secret in it; its value is not shown")
	f.StringVar(&caFile, "ca-file", "", "`file` of certificates that are trusted besides the system's")
	return c
}

func patFrom(in io.Reader) (secret.PAT, error) {
	text, err := io.ReadAll(io.LimitReader(in, 64<<10))
	if err != nil {
		return secret.PAT{}, err
	}
	pat, err := secret.NewPAT(string(text))
	if err != nil {
		return pat, fmt.Errorf("the PAT on standard input: %w", err)
	}
	return pat, nil
}

// unfit says why there is no comparison.
func unfit(why string) error { return &exit{2, why} }

// An exit is an end with a code of its own.
type exit struct {
	code int
	why  string
}

func (e *exit) Error() string { return e.why }

// address is an https:// address as both sides are asked by it.
func address(flag, given string) (string, error) {
	if given == "" {
		return "", nil
	}
	u, err := url.Parse(given)
	if err != nil || !strings.EqualFold(u.Scheme, "https") || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", unfit(flag + " is no https:// address without a user, a query and a fragment")
	}
	u.Scheme, u.Host = "https", strings.TrimSuffix(strings.ToLower(u.Host), ":443")
	return strings.TrimRight(u.String(), "/"), nil
}

// compared asks both sides and reports. What could not be asked is said when the report is out.
func compared(cmd *cobra.Command, q compare.Questions, v compare.Vault, imds bool, transport *http.Transport, token secret.PAT) error {
	dir, err := os.MkdirTemp("", "azp-compare-")
	if err != nil {
		return unfit(err.Error())
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder
	ctx := cmd.Context()
	progress := func(what string) { fmt.Fprintf(cmd.ErrOrStderr(), "asking: %s\n", what) }
	silent := func(string) {}
	var failed []error
	machine, side := compare.NewMachine(direct(), transport, v), compare.NewSide(q, transport, token)
	if imds {
		failed = append(failed, machine.Ask(ctx, progress))
	}
	if q.URL != "" {
		failed = append(failed, side.Ask(ctx, progress))
		q.Version = side.Version()
	}
	ctx = context.WithoutCancel(ctx) // the mirror is of this process, and quick
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	mirror, err := compare.NewMirror(ctx, q, v, dir, nil)
	if err != nil {
		return unfit(errors.Join(append(failed, err)...).Error())
	}
	var there, here []compare.Answer
	if imds {
		ours := mirror.Machine()
		_ = ours.Ask(ctx, silent) // what it was answered counts
		there, here = machine.Answers(), ours.Answers()
	}
	if q.URL != "" {
		ours := mirror.Side(q)
		if err := ours.Mirror(ctx, side); err != nil {
			failed = append(failed, err)
		}
		_ = ours.Ask(ctx, silent)
		there, here = append(there, side.Answers()...), append(here, ours.Answers()...)
	}
	failure := errors.Join(failed...)
	if len(there) == 0 && failure != nil {
		return unfit(failure.Error())
	}
	err = report(cmd.OutOrStdout(), there, compare.Differences(there, here))
	if failure != nil {
		return unfit("not everything could be asked: " + failure.Error())
	}
	return err
}

// direct is a transport for IMDS, which no proxy stands before.
func direct() *http.Transport { return &http.Transport{ResponseHeaderTimeout: 3 * time.Minute} }

// outside is a transport for all else, by the proxy of the environment.
func outside(caFile string) (*http.Transport, error) {
	t := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12},
		ResponseHeaderTimeout: time.Minute,
	}
	if caFile == "" {
		return t, nil
	}
	text, err := os.ReadFile(caFile) //nolint:gosec // the user names it
	if err != nil {
		return nil, err
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		return nil, err
	}
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no certificate in PEM form", caFile)
	}
	t.TLSClientConfig.RootCAs = pool
	return t, nil
}

// report prints what differs, in Markdown.
func report(w io.Writer, asked []compare.Answer, all []compare.Difference) error {
	fmt.Fprintf(w, "azp-sim compare: %d answers, %d of them differ\n", len(asked), len(all))
	before := ""
	for _, d := range all {
		if d.Question != before {
			fmt.Fprintf(w, "\n### %s\n", d.Question)
			before = d.Question
		}
		fmt.Fprintf(w, "- `%s`\n  - %s\n", d.Request, strings.Join(d.Lines, "\n  - "))
	}
	if len(all) > 0 {
		return &exit{1, ""}
	}
	return nil
}
