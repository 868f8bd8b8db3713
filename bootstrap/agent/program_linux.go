package agent

import (
	"context"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// unitsRun reports whether systemd runs this system.
func unitsRun() bool {
	_, err := os.Stat("/run/systemd/system")
	return err == nil
}

// unitCommand is the command that runs a program in a transient unit of its own and waits for it:
// its exit code is the program's, its output comes by the same pipe. env clears what systemd itself
// gives each unit, which may be more than a program is to find: systemctl set-environment. And to
// systemd a unit that SIGTERM ended has ended well (systemd.service(5), SuccessExitStatus=), as after
// systemctl stop: the shell makes an exit code of it.
func unitCommand(p Program) []string {
	argv := []string{
		"systemd-run", "--quiet", "--wait", "--collect", "--pipe", "--unit=" + programUnits + p.Name + ".service",
		"--description=Before the first job: " + p.Name,
		"--property=KillMode=control-group", "--property=TimeoutStopSec=5s",
		"--", "/usr/bin/env", "-i",
	}
	shell := []string{"/bin/sh", "-c", `trap : HUP INT PIPE TERM; "$@"; exit $?`, "sh"}
	for _, word := range slices.Concat(p.Env, shell, p.Argv) {
		argv = append(argv, strings.ReplaceAll(word, "$", "$$")) // else systemd fills in variables
	}
	return argv
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
