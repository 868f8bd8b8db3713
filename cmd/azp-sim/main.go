// Command azp-sim is Azure on a laptop, for dry runs and tests of azp-bootstrap: it simulates the
// Instance Metadata Service, Key Vault and Azure DevOps, and writes a stand-in agent package.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"azp-bootstrap/bootstrap/sim"
	"azp-bootstrap/bootstrap/sim/standin"
)

// version is set by the build (-ldflags "-X main.version=…").
var version = "dev"

func main() {
	if code, handled := standin.Main(os.Args); handled {
		os.Exit(code)
	}
	var dir string
	root := &cobra.Command{
		Use:   "azp-sim",
		Short: "Azure on a laptop: IMDS, Key Vault and Azure DevOps, simulated",
		Long: `azp-sim simulates the Azure that azp-bootstrap meets on a VM: the Instance Metadata Service, Key Vault
and Azure DevOps (Services, Server, TFS), under their true names behind a forward proxy, with TLS of
a throw-away authority. It is for dry runs and tests; never put it into an image.`,
		Example: `  azp-sim serve --dir /tmp/sim &
  azp-sim agent-package vsts-agent-linux-x64-4.248.0.tar.gz
  azp-sim agents --dir /tmp/sim
  azp-sim log --dir /tmp/sim`,
		Version:      version,
		SilenceUsage: true,
	}
	root.SetVersionTemplate("azp-sim {{.Version}}\n")
	root.PersistentFlags().StringVar(&dir, "dir", cmp.Or(os.Getenv("AZP_SIM_DIR"), "."), "`folder` of this simulator: ca.pem, sim.json, requests.jsonl")
	root.AddCommand(demo(), serve(&dir), agentPackage(), scenario(), machine(&dir), validate(), apply(&dir), setSecret(&dir),
		show(&dir, "log", "Show the requests seen", printLog),
		show(&dir, "agents", "Show the agents that stand on the servers", printAgents),
		job(&dir), refresh(&dir), show(&dir, "jobs", "Show the jobs that were queued", printLines),
		show(&dir, "fates", "Show which VMs were deleted or made anew through Azure Resource Manager", printLines),
		event(&dir), cancelEvent(&dir),
		show(&dir, "events", "Show the scheduled events, and who acknowledged them", printLines),
		enable(&dir, "enable", true), enable(&dir, "disable", false), deleteAgent(&dir), ageAgent(&dir), populate(&dir),
		rename(&dir), deleteTarget(&dir), compareAzure())
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := root.ExecuteContext(ctx); err != nil {
		var e *exit
		if !errors.As(err, &e) {
			os.Exit(1)
		}
		if e.why != "" {
			fmt.Fprintln(os.Stderr, "Error:", e.why)
		}
		os.Exit(e.code)
	}
}

func serve(dir *string) *cobra.Command {
	var file string
	var l sim.Listen
	c := &cobra.Command{
		Use:   "serve",
		Short: "Serve until interrupted",
		Long:  "serve listens on loopback and writes sim.json, with its addresses, into --dir when it is ready.",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := sim.Load(file)
			if err != nil {
				return err
			}
			if l.Dir, err = filepath.Abs(*dir); err != nil {
				return err
			}
			if err := os.MkdirAll(l.Dir, 0o755); err != nil { //nolint:gosec // nothing secret
				return err
			}
			_ = os.Remove(filepath.Join(l.Dir, "sim.json"))
			azure, err := sim.New(s, l.Dir)
			if err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			fmt.Fprintf(cmd.ErrOrStderr(), "azp-sim: serving; addresses are in %s\n", filepath.Join(l.Dir, "sim.json"))
			return azure.Serve(ctx, l)
		},
	}
	f := c.Flags()
	f.StringVar(&file, "scenario", "", "scenario `file` (azp-sim scenario prints the default)")
	f.StringVar(&l.IMDS, "imds", "127.0.0.1:0", "`address` of the first VM's metadata service")
	f.StringVar(&l.Proxy, "proxy", "127.0.0.1:0", "`address` of the forward proxy")
	f.StringVar(&l.Control, "control", "127.0.0.1:0", "`address` for azp-sim's own commands")
	f.StringArrayVar(&l.TLS, "tls", nil, "`address` that answers for every name without a proxy; may be repeated")
	return c
}

func agentPackage() *cobra.Command {
	var behaviour, program string
	names := make([]string, 0, len(standin.Behaviours))
	for n, what := range standin.Behaviours {
		names = append(names, fmt.Sprintf("  %-16s %s", n, what))
	}
	sort.Strings(names)
	c := &cobra.Command{
		Use:   "agent-package FILE",
		Short: "Write the stand-in agent package; prints its SHA-256",
		Long: "agent-package writes a stand-in for the Azure Pipelines agent's package and prints its " +
			"SHA-256: that of Windows if FILE ends in .zip.\n\nBehaviours (what goes wrong):\n" + strings.Join(
			names,
			"\n",
		),
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if program == "" {
				exe, err := os.Executable()
				if err != nil {
					return err
				}
				program = exe
			}
			sum, err := standin.WritePackage(args[0], program, behaviour)
			if err == nil {
				fmt.Fprintln(cmd.OutOrStdout(), sum)
			}
			return err
		},
	}
	c.Flags().StringVar(&behaviour, "behaviour", "", "let it go wrong in this `way`")
	c.Flags().StringVar(&program, "program", "", "azp-sim of the system that the package is for: its `file` (default: this program)")
	return c
}

func scenario() *cobra.Command {
	var vms int
	c := &cobra.Command{
		Use:   "scenario",
		Short: "Print the default scenario",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if vms < 1 || vms > 1000 {
				return errors.New("--vms is a number from 1 to 1000")
			}
			_, err := cmd.OutOrStdout().Write(sim.ScaleSet(vms))
			return err
		},
	}
	c.Flags().IntVar(&vms, "vms", 1, "`number` of VMs of its scale set")
	return c
}

// machine prints what lets azp-bootstrap on this machine be one of the simulated VMs.
func machine(dir *string) *cobra.Command {
	return &cobra.Command{
		Use:   "machine VM",
		Short: "Print the configuration that makes azp-bootstrap here one of the simulated VMs",
		Long: `machine prints a piece of azp-bootstrap's configuration (for conf.d) by which it meets this simulator as one
of its VMs: IMDS and proxy, the simulator's authority, and an agent in a folder of its own, without systemd.`,
		Example: "  azp-sim machine web_1 >/tmp/web_1/conf.d/azure.yaml",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := addresses(*dir)
			if err != nil {
				return err
			}
			imds, known := a.IMDS[args[0]]
			if !known {
				return fmt.Errorf("the scenario has no VM %s; it has: %s", args[0], strings.Join(slices.Sorted(maps.Keys(a.IMDS)), ", "))
			}
			home, err := filepath.Abs(filepath.Join(*dir, args[0]))
			if err != nil {
				return err
			}
			user := ""
			if os.Geteuid() == 0 {
				user = "nobody" // the agent never runs as root
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), `agent: {dir: %q, user: %q, service: process}
imds: {endpoint: %q}
network: {proxy: %q, noProxy: "", caFile: %q}
health: {listen: ""}
`, filepath.Join(home, "agent"), user, imds, a.Proxy, filepath.Join(filepath.Dir(home), "ca.pem"))
			return err
		},
	}
}

// addresses are where the running simulator serves.
func addresses(dir string) (a sim.Addresses, err error) {
	data, err := os.ReadFile(filepath.Join(dir, "sim.json")) //nolint:gosec // the user names it
	if err != nil {
		return a, fmt.Errorf("no simulator serves in %s: %w", dir, err)
	}
	return a, json.Unmarshal(data, &a)
}

func validate() *cobra.Command {
	return &cobra.Command{
		Use:   "validate SCENARIO",
		Short: "Check a scenario without serving it",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := sim.Load(args[0])
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s is good: %d VMs, %d vaults, %d servers, %d PATs, %d faults.\n", args[0],
				len(s.VMs), len(s.Vaults), len(s.Servers), len(s.PATs), len(s.Faults))
			return err
		},
	}
}

// control asks the running simulator.
func control(dir, method, path string, form url.Values) ([]byte, error) {
	a, err := addresses(dir)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequest(method, a.Control+path, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("the simulator of %s does not answer: %w", dir, err)
	}
	defer res.Body.Close() //nolint:errcheck // only read
	body, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = errors.New(strings.TrimSpace(string(body)))
	}
	return body, err
}

func show(dir *string, name, short string, human func(io.Writer, []byte) error) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{Use: name, Short: short, Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		body, err := control(*dir, http.MethodGet, "/"+name, nil)
		if err != nil {
			return err
		}
		if asJSON {
			_, err = cmd.OutOrStdout().Write(body)
			return err
		}
		return human(cmd.OutOrStdout(), body)
	}}
	c.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return c
}

func printLog(out io.Writer, body []byte) error {
	var log []sim.Request
	if err := json.Unmarshal(body, &log); err != nil {
		return err
	}
	for _, r := range log {
		fault := ""
		if r.Fault {
			fault = "  (fault)"
		}
		fmt.Fprintf(
			out,
			"%s  %-8s %3d %-7s %s%s\n",
			r.At.Format("15:04:05.000"),
			r.Service,
			r.Status,
			r.Method,
			r.URL,
			fault,
		)
	}
	return nil
}

func printAgents(out io.Writer, body []byte) error {
	var agents []sim.AgentSeen
	if err := json.Unmarshal(body, &agents); err != nil {
		return err
	}
	for _, a := range agents {
		fmt.Fprintln(out, a)
	}
	if len(agents) == 0 {
		fmt.Fprintln(out, "no agents")
	}
	return nil
}

func apply(dir *string) *cobra.Command {
	return &cobra.Command{
		Use:   "apply SCENARIO",
		Short: "Take VMs, vaults, PATs and faults from another scenario; agents stay",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			file, err := filepath.Abs(args[0])
			if err != nil {
				return err
			}
			if _, err = control(*dir, http.MethodPost, "/apply", url.Values{"file": {file}}); err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), "Taken. Its servers are not: for other servers, serve it anew.")
			return err
		},
	}
}

func printLines(out io.Writer, body []byte) error {
	var items []json.RawMessage
	err := json.Unmarshal(body, &items)
	for _, i := range items {
		fmt.Fprintf(out, "%s\n", i)
	}
	return err
}
