package agent

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"azp-bootstrap/bootstrap/whole"
)

// unitsRun reports whether systemd runs this system.
func unitsRun() bool {
	_, err := os.Stat("/run/systemd/system")
	return err == nil
}

// unitCommand is the command that runs a file of a shell's in a transient unit of its own and waits for it: its exit
// code is the file's, its output comes by the same pipe. No word of it is anything but plain: what systemd makes of
// quotes and semicolons changes if somebody runs daemon-reload just then (seen with 252).
func unitCommand(p Program, file string) []string {
	what := "At an event of azp-bootstrap: "
	switch p.Kind {
	case "", StartKind:
		what = "Before the first job: "
	case CleanKind:
		what = "To make room for jobs: "
	}
	argv := []string{
		"systemd-run", "--quiet", "--wait", "--collect", "--pipe", "--unit=" + p.units() + p.Name + ".service",
		"--description=" + what + p.Name, "--property=KillMode=control-group", "--property=TimeoutStopSec=5s",
	}
	if p.Most > 0 {
		argv = append(argv, fmt.Sprintf("--property=RuntimeMaxSec=%ds", int(p.Most.Seconds())+1))
	}
	return append(argv, "--", "/bin/sh", file)
}

// unitScript is that file. env clears what systemd itself gives each unit, which may be more than a program is to
// find: systemctl set-environment. And to systemd a unit that SIGTERM ended has ended well (systemd.service(5),
// SuccessExitStatus=), as after systemctl stop: the shell makes an exit code of it.
func unitScript(p Program) string {
	words := []string{"/usr/bin/env", "-i"}
	for _, w := range slices.Concat(p.Env, p.Argv) {
		words = append(words, "'"+strings.ReplaceAll(w, "'", `'\''`)+"'")
	}
	return "trap : HUP INT PIPE TERM\n" + strings.Join(words, " ") + "\nexit $?\n"
}

// writeUnitScript writes that file: not to a disk that may be full, which is what some programs are for.
func writeUnitScript(p Program) (file string, err error) {
	file = filepath.Join(wordFolder, cmp.Or(p.Kind, StartKind)+".sh")
	if err := os.MkdirAll(wordFolder, 0o755); err != nil { //nolint:gosec // nothing in it is secret
		return "", err
	}
	return file, whole.Write(file, []byte(unitScript(p)), 0o600)
}

// endUnits ends units and all that runs in them, within seconds.
func endUnits(ctx context.Context, names string) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	_ = exec.CommandContext(ctx, "systemctl", "stop", names).Run() //nolint:gosec // our own names; there may be none
}

// UnitOver reports whether a unit that runs once has ended, or cannot be asked about.
func UnitOver(name string) bool {
	state := serviceState(name)
	return state != "inactive" && state != "activating"
}
