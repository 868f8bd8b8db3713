package agent

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"azp-bootstrap/bootstrap/fault"
)

// Runnable is why an agent that is registered here could never run; nil if nothing is known against it. It is asked before
// anything is registered.
func (r Runner) Runnable() error {
	if err := r.executable(); err != nil || r.Process {
		return err
	}
	return serviceable()
}

// executable refuses a folder on a file system that lets nothing run.
func (h Home) executable() error {
	var s unix.Statfs_t
	dir := h.Dir
	err := unix.Statfs(dir, &s)
	for errors.Is(err, fs.ErrNotExist) && dir != "/" {
		dir = filepath.Dir(dir)
		err = unix.Statfs(dir, &s)
	}
	if err != nil || s.Flags&unix.ST_NOEXEC == 0 {
		return nil
	}
	return fault.New(fault.Agent, "the file system of %s is mounted noexec: no program there can run", h.Dir).
		Hint("Name a folder on another one in agent.dir, such as /opt/azp-agent, or mount it without noexec (findmnt -T %s).", dir)
}

// serviceable refuses a system that keeps no services, or a caller that may not make one.
func serviceable() error {
	if os.Geteuid() != 0 {
		return fault.New(fault.Service, "only root can install the agent's service").
			Hint("Run as root, or set agent.service: process.")
	}
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		return fault.New(fault.Service, "this system does not run systemd").
			Hint("Set agent.service: process, so that the daemon runs the agent itself.")
	}
	return nil
}
