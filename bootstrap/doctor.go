package bootstrap

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/dustin/go-humanize"

	"azp-bootstrap/bootstrap/access"
	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/azure"
	"azp-bootstrap/bootstrap/devops"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/health"
	"azp-bootstrap/bootstrap/image"
	"azp-bootstrap/bootstrap/journal"
	"azp-bootstrap/bootstrap/tree"
)

// A Check is one line of the doctor's report.
type Check struct {
	Name    string `json:"name"`
	Outcome string `json:"outcome"` // ok, failed, skipped
	Detail  string `json:"detail"`
	Class   string `json:"class,omitempty"` // of a failure
	Hint    string `json:"hint,omitempty"`
}

// The outcomes of a check.
const (
	OK      = "ok"
	Bad     = "failed"
	Skipped = "skipped"
)

// checks in the order in which one makes the next possible, as far as there is one.
var checks = []string{
	"config", "imds", "identity", "vault", "secret", "pat", "scopes", "target", "agent package", "service", "clock", "disk",
}

// checkTimeout bounds each of the doctor's parallel errands.
const checkTimeout = 60 * time.Second

// An examination collects what the doctor's errands find.
type examination struct {
	mu    sync.Mutex
	found map[string]Check
	boot  *Boot
}

// Examine checks everything that this VM needs to join, in parallel where one thing does not need the
// other. It changes nothing. The report has one line for every check, in the same order.
func Examine(ctx context.Context, o Options) ([]Check, error) {
	b, err := newBoot(o)
	if err != nil {
		return nil, err
	}
	x := &examination{found: map[string]Check{}, boot: b}
	if x.say("config", func() (string, error) { return b.ConfigFile, b.configure() }) {
		ctx, cancel := context.WithTimeout(ctx, checkTimeout)
		defer cancel()
		var all sync.WaitGroup
		all.Go(func() { x.azure(ctx) })
		all.Go(func() { x.say("agent package", b.packageInPlace) })
		all.Go(func() { x.say("service", b.serviceIsWell) })
		all.Go(func() { x.say("disk", b.diskHasRoom) })
		all.Wait()
	}
	b.drop()
	report := make([]Check, 0, len(checks))
	for _, name := range checks {
		c, done := x.found[name]
		if !done {
			c = Check{Name: name, Outcome: Skipped, Detail: "not checked: something before it failed"}
		}
		c.Detail, c.Hint = o.Redactor.Redact(c.Detail), o.Redactor.Redact(c.Hint)
		report = append(report, c)
	}
	return report, nil
}

// say records what a check found.
func (x *examination) say(name string, check func() (string, error)) bool {
	detail, err := check()
	x.record(name, detail, err)
	return err == nil
}

func (x *examination) skip(name, why string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.found[name] = Check{Name: name, Outcome: Skipped, Detail: why}
}

func (x *examination) record(name, detail string, err error) {
	c := Check{Name: name, Outcome: OK, Detail: detail}
	if err != nil {
		f := fault.From(err)
		c = Check{Name: name, Outcome: Bad, Detail: f.Error(), Class: f.Class.Code, Hint: f.Advice}
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.found[name] = c
}

// azure follows the way from IMDS to the target, as a boot would.
func (x *examination) azure(ctx context.Context) {
	b := x.boot
	if !x.say("imds", func() (string, error) { return b.knowsItself(ctx) }) {
		return
	}
	if !x.credential(ctx) {
		return
	}
	c, err := b.access.DevOps(ctx)
	if err != nil {
		x.record("pat", "", err)
		return
	}
	if !x.say("pat", func() (string, error) { return c.WhoAmI(ctx) }) {
		return
	}
	p, err := c.Find(ctx, access.Target(b.Config))
	if f := fault.From(err); err != nil && f.Class == fault.Scope {
		x.record("scopes", "", err)
		return
	} else if err != nil {
		x.record("target", "", err)
		return
	}
	x.record("scopes", "what can be asked for before registering is allowed", nil)
	x.say("target", func() (string, error) {
		there, err := c.Agent(ctx, p, b.Agent)
		if err != nil {
			return "", err
		}
		b.Place = p
		err = b.mayTake(there)
		detail := fmt.Sprintf("%s; the name %s", p, b.Agent)
		if there != nil && !there.Enabled {
			detail += ", whose agent is disabled in Azure DevOps: it takes no job until somebody enables it there"
		}
		return detail, err
	})
}

// credential fetches the PAT from the vault, or the identity's own token.
func (x *examination) credential(ctx context.Context) bool {
	b := x.boot
	if b.Config.Credential.Entra {
		x.skip("vault", "not needed: credential.entra is on")
		x.skip("secret", "not needed: credential.entra is on")
		x.skip("clock", "not checked: the vault's would be compared")
		return x.say("identity", func() (string, error) {
			return b.access.Identity().String() + ", its own token for Azure DevOps", b.access.Fetch(ctx)
		})
	}
	kv := b.Config.Credential.KeyVault
	s, err := b.access.Secret(ctx)
	if f := fault.From(err); err != nil && f.Class == fault.Identity {
		x.record("identity", "", err)
		return false
	} else if err != nil && f.Subject != azure.OfSecret {
		x.record("vault", "", err)
		return false
	}
	x.record("identity", b.access.Identity().String(), nil)
	x.record("vault", b.access.Vault(), nil)
	expires := "without an end"
	if !s.Expires.IsZero() {
		expires = "expires " + s.Expires.UTC().Format(time.RFC3339)
	}
	x.record("secret", fmt.Sprintf("%s, version %s, %s", kv.Secret, s.Version, expires), err)
	if err != nil {
		return false
	}
	x.say("clock", func() (string, error) { return clockIsRight(time.Since(s.Asked)) })
	return true
}

// knowsItself asks IMDS and fills the configuration in, as discover does, but touches nothing.
func (b *Boot) knowsItself(ctx context.Context) (string, error) {
	vm, err := b.imds.Instance(ctx)
	if err != nil {
		return "", err
	}
	b.VM = vm
	if err := b.knows(); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s in %s, instance %s", vm.Name, vm.Location, vm.VMID), nil
}

func (b *Boot) packageInPlace() (string, error) {
	if err := b.Runner.Guarded(); err != nil {
		return "", err
	}
	m, err := b.Runner.Verify()
	return fmt.Sprintf("%s, SHA-256 verified", m.File), err
}

func (b *Boot) serviceRuns() (string, error) {
	s := b.state()
	known := s.Agent
	switch {
	case known.ID == 0:
		return "not registered yet", nil
	case s.Phase == journal.Removed:
		return "this VM has left Azure DevOps", nil
	}
	running, state := b.Runner.Running(known.Service)
	if !running {
		return "", fault.New(fault.Service, "the agent %s does not run (%s)", known.Name, state).
			Hint("Its log: %s. The daemon brings it up again: systemctl restart azp-bootstrap.", b.agentLog())
	}
	detail := fmt.Sprintf("the agent %s runs (%s)", known.Name, state)
	if health.Daemon(b.StateDir).Daemon == health.Stopped {
		detail += "; the daemon does not: nobody watches over this VM (systemctl start azp-bootstrap)"
	}
	return detail, nil
}

func clockIsRight(behind time.Duration) (string, error) {
	if behind.Abs() >= devops.MaxSkew {
		return "", fault.New(fault.Agent, "the VM's clock differs from the vault's by %s", behind.Abs().Round(time.Second)).
			Hint("Mend time synchronization: timedatectl, chronyc sources. Azure DevOps refuses agents beyond five minutes.")
	}
	return fmt.Sprintf("within %s of the vault's", max(behind.Abs().Round(time.Second), time.Second)), nil
}

// needed is what an agent's folder wants besides the package itself, for a first job.
const needed = 1 << 30

func (b *Boot) diskHasRoom() (string, error) {
	free, err := agent.FreeSpace(b.Config.Agent.Dir)
	if err != nil {
		return "", fault.New(fault.Agent, "free space of %s", b.Config.Agent.Dir).Because(err).Hint("Run as root.")
	}
	if free < needed {
		return "", fault.New(fault.Agent, "%s has %s free", b.Config.Agent.Dir, humanize.IBytes(free)).
			Hint("Give it at least %s: a larger OS disk, or agent.work on a data disk.", humanize.IBytes(needed))
	}
	return fmt.Sprintf("%s free for %s", humanize.IBytes(free), b.Config.Agent.Dir), nil
}

// serviceIsWell is the doctor's check of the agent's service, and of the daemon that watches over it.
func (b *Boot) serviceIsWell() (string, error) {
	detail, err := b.serviceRuns()
	if err != nil || b.asProcess() {
		return detail, err
	}
	notes, err := image.StartsAtBoot(tree.Tree{})
	return detail + notes, err
}
