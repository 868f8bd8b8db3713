package agent

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"

	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/whole"
)

const servicePattern = "vsts.agent.{0}.{1}.{2}.service"

// installService writes, enables and starts the agent's unit. It returns the unit's name.
func (h Home) installService(ctx context.Context, s Service) (string, error) {
	if err := s.Check(); err != nil {
		return "", err
	}
	name, plain, err := unitOf(s)
	if err != nil {
		return "", err
	}
	if err := serviceable(); err != nil {
		return name, err
	}
	u, err := account(h.User)
	if err != nil {
		return name, err
	}
	write := h.unit
	if s.Once {
		write = h.onceUnit(s)
	}
	text, err := write(plain, name, unitUser(u), s.Marks.InstanceID, s.Work, s.Groups...)
	if err != nil {
		return name, err
	}
	path := unitFile(name)
	old, err := readUnit(path)
	changed := err != nil || string(old) != text
	if changed {
		if _, err := os.Lstat(path); err == nil && !h.runsHere(old) {
			return name, serviceFault(
				name,
				"cannot be installed",
				fmt.Errorf("%s is there and not this agent's (masked?)", path),
			)
		}
		if err := whole.Write(path, []byte(text), 0o644); err != nil {
			return name, serviceFault(name, "cannot be installed", err)
		}
	}
	denied, err := deny(name, s.NoMetadata)
	if err != nil {
		return name, serviceFault(name, "cannot be installed", err)
	}
	if err := h.putOwn(".service", name+"\n", 0o644); err != nil { // for people, and for the agent's own `remove`
		return name, err
	}
	if s.Once {
		return name, startOnce(ctx, name, s.Marks.InstanceID, (changed || denied) && old != nil)
	}
	if err := allow(s.Marks.InstanceID); err != nil {
		return name, err
	}
	return name, enableAndStart(ctx, name, (changed || denied) && old != nil)
}

// systemdPatience is how long systemd may take for one thing: longer than an agent that is stopped
// may (TimeoutStopSec).
const systemdPatience = 6 * time.Minute

// enableAndStart starts a unit, at each boot and now. systemd finds a new unit by itself when it is
// started, and what enabling it changes counts from the next boot on: so nothing waits for systemd
// to read all units again, as systemctl enable lets it, which takes longer than all else here.
func enableAndStart(ctx context.Context, name string, replaced bool) error {
	ctx, cancel := context.WithTimeout(ctx, systemdPatience)
	defer cancel()
	c, err := dbus.NewWithContext(ctx)
	if err != nil {
		return serviceFault(name, "cannot be managed", err)
	}
	defer c.Close()
	if replaced { // systemd goes on with what it has read
		if err := c.ReloadContext(ctx); err != nil {
			return serviceFault(name, "cannot be installed", err)
		}
	}
	_, _, err = c.EnableUnitFilesContext(ctx, []string{name}, false, true)
	if err == nil { // systemd is content if one of two links was made: the alias
		_, err = os.Lstat(unitFile("multi-user.target.wants/" + name))
	}
	if err != nil {
		return serviceFault(name, "cannot be enabled", err)
	}
	if err = job(ctx, c.StartUnitContext, name); err != nil && c.ReloadContext(ctx) == nil {
		err = job(ctx, c.StartUnitContext, name) // an older systemd may not have seen the file
	}
	if err != nil {
		return serviceFault(name, "does not start", err)
	}
	return nil
}

// job waits for a job of systemd's to end well.
func job(
	ctx context.Context,
	begin func(ctx context.Context, name, mode string, ended chan<- string) (int, error),
	name string,
) error {
	ended := make(chan string, 1)
	if _, err := begin(ctx, name, "replace", ended); err != nil {
		return err
	}
	select {
	case result := <-ended:
		if result != "done" {
			return fmt.Errorf("systemd: %s", result)
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// uninstallService stops and removes the unit of this folder's agent, whatever the journal calls
// it: a lost journal knows no name, and the folder's own files say what jobs wish.
func (h Home) uninstallService(ctx context.Context, _ string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	for _, name := range h.units(unitFolder) {
		if err := uninstallUnit(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

func uninstallUnit(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, systemdPatience)
	defer cancel()
	c, err := dbus.NewWithContext(ctx)
	if err != nil {
		return serviceFault(name, "cannot be stopped", err)
	}
	defer c.Close()
	// An agent that runs on would take jobs that nobody knows of.
	err = stopUnit(ctx, c, name)
	if ctx.Err() != nil {
		return serviceFault(name, "cannot be stopped in time", ctx.Err())
	}
	if err != nil && serviceState(name) == "active" {
		return serviceFault(name, "cannot be stopped", err)
	}
	_, _ = c.DisableUnitFilesContext(ctx, []string{name}, false) // what counts is that the file is gone
	if err := os.Remove(unitFile(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return serviceFault(name, "cannot be removed", err)
	}
	if _, err := deny(name, false); err != nil {
		return serviceFault(name, "cannot be removed", err)
	}
	if err := c.ReloadContext(ctx); err != nil {
		return serviceFault(name, "cannot be removed", err)
	}
	return nil
}

// stopUnit lets a unit end by itself for as long as ctx leaves time, and then kills what is left of
// it.
func stopUnit(ctx context.Context, c *dbus.Conn, name string) error {
	gently, cancel := ctx, context.CancelFunc(func() {})
	if end, limited := ctx.Deadline(); limited {
		gently, cancel = context.WithDeadline(ctx, end.Add(-killedBefore))
	}
	defer cancel()
	err := job(gently, c.StopUnitContext, name)
	if err == nil || gently.Err() == nil || ctx.Err() != nil {
		return err
	}
	if err := c.KillUnitWithTarget(ctx, name, dbus.All, int32(syscall.SIGKILL)); err != nil {
		return err
	}
	return job(ctx, c.StopUnitContext, name)
}

// serviceState is systemd's word for it: active, activating, failed, inactive; "unknown" if systemd
// cannot be asked. It is asked over D-Bus, every half minute for as long as the VM lives: a process
// for each time would be most of what the daemon costs.
func serviceState(name string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := dbus.NewWithContext(ctx)
	if err != nil {
		return "unknown"
	}
	defer c.Close()
	p, err := c.GetUnitPropertyContext(ctx, name, "ActiveState")
	if err != nil {
		return "unknown"
	}
	state, _ := p.Value.Value().(string)
	return state
}

// followService reads the unit's journal from now on, and before that its last lines. journalctl
// sleeps until something is written. --merge: else --follow wants the entries of this boot, whose
// ID a container's hardened unit sees as the host's.
func (r Runner) followService(ctx context.Context, name string, recent bool, hear func(line string)) error {
	ctx, end := context.WithCancel(ctx)
	defer end()
	lines := map[bool]int{true: recentLines}[recent]
	cmd := exec.CommandContext(
		ctx,
		"journalctl",
		"--quiet",
		"--follow",
		"--merge",
		"--lines="+strconv.Itoa(lines),
		"--output=cat",
		"_SYSTEMD_UNIT="+name,
	) //nolint:gosec // our own name
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LANG=C.UTF-8"}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	err = eachLine(out, hear)
	end() // it may have more to say than was read
	return errors.Join(err, cmd.Wait())
}

// eachLine hears each line of a text to its end. Of a longest line the beginning is enough.
func eachLine(text io.Reader, hear func(line string)) error {
	r := bufio.NewReaderSize(text, longestWords)
	for goesOn := false; ; {
		line, isPrefix, err := r.ReadLine()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case !goesOn:
			hear(string(line))
		}
		goesOn = isPrefix
	}
}

// Log is where a person finds what the agent of a service says.
func Log(service string) string { return fmt.Sprintf("journalctl -u '%s'", service) }

func serviceFault(name, what string, err error) error {
	return fault.New(fault.Service, "the agent's service %s %s", name, what).
		Because(err).
		Hint("Look at: systemctl status '%s'; journalctl -u '%s'.", name, name)
}
