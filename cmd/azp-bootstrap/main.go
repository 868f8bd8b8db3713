// Command azp-bootstrap joins a VM to Azure Pipelines on its first boot.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/line"
	"azp-bootstrap/bootstrap/secret"
)

// app is what every command shares: the global flags and the redactor.
type app struct {
	config, stateDir, logLevel, logFormat string
	set                                   []string
	underManager                          bool // run --service: Windows' service control manager starts this process
	redactor                              secret.Redactor
}

func main() {
	plainUmask()
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	a := &app{}
	root := a.root()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "Interrupted. Run it again: it goes on where it was.")
		return 130
	}
	var f *fault.Error
	var shown *alreadyShown
	if errors.As(err, &shown) {
		return shown.exit
	}
	if !errors.As(err, &f) { // cobra's own: flags, arguments, unknown commands
		f = fault.New(fault.Usage, "%s", strings.TrimSpace(strings.ReplaceAll(err.Error(), "\t", "  "))).Hint("%s", "See "+root.CommandPath()+" --help.")
		if strings.Contains(err.Error(), `unknown command "log`) {
			f.Hint("The log is in the journal: journalctl -u azp-bootstrap.")
		}
	}
	paint := func(code, s string) string {
		if !colour(os.Stderr) {
			return s
		}
		return "\x1b[" + code + "m" + s + "\x1b[0m"
	}
	fmt.Fprintf(
		os.Stderr,
		"%s %s\n",
		paint("1;31", "Error ("+f.Class.Code+"):"),
		line.Lines(a.redactor.Redact(f.Error())),
	)
	if f.Advice != "" {
		fmt.Fprintf(os.Stderr, "%s %s\n", paint("1", "Next:"), line.Lines(a.redactor.Redact(f.Advice)))
	}
	return f.Class.Exit
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "azp-bootstrap",
		Short: "Join this VM to Azure Pipelines on its first boot",
		Long: `azp-bootstrap joins a VM to Azure Pipelines on its first boot: it takes a token of the VM's managed
identity, fetches a personal access token (PAT) from Key Vault (or needs none), checks it, registers the VM as an
environment resource, a deployment group target or an agent of a pool, and confirms that it is online.

At image time:  azp-bootstrap prepare, seal (and install, if no package brought the service)
At boot:        azp-bootstrap run (by its service)
To look:        azp-bootstrap status, doctor, config show
To act:         azp-bootstrap pause, resume, deregister, rejoin, sweep

Exit codes: 0 done, 1 internal, 2 usage, 10 config, 11 imds, 12 identity, 13 vault, 14 pat,
15 pat-scope, 16 target, 17 agent, 18 service, 19 network, 20 state, 21 start, 22 disk; 130 interrupted.
Each is explained in docs/troubleshooting.md.`,
		Example: `  azp-bootstrap config check
  azp-bootstrap prepare --package vsts-agent-linux-x64-4.248.0.tar.gz --sha256 SUM
  azp-bootstrap install
  azp-bootstrap status --wait`,
		Version:       version,
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			return oneOf("--log-format", a.logFormat, "auto", "text", "json", "journal")
		},
	}
	root.SetVersionTemplate("azp-bootstrap {{.Version}}\n")
	f := root.PersistentFlags()
	f.StringVar(
		&a.config,
		"config",
		fromEnv("CONFIG", defaultConfig()),
		"configuration `file`; conf.d/*.yaml beside it is read too",
	)
	f.StringVar(&a.stateDir, "state-dir", fromEnv("STATE_DIR", defaultState()), "`folder` of the VM's state")
	f.StringVar(&a.logLevel, "log-level", fromEnv("LOG_LEVEL", "info"), "error, warn, info, debug or trace")
	f.StringVar(&a.logFormat, "log-format", fromEnv("LOG_FORMAT", "auto"), "auto, text, json or journal")
	f.StringArrayVar(&a.set, "set", nil, "set one configuration value: `KEY=VALUE`; may be repeated")
	root.AddCommand(
		a.runCommand(),
		a.rejoinCommand(),
		a.installCommand(),
		a.uninstallCommand(),
		a.prepareCommand(),
		a.sealCommand(),
		a.statusCommand(),
		a.doctorCommand(),
		a.bundleCommand(),
		a.pauseCommand(),
		a.resumeCommand(),
		a.deregisterCommand(),
		a.sweepCommand(),
		a.configCommand(),
		a.versionCommand(),
	)
	return root
}

func oneOf(what, got string, want ...string) error {
	for _, w := range want {
		if got == w {
			return nil
		}
	}
	return fault.New(fault.Usage, "%s %q is unknown", what, got).Hint("Use one of: %s.", strings.Join(want, ", "))
}

func fromEnv(name, otherwise string) string {
	if v := os.Getenv("AZP_BOOTSTRAP_" + name); v != "" {
		return v
	}
	return otherwise
}

func defaultConfig() string {
	if runtime.GOOS == "windows" {
		return os.Getenv("ProgramData") + `\azp-bootstrap\config.yaml`
	}
	return "/etc/azp-bootstrap/config.yaml"
}

func defaultState() string {
	if runtime.GOOS == "windows" {
		return os.Getenv("ProgramData") + `\azp-bootstrap\state`
	}
	return "/var/lib/azp-bootstrap"
}

// alreadyShown is an error that a command has told in its own output: only its exit code is left.
type alreadyShown struct{ exit int }

func (*alreadyShown) Error() string { return "failed" }
