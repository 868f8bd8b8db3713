package agent

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
	"github.com/coreos/go-systemd/v22/unit"

	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/whole"
)

const servicePattern = "vsts.agent.{0}.{1}.{2}.service"

// unitText is the unit that svc.sh would make (bin/vsts.agent.service.template), with three changes:
// it starts again after a failure, the network is there first, and a stop leaves nothing behind. It
// comes from code that root owns; runsvc.sh, in the agent's folder, runs as the service user only.
//
// KillMode is mixed, not process: SIGTERM still goes to runsvc.sh alone, which lets the listener end
// its session, but then whatever jobs left running is ended too. It runs as the service user and
// could look on when a re-registration gives config.sh, the same user's process, a PAT.
const unitText = `# Written by azp-bootstrap; replaced when the agent is registered anew.
[Unit]
Description=Azure Pipelines Agent (%s)
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
ExecStart=%s
User=%s
WorkingDirectory=%s
KillMode=mixed
KillSignal=SIGTERM
TimeoutStopSec=5min
Restart=always
RestartSec=5

[Install]
WantedBy=multi-user.target
`

// plainUnit are names that systemd takes unescaped, if they are not too long. (Here and elsewhere a regular expression
// does not count to hundreds: compiling that would cost each start milliseconds.)
var plainUnit = regexp.MustCompile(`^[A-Za-z0-9:_.-]+$`)

const longestUnit = 200

// unitName is the name as svc.sh passes it through `systemd-escape --path`: a dash becomes \x2d.
func unitName(name string) string { return unit.UnitNamePathEscape(name) }

// installService writes, enables and starts the agent's unit. It returns the unit's name.
func (h Home) installService(s Service) (string, error) {
	plain, err := s.name(servicePattern)
	if err != nil {
		return "", err
	}
	name := unitName(plain)
	if s.Unit != "" {
		name = s.Unit
	}
	if os.Geteuid() != 0 {
		return name, fault.New(fault.Service, "only root can install the agent's service").Hint("Run as root, or set agent.service: process.")
	}
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		return name, fault.New(fault.Service, "this system does not run systemd").Hint("Set agent.service: process, so that the daemon runs the agent itself.")
	}
	u, err := account(h.User)
	if err != nil {
		return name, err
	}
	esc := func(s string) string { return strings.ReplaceAll(s, "%", "%%") } // systemd's specifiers
	text := fmt.Sprintf(unitText, esc(strings.TrimSuffix(strings.TrimPrefix(plain, "vsts.agent."), ".service")),
		esc(strconv.Quote(h.path("runsvc.sh"))), u.Username, esc(h.Dir))
	if name != plain && len(plain) <= longestUnit && plainUnit.MatchString(plain) {
		text += "# the same name without systemd's escapes, as people type it\nAlias=" + plain + "\n"
	}
	path := unitFile(name)
	if old, err := os.ReadFile(path); err != nil || string(old) != text { //nolint:gosec // fixed folder
		if err := h.uninstallService(name); err != nil {
			return name, err
		}
		if _, err := os.Lstat(path); err == nil {
			return name, serviceFault(name, "cannot be installed", fmt.Errorf("%s is there and not this agent's (masked?)", path))
		}
		if err := whole.Write(path, []byte(text), 0o644); err != nil {
			return name, serviceFault(name, "cannot be installed", err)
		}
	}
	if err := h.put(".service", name+"\n", 0o644); err != nil {
		return name, err
	}
	return name, enableAndStart(name)
}

func unitFile(name string) string { return "/etc/systemd/system/" + name }

// systemdPatience is how long systemd may take for one thing: longer than an agent that is stopped may (TimeoutStopSec).
const systemdPatience = 6 * time.Minute

// enableAndStart starts a unit, at each boot and now. systemd finds a new unit by itself when it is started, and what enabling
// it changes counts from the next boot on: so nothing waits for systemd to read all units again, as systemctl enable
// lets it, which takes longer than all else here.
func enableAndStart(name string) error {
	ctx, cancel := context.WithTimeout(context.Background(), systemdPatience)
	defer cancel()
	c, err := dbus.NewWithContext(ctx)
	if err != nil {
		return serviceFault(name, "cannot be managed", err)
	}
	defer c.Close()
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
func job(ctx context.Context, begin func(ctx context.Context, name, mode string, ended chan<- string) (int, error), name string) error {
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

// uninstallService stops and removes the unit, if it is there and this agent's: the service user can write
// another's name into .service.
func (h Home) uninstallService(name string) error {
	if !agentService(name) || os.Geteuid() != 0 {
		return nil
	}
	if text, err := os.ReadFile(unitFile(name)); err != nil || !strings.Contains(strings.ReplaceAll(string(text), "%%", "%"), h.path("runsvc.sh")) { //nolint:gosec // fixed folder
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), systemdPatience)
	defer cancel()
	c, err := dbus.NewWithContext(ctx)
	if err != nil {
		return serviceFault(name, "cannot be stopped", err)
	}
	defer c.Close()
	// An agent that runs on would take jobs that nobody knows of.
	if err := job(ctx, c.StopUnitContext, name); err != nil && serviceState(name) == "active" {
		return serviceFault(name, "cannot be stopped", err)
	}
	_, _ = c.DisableUnitFilesContext(ctx, []string{name}, false) // what counts is that the file is gone
	if err := os.Remove(unitFile(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return serviceFault(name, "cannot be removed", err)
	}
	if err := c.ReloadContext(ctx); err != nil {
		return serviceFault(name, "cannot be removed", err)
	}
	return nil
}

// serviceState is systemd's word for it: active, activating, failed, inactive; "unknown" if systemd
// cannot be asked. It is asked over D-Bus, every half minute for as long as the VM lives: a process for
// each time would be most of what the daemon costs.
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

// followService reads the unit's journal from now on, and before that its last lines. journalctl sleeps until something is written.
// --merge: else --follow wants the entries of this boot, whose ID a container's hardened unit sees as the
// host's.
func followService(ctx context.Context, name string, recent bool, hear func(line string)) error {
	lines := map[bool]int{true: recentLines}[recent]
	cmd := exec.CommandContext(ctx, "journalctl", "--quiet", "--follow", "--merge", "--lines="+strconv.Itoa(lines), "--output=cat", "_SYSTEMD_UNIT="+name) //nolint:gosec // our own name
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LANG=C.UTF-8"}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	text := bufio.NewScanner(out)
	for text.Scan() {
		hear(text.Text())
	}
	return errors.Join(text.Err(), cmd.Wait())
}

func serviceFault(name, what string, err error) error {
	return fault.New(fault.Service, "the agent's service %s %s", name, what).Because(err).Hint("Look at: systemctl status '%s'; journalctl -u '%s'.", name, name)
}
