package agent

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"time"

	"azp-bootstrap/bootstrap/fault"
)

const dependenciesScript = "bin/installdependencies.sh"

// InstallDependencies installs the native libraries that the agent needs (libicu, OpenSSL,
// Kerberos, zlib) by the distribution's package manager, at image time: by the agent's own script,
// which should know what its version needs on which distribution. Root runs it from the fresh,
// verified folder only, in which no job has been. Where it fails, they are installed by name: the
// script of 2026-08 knows no libicu72, the one of Debian 12, and asks openSUSE and SLES for an OpenSSL
// that they have no more. It returns what to record.
func (h Home) InstallDependencies(ctx context.Context, report func(format string, args ...any)) (string, error) {
	d := here()
	m, err := h.Manifest()
	switch {
	case err != nil:
		return "", err
	case m.Dependencies != "":
		return m.Dependencies, nil
	case os.Geteuid() != 0:
		report("the agent's native libraries are not looked at: only root can install them%s", d.byHand())
		return "", nil
	case !h.fresh(m.SHA256):
		return "", nil // an agent runs here, so they are there
	}
	if _, err := os.Stat(h.path(dependenciesScript)); errors.Is(err, fs.ErrNotExist) {
		report("the package brings no %s: see yourself to the libraries that the agent needs%s", dependenciesScript, d.byHand())
		return "", nil
	}
	ctx, cancel := context.WithTimeout(ctx, 15*time.Minute)
	defer cancel()
	return d.install(ctx, h.path(dependenciesScript), report)
}

// byHand is the end of a sentence that tells who installs them by hand how to.
func (d distribution) byHand() string {
	if command := d.libraries(); command != "" {
		return "; on " + cmp.Or(d.name, d.id) + ": " + command
	}
	return ""
}

// install runs the agent's script, and what the table has if that fails.
func (d distribution) install(ctx context.Context, script string, report func(string, ...any)) (string, error) {
	report("installing the agent's native libraries: %s", dependenciesScript)
	err := runToEnd(ctx, report, "/bin/bash", script)
	if err == nil {
		return "installed by " + dependenciesScript, nil
	}
	command := d.libraries()
	if command == "" || ctx.Err() != nil {
		return "", dependenciesFault(err, d)
	}
	report("that script failed (%v); installing them by name: %s", err, command)
	if e := runToEnd(ctx, report, strings.Fields(command)...); e != nil {
		return "", dependenciesFault(errors.Join(err, e), d)
	}
	return "installed by name, since " + dependenciesScript + " failed: " + command, nil
}

// runToEnd runs a command and reports each line that it says.
func runToEnd(ctx context.Context, report func(string, ...any), argv ...string) error {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...) //nolint:gosec // root's own, verified, and the table's
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "LANG=C.UTF-8")
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		return err
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		report("  %s", lines.Text())
	}
	return errors.Join(lines.Err(), cmd.Wait())
}

func dependenciesFault(err error, d distribution) error {
	return fault.New(fault.Agent, "the agent's native libraries could not be installed").Because(err).
		Hint("See what was said above%s. Where the image has them already, or has no repositories, use "+
			"--no-dependencies.", d.byHand())
}
