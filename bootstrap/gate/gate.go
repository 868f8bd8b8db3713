// Package gate holds back the first job of a boot: the agent starts when cloud-init and the scripts
// of whoever owns the VM have ended well. They run once in each boot, beside the way up; what passed
// stands in the state folder, with the boot that it passed in.
package gate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/config"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/retry"
	"azp-bootstrap/bootstrap/scripts"
	"azp-bootstrap/bootstrap/vm"
	"azp-bootstrap/bootstrap/whole"
)

// A Gate is what the agent's start waits for, on this VM and by its configuration.
type Gate struct {
	Start    config.Start
	Env      []string // of all that runs
	instance string   // "" = not known yet
	state    string   // folder
}

// Of is the gate of a VM. No secret is in it.
func Of(v vm.VM, stateDir string) Gate {
	i, t := v.Instance, v.Config.Target
	return Gate{
		Start: v.Config.Start,
		Env: []string{
			"PATH=" + scripts.Path, "LANG=C.UTF-8",
			"AZP_BOOTSTRAP_VM=" + i.Name,
			"AZP_BOOTSTRAP_INSTANCE_ID=" + i.VMID,
			"AZP_BOOTSTRAP_LOCATION=" + i.Location,
			"AZP_BOOTSTRAP_SCALE_SET=" + i.ScaleSet,
			"AZP_BOOTSTRAP_RESOURCE_GROUP=" + i.ResourceGroup,
			"AZP_BOOTSTRAP_SUBSCRIPTION_ID=" + i.SubscriptionID,
			"AZP_BOOTSTRAP_TARGET_KIND=" + t.Kind(),
			"AZP_BOOTSTRAP_TARGET_PROJECT=" + t.Project(),
			"AZP_BOOTSTRAP_TARGET_NAME=" + t.Name(),
		},
		instance: i.VMID, state: stateDir,
	}
}

// Same reports whether two gates wait for the same.
func (g Gate) Same(o Gate) bool {
	return slices.Equal(g.Start.After, o.Start.After) && g.Start.Run == o.Start.Run &&
		g.Start.Timeout == o.Start.Timeout && slices.Equal(g.Env, o.Env)
}

// Wanted reports whether there is anything to wait for. A folder that cannot be looked at is.
func (g Gate) Wanted() bool {
	if len(g.Start.After) > 0 {
		return true
	}
	names, _, err := scripts.Of(g.Start.Run, scripts.Start)
	return err != nil || len(names) > 0
}

// LockName is the file by whose lock one run at a time goes through the gate.
const LockName = "lock.gate"

// RecordName is the file in the state folder that says in which boot the gate was passed last.
const RecordName = "gate.passed"

// ThisBoot is a word for this boot: the kernel's, and of a container, which shares the kernel with
// others and the boots before, its own. "" where there is none: then only an agent that runs shows
// that the gate was passed.
func ThisBoot() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	first, _ := agent.ProcessStart(1)
	return strings.TrimSpace(string(id)) + "." + first
}

func (g Gate) record() string { return filepath.Join(g.state, RecordName) }

// Passed reports whether the gate was passed in this boot, by this VM, as far as that is known.
func (g Gate) Passed() bool {
	words, boot := recorded(g.state), ThisBoot()
	return len(words) == 2 && boot != "" && words[0] == boot && (g.instance == "" || words[1] == g.instance)
}

// Shut reports whether a VM whose configuration cannot be read had a gate, and has not passed it in
// this boot.
func Shut(stateDir string) bool {
	words := recorded(stateDir)
	return len(words) > 0 && words[0] != ThisBoot()
}

func recorded(stateDir string) []string {
	text, err := os.ReadFile(filepath.Join(stateDir, RecordName))
	if err != nil {
		return nil
	}
	return strings.Fields(string(bytes.ToValidUTF8(text, nil)))
}

// Pass records that the gate was passed. Half a record is none.
func (g Gate) Pass() error {
	if err := whole.Over(g.record(), ThisBoot()+" "+g.instance, 0o644); err != nil {
		return fault.New(fault.State, "that the gate was passed cannot be recorded").Because(err).
			Hint("Check free space and rights of %s.", g.state)
	}
	return nil
}

// Forget removes that record of a VM that has no gate any more.
func (g Gate) Forget() { _ = os.Remove(g.record()) }

// A Run is what running the gate needs, and tells.
type Run struct {
	Program func(ctx context.Context, p agent.Program, said func(line string)) (exit int, err error)
	Waits   func(what string)        // what is waited for from now on
	Says    func(of, line string)    // a line of a program's output
	Warns   func(message, of string) // what goes on all the same
	Again   func(w retry.Wait)       // a program is to be run again
}

// Through waits for all that the gate waits for, one after the other, and runs what is to be run. The
// error is of the class start, unless ctx was cancelled.
func (g Gate) Through(ctx context.Context, r Run) error {
	if _, _, err := scripts.Of(g.Start.Run, scripts.Start); err != nil { // before anything runs
		return err
	}
	limited, cancel := context.WithTimeoutCause(ctx, g.Start.Timeout, retry.ErrDeadline)
	defer cancel()
	if slices.Contains(g.Start.After, config.CloudInit) {
		if err := g.awaitCloudInit(limited, r, installed(cloudInit)); err != nil {
			return err
		}
	}
	names, ignored, err := scripts.Of(g.Start.Run, scripts.Start) // cloud-init may have written some
	if err != nil {
		return err
	}
	for _, i := range ignored {
		r.Warns("not run as a start script: "+i.Why, i.Name)
	}
	for _, name := range names {
		if err := g.script(limited, r, name); err != nil {
			return err
		}
	}
	return g.Pass()
}

// tempFail is the exit code by which a script asks to be run again (sysexits.h, EX_TEMPFAIL).
const tempFail = 75

// script runs a script until it ends well, or not.
func (g Gate) script(ctx context.Context, r Run, name string) error {
	r.Waits("the start script " + name)
	err := retry.Do(ctx, func() error {
		tail := &tail{}
		exit, err := r.Program(ctx, agent.Program{Name: name, Argv: []string{filepath.Join(g.Start.Run, name)}, Env: g.Env},
			func(line string) {
				if tail.keep(line) {
					r.Says(name, line)
				}
			})
		if exit < 0 && err == nil && ctx.Err() == nil {
			retry.Pause(ctx, time.Second) // who ends the daemon's whole control group ends both
		}
		return g.verdict(ctx, name, exit, err, tail)
	}, r.Again)
	if f := (*fault.Error)(nil); errors.As(err, &f) && f.Wait { // it was tried until the timeout
		last := *f
		last.Wait = false
		return &last
	}
	return err
}

// verdict is nil if a script ended well.
func (g Gate) verdict(ctx context.Context, name string, exit int, err error, t *tail) error {
	file := filepath.Join(g.Start.Run, name)
	hint := "The agent takes no job until it ends with 0. Its output is in the log; mend " + file + ". The daemon runs " +
		"the scripts again at its next attempt: systemctl restart azp-bootstrap saves the wait."
	switch {
	case errors.Is(context.Cause(ctx), retry.ErrDeadline):
		return fault.New(fault.Start, "the start script %s did not end within %s and was ended%s", name, g.Start.Timeout, t).
			Hint("start.timeout allows all scripts together more time. %s", hint)
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return err
	case exit == 0:
		return nil
	case exit == tempFail:
		return fault.New(fault.Start, "the start script %s asks to be run again (exit code %d)%s", name, exit, t).
			Passing().Hint("%s", hint)
	case exit < 0:
		return fault.New(fault.Start, "the start script %s was ended by a signal%s", name, t).Hint("%s", hint)
	}
	if why := scripts.Unrun(file, exit); why != "" {
		hint = "What is wrong: " + why + ". " + hint
	}
	return fault.New(fault.Start, "the start script %s failed with exit code %d%s", name, exit, t).Hint("%s", hint)
}

// A tail is the end of what a program said, and how much of it there was.
type tail struct {
	lines []string
	count int
}

const (
	mostLines = 1000 // of a program's output that are logged
	mostWords = 600  // bytes of its last lines that a message holds
)

// keep reports whether the line is one to log.
func (t *tail) keep(line string) bool {
	if strings.TrimSpace(line) == "" {
		return false
	}
	if len(t.lines) == 6 {
		t.lines = t.lines[1:]
	}
	t.lines = append(t.lines, line)
	t.count++
	return t.count <= mostLines
}

func (t *tail) String() string {
	if len(t.lines) == 0 {
		return "; it said nothing"
	}
	said := strings.Join(t.lines, " | ")
	if len(said) > mostWords {
		said = "… " + strings.ToValidUTF8(said[len(said)-mostWords:], "")
	}
	return fmt.Sprintf("; its last words: %s", said)
}
