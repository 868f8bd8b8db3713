package agent

import (
	"bufio"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"time"

	"azp-bootstrap/bootstrap/fault"
)

const dependenciesScript = "bin/installdependencies.sh"

// InstallDependencies installs the native libraries that the agent needs (libicu, OpenSSL,
// Kerberos, zlib) by the distribution's package manager, at image time: by the agent's own script,
// which knows what its version needs on which distribution. Root runs it from the fresh, verified
// folder only, in which no job has been. It returns what to record.
func (h Home) InstallDependencies(ctx context.Context, report func(format string, args ...any)) (string, error) {
	m, err := h.Manifest()
	switch {
	case err != nil:
		return "", err
	case m.Dependencies != "":
		return m.Dependencies, nil
	case os.Geteuid() != 0:
		report("the agent's native libraries are not looked at: only root can install them")
		return "", nil
	case !h.fresh(m.SHA256):
		return "", nil // an agent runs here, so they are there
	}
	if _, err := os.Stat(h.path(dependenciesScript)); errors.Is(err, fs.ErrNotExist) {
		report("the package brings no %s: see yourself to the libraries that the agent needs", dependenciesScript)
		return "", nil
	}
	report("installing the agent's native libraries: %s", dependenciesScript)
	ctx, cancel := context.WithTimeout(ctx, 15*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/bin/bash", h.path(dependenciesScript)) //nolint:gosec // root's own, verified
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "LANG=C.UTF-8")
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		return "", dependenciesFault(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		report("  %s", lines.Text())
	}
	if err := errors.Join(lines.Err(), cmd.Wait()); err != nil {
		return "", dependenciesFault(err)
	}
	return "installed by " + dependenciesScript, nil
}

func dependenciesFault(err error) error {
	return fault.New(fault.Agent, "the agent's native libraries could not be installed").Because(err).
		Hint("See what the script said above. Where the image has them already, or has no repositories, use " +
			"--no-dependencies.")
}
