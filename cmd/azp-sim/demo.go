package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"
	"golang.org/x/term"

	"azp-bootstrap/bootstrap/sim"
	"azp-bootstrap/bootstrap/sim/standin"
)

// A demonstration is a simulated Azure, and one VM that boots against it. Everything lives in a temporary folder
// and is gone afterwards.
type demonstration struct {
	target, server, program string
	keep                    bool

	out   io.Writer
	dir   string
	begun bool // the VM's disk is prepared
}

// Kinds of targets and servers that the default scenario has.
var (
	demoTargets = map[string]any{
		"environment":     map[string]any{"environment": map[string]any{"project": "Shop", "name": "production", "tags": []string{"web", "{{.Location}}"}}},
		"deploymentGroup": map[string]any{"deploymentGroup": map[string]any{"project": "Shop", "name": "web-servers", "tags": []string{"web"}}},
		"pool":            map[string]any{"pool": map[string]any{"name": "Default"}},
	}
	demoServers = map[string]string{
		"services": "https://dev.azure.com/contoso",
		"server":   "https://devops.corp/DefaultCollection/",
		"tfs":      "https://tfs.corp:8080/tfs/DefaultCollection",
	}
)

func demo() *cobra.Command {
	d := demonstration{}
	targets, servers := []string{"environment", "deploymentGroup", "pool"}, []string{"services", "server", "tfs"}
	c := &cobra.Command{
		Use:   "demo",
		Short: "Boot a VM against a simulated Azure, and take it out again",
		Long: `demo simulates an Azure and boots one VM against it, with azp-bootstrap from this program's folder: image
time, the first boot, status, what Azure saw, and leaving. Everything is in a temporary folder and gone
afterwards. On Windows the agent is a service: run it in an elevated prompt.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !slices.Contains(targets, d.target) || !slices.Contains(servers, d.server) {
				return fmt.Errorf("the target is one of %s, the server one of %s", strings.Join(targets, ", "), strings.Join(servers, ", "))
			}
			d.out = cmd.OutOrStdout()
			return d.run(cmd.Context())
		},
	}
	f := c.Flags()
	f.StringVar(&d.target, "target", "environment", "`kind` of target: "+strings.Join(targets, ", "))
	f.StringVar(&d.server, "server", "services", "`kind` of server: "+strings.Join(servers, ", "))
	f.StringVar(&d.program, "program", "", "azp-bootstrap's `file` (default: the one beside this program)")
	f.BoolVar(&d.keep, "keep", false, "leave the VM running until this is interrupted, to play with")
	return c
}

func (d *demonstration) run(ctx context.Context) (err error) {
	if err := d.find(); err != nil {
		return err
	}
	if d.dir, err = os.MkdirTemp("", "azp-demo-"); err != nil {
		return err
	}
	if err := os.Chmod(d.dir, 0o755); err != nil { //nolint:gosec // the agent is another user
		return err
	}
	served, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	defer func() {
		if d.begun { // nothing of it runs on
			left := d.azp(context.Background(), io.Discard, "deregister", "--now")
			err = errors.Join(err, left)
		}
		stop()
		<-ended
		forgetRoots()
		err = errors.Join(err, removePatiently(d.dir))
	}()

	d.say("1. Azure (simulated): IMDS, Key Vault, Azure DevOps")
	where, err := d.serve(served, ended)
	if err != nil {
		return err
	}
	fmt.Fprintf(d.out, "IMDS %s, the rest of Azure behind the proxy %s\n", where.IMDS["web_1"], where.Proxy)

	d.say("2. Image time: the configuration, and the (stand-in) agent package, verified")
	if err := d.configure(where); err != nil {
		return err
	}
	file := filepath.Join(d.dir, standinPackage)
	own, err := os.Executable()
	if err != nil {
		return err
	}
	sum, err := standin.WritePackage(file, own, "")
	if err != nil {
		return err
	}
	d.begun = true
	steps := []struct {
		title string
		args  []string
	}{
		{"", []string{"prepare", "--package", file, "--sha256", sum}},
		{"3. First boot: azp-bootstrap run --once", []string{"run", "--once"}},
		{"4. azp-bootstrap status", []string{"status"}},
	}
	for _, s := range steps {
		if s.title != "" {
			d.say(s.title)
		}
		if err := d.azp(ctx, d.out, s.args...); err != nil {
			return err
		}
	}

	d.say("5. What Azure saw: the agents on its servers, and the requests of this boot")
	if err := d.saw(); err != nil {
		return err
	}
	if d.keep {
		return d.stay(ctx)
	}
	d.say("6. The VM goes: azp-bootstrap deregister")
	if err := d.azp(ctx, d.out, "deregister"); err != nil {
		return err
	}
	d.begun = false
	d.say("Done: the VM was in the " + d.target + " at " + demoServers[d.server] + ". Cleaning up.")
	return nil
}

// saw shows what Azure saw.
func (d *demonstration) saw() error {
	agents, err := control(d.azure(), http.MethodGet, "/agents", nil)
	if err != nil {
		return err
	}
	log, err := control(d.azure(), http.MethodGet, "/log", nil)
	if err != nil {
		return err
	}
	return errors.Join(printAgents(d.out, agents), printLog(d.out, log))
}

func (d *demonstration) azure() string { return filepath.Join(d.dir, "azure") }

// find looks where azp-bootstrap is.
func (d *demonstration) find() error {
	name := "azp-bootstrap"
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	if d.program == "" {
		own, err := os.Executable()
		if err != nil {
			return err
		}
		d.program = filepath.Join(filepath.Dir(own), name)
	}
	if _, err := os.Stat(d.program); err != nil {
		return fmt.Errorf("azp-bootstrap is not beside this program, and --program does not say where it is: %w", err)
	}
	return nil
}

// serve lets Azure answer until ctx ends.
func (d *demonstration) serve(ctx context.Context, ended chan<- error) (where sim.Addresses, err error) {
	s, err := sim.Load("")
	if err == nil {
		err = os.MkdirAll(d.azure(), 0o755) //nolint:gosec // nothing secret
	}
	var azure *sim.Sim
	if err == nil {
		azure, err = sim.New(s, d.azure())
	}
	if err != nil {
		ended <- nil
		return where, err
	}
	const local = "127.0.0.1:0"
	served := make(chan error, 1)
	go func() {
		served <- azure.Serve(ctx, sim.Listen{Dir: d.azure(), IMDS: local, Proxy: local, Control: local})
	}()
	for {
		if where, err = addresses(d.azure()); err == nil {
			go func() { ended <- <-served }()
			return where, rememberRoots(filepath.Join(d.azure(), "ca.pem"))
		}
		select {
		case err := <-served:
			ended <- nil
			return where, cmp.Or(err, errors.New("the simulator ended"))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// configure writes the VM's configuration, and shows it.
func (d *demonstration) configure(where sim.Addresses) error {
	user := ""
	if os.Geteuid() == 0 {
		user = "nobody" // the agent never runs as root
	}
	form := "process"
	if runtime.GOOS == "windows" {
		form = "auto"
	}
	type group = map[string]any
	text, err := yaml.Marshal(group{
		"url": demoServers[d.server], "target": demoTargets[d.target],
		"agent":      group{"dir": filepath.Join(d.dir, "agent"), "user": user, "service": form},
		"credential": group{"keyVault": group{"url": "https://contoso.vault.azure.net", "secret": "azp-pat"}},
		"network":    group{"proxy": where.Proxy, "caFile": filepath.Join(d.azure(), "ca.pem")},
		"imds":       group{"endpoint": where.IMDS["web_1"]},
		"health":     group{"listen": ""},
	})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(d.file()), 0o755); err != nil { //nolint:gosec // nothing secret
		return err
	}
	fmt.Fprintf(d.out, "%s", text)
	return os.WriteFile(d.file(), text, 0o644) //nolint:gosec // nothing secret
}

func (d *demonstration) file() string { return filepath.Join(d.dir, "etc", "config.yaml") }

func (d *demonstration) azp(ctx context.Context, out io.Writer, args ...string) error {
	c := exec.CommandContext(ctx, d.program, append([]string{"--config", d.file(), "--state-dir", filepath.Join(d.dir, "state")}, args...)...)
	c.Stdout, c.Stderr = out, out
	if err := c.Run(); err != nil {
		return fmt.Errorf("azp-bootstrap %s: %w", strings.Join(args, " "), err)
	}
	return nil
}

func (d *demonstration) say(what string) {
	if f, ok := d.out.(*os.File); ok && term.IsTerminal(int(f.Fd())) { //nolint:gosec // a descriptor
		what = "\033[1m== " + what + "\033[0m"
	} else {
		what = "== " + what
	}
	fmt.Fprintf(d.out, "\n%s\n", what)
}

// stay runs the VM's daemon until this is interrupted.
func (d *demonstration) stay(ctx context.Context) error {
	log, err := os.Create(filepath.Join(d.dir, "daemon.log"))
	if err != nil {
		return err
	}
	defer log.Close() //nolint:errcheck // a log
	d.say("It stays: the VM is in the " + d.target + " at " + demoServers[d.server] + ", its daemon runs until you press Ctrl-C here")
	set, then := "export %s=%s\n", "; export PATH=%s:$PATH\n"
	if runtime.GOOS == "windows" {
		set, then = "$env:%s = '%s'\n", "$env:Path = '%s;' + $env:Path\n"
	} else {
		then = strings.TrimPrefix(then, "; ")
	}
	fmt.Fprint(d.out, "In another terminal:\n")
	fmt.Fprintf(d.out, then, filepath.Dir(d.program))
	for _, v := range [][2]string{
		{"AZP_BOOTSTRAP_CONFIG", d.file()}, {"AZP_BOOTSTRAP_STATE_DIR", filepath.Join(d.dir, "state")}, {"AZP_SIM_DIR", d.azure()},
	} {
		fmt.Fprintf(d.out, set, v[0], v[1])
	}
	fmt.Fprintf(d.out, `azp-bootstrap status --watch              # the VM; its daemon's log: %s
azp-bootstrap doctor                      # what it needs to join, each checked
azp-sim job web-000001 --takes 30s        # a job for its agent
azp-sim agents                            # what stands on the servers
azp-sim log                               # each request that Azure saw
azp-sim event Terminate --in 5m           # Azure takes the VM away: its job is waited for, its agent removed
azp-bootstrap deregister                  # an operator takes it out …
azp-bootstrap rejoin                      # … and in again
`, log.Name())
	err = d.azp(ctx, log, "run")
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// removePatiently removes a folder that a process which has just ended may still hold.
func removePatiently(dir string) (err error) {
	for range 50 {
		if err = os.RemoveAll(dir); err == nil {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return err
}
