// Package doctor checks everything that this VM needs to join, and changes nothing.
package doctor

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dustin/go-humanize"

	"azp-bootstrap/bootstrap/access"
	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/azure"
	"azp-bootstrap/bootstrap/config"
	"azp-bootstrap/bootstrap/devops"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/health"
	"azp-bootstrap/bootstrap/image"
	"azp-bootstrap/bootstrap/join"
	"azp-bootstrap/bootstrap/journal"
	"azp-bootstrap/bootstrap/line"
	"azp-bootstrap/bootstrap/member"
	"azp-bootstrap/bootstrap/scripts"
	"azp-bootstrap/bootstrap/tree"
	"azp-bootstrap/bootstrap/vm"
)

// A Check is one line of the doctor's report.
type Check struct {
	Name    string `json:"name"`
	Outcome string `json:"outcome"` // ok, failed, skipped, warning
	Detail  string `json:"detail"`
	Class   string `json:"class,omitempty"` // of a failure
	Hint    string `json:"hint,omitempty"`
}

// The outcomes of a check.
const (
	OK      = "ok"
	Bad     = "failed"
	Skipped = "skipped"
	Warned  = "warning" // it is good now
)

// checks in the order in which one makes the next possible, as far as there is one.
var checks = []string{
	"config",
	"imds",
	"identity",
	"vault",
	"secret",
	"pat",
	"scopes",
	"target",
	"agent package",
	"service",
	"clock",
	"disk",
	"start",
	"metadata",
}

// checkTimeout bounds each of the doctor's parallel errands.
const checkTimeout = 60 * time.Second

// An examination collects what the doctor's errands find.
type examination struct {
	mu      sync.Mutex
	found   map[string]Check
	means   member.Means
	journal *journal.Journal
	offered string // version of the agent that Azure DevOps has; "" = not known
	inPlace string // version of the package here
}

// Examine checks everything that this VM needs to join, in parallel where one thing does not need
// the other. The report has one line for every check, in the same order.
func Examine(ctx context.Context, w member.Means) ([]Check, error) {
	if err := access.Protect(w.Log); err != nil {
		return nil, err
	}
	j, err := journal.Look(w.StateDir)
	if err != nil {
		return nil, err
	}
	x := &examination{found: map[string]Check{}, means: w, journal: j}
	sources, m, err := x.configured()
	x.record("config", w.ConfigFile, err)
	if err == nil {
		if unapplied := m.Unapplied(); unapplied != "" {
			x.warn("config", w.ConfigFile+": "+unapplied, member.Rejoins)
		}
		ctx, cancel := context.WithTimeout(ctx, checkTimeout)
		defer cancel()
		m = x.identify(ctx, sources, m)
		var all sync.WaitGroup
		if m.VM.Known() {
			all.Go(func() { x.azure(ctx, m) })
		}
		all.Go(func() { x.say("agent package", func() (string, error) { return x.packageInPlace(m) }) })
		all.Go(func() {
			if x.say("service", func() (string, error) { return serviceIsWell(m) }) {
				x.unwatched()
			}
		})
		all.Go(func() { x.disk(m) })
		x.startGate(m)
		all.Go(func() { x.metadata(ctx, m) })
		all.Wait()
		x.older()
		m.Access.Drop()
	}
	return x.report(), nil
}

func (x *examination) configured() (*vm.Sources, member.Member, error) {
	s, err := x.means.Sources()
	if err != nil {
		return nil, member.Member{}, err
	}
	m, err := x.means.Member(s.Unknown(), x.journal, s.IMDS)
	return s, m, err
}

func (x *examination) report() []Check {
	report := make([]Check, 0, len(checks))
	for _, name := range checks {
		c, done := x.found[name]
		if !done {
			c = Check{Name: name, Outcome: Skipped, Detail: "not checked: what it needs has failed"}
		}
		c.Detail, c.Hint = x.means.Redactor.Redact(c.Detail), x.means.Redactor.Redact(c.Hint)
		report = append(report, c)
	}
	return report
}

// say records what a check found.
func (x *examination) say(name string, check func() (string, error)) bool {
	detail, err := check()
	x.record(name, detail, err)
	return err == nil
}

// warn records what is good, and will not be for long.
func (x *examination) warn(name, detail, hint string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.found[name] = Check{Name: name, Outcome: Warned, Detail: detail, Hint: hint}
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

// identify asks IMDS which VM this is. If it does not say, or what it says is refused, the rest is looked at as the file has it,
// which is local.
func (x *examination) identify(ctx context.Context, sources *vm.Sources, local member.Member) member.Member {
	m := local
	if !x.say("imds", func() (string, error) {
		v, err := sources.Identify(ctx)
		if err == nil {
			m, err = x.means.Member(v, x.journal, sources.IMDS)
		}
		detail := fmt.Sprintf("%s in %s, instance %s", v.Instance.Name, v.Instance.Location, v.Instance.VMID)
		if err == nil {
			if unread := config.Unread(v.Config, v.Instance.UserData, v.Instance.Tags); unread != "" {
				detail += "\nnote: " + unread
			}
		}
		return detail, err
	}) {
		return local
	}
	return m
}

// azure follows the way from the identity to the target, as a boot would.
func (x *examination) azure(ctx context.Context, m member.Member) {
	if !x.credential(ctx, m) {
		return
	}
	c, err := m.Access.DevOps(ctx)
	if err != nil {
		x.record("pat", "", err)
		return
	}
	if !x.say("pat", func() (string, error) { return c.WhoAmI(ctx) }) {
		return
	}
	x.offered, _ = c.Aside().Offered(ctx, agent.Platform()) // good to know, and no more
	p, err := c.Find(ctx, access.Target(m.VM.Config))
	if f := fault.From(err); err != nil && f.Class == fault.Scope {
		x.record("scopes", "", err)
		return
	} else if err != nil {
		x.record("target", "", err)
		return
	}
	switch err := c.Aside().Manages(ctx, p); {
	case err == nil:
		x.record("scopes", "reading and managing are allowed, as far as that shows before registering", nil)
	case fault.From(err).Class == fault.Scope:
		x.record("scopes", "", err)
	default:
		x.skip("scopes", "whether the pool behind may be managed could not be asked: "+fault.From(err).Error())
	}
	x.say("target", func() (string, error) {
		there, err := c.Agent(ctx, p, m.VM.AgentName)
		if err != nil {
			return "", err
		}
		detail := fmt.Sprintf("%s; the name %s", p, m.VM.AgentName)
		if there != nil && !there.Enabled && m.State().Paused != nil {
			detail += ", whose agent takes no job: this VM is paused until azp-bootstrap resume"
		} else if there != nil && !there.Enabled {
			detail += ", whose agent is disabled in Azure DevOps: it takes no job until somebody enables it there"
		}
		return detail, join.MayTake(m, p, there)
	})
}

// credential fetches the PAT from the vault, or the identity's own token.
func (x *examination) credential(ctx context.Context, m member.Member) bool {
	if m.VM.Config.Credential.Entra {
		x.skip("vault", "not needed: credential.entra is on")
		x.skip("secret", "not needed: credential.entra is on")
		x.skip("clock", "not checked: the vault's would be compared")
		return x.say("identity", func() (string, error) {
			return m.Access.Identified(), m.Access.Fetch(ctx)
		})
	}
	kv := m.VM.Config.Credential.KeyVault
	s, err := m.Access.Secret(ctx)
	if f := fault.From(err); err != nil && f.Class == fault.Identity {
		x.record("identity", "", err)
		return false
	} else if err != nil && f.Subject != azure.OfSecret {
		x.record("identity", m.Access.Identity().String(), nil) // its token comes before the vault
		x.record("vault", "", err)
		return false
	}
	x.record("identity", m.Access.Identity().String(), nil)
	x.record("vault", m.Access.Vault(), nil)
	expires := "without an end"
	if !s.Expires.IsZero() {
		expires = "expires " + s.Expires.UTC().Format(time.RFC3339)
	}
	x.record("secret", fmt.Sprintf("%s, version %s, %s", kv.Secret, s.Version, expires), err)
	if err != nil {
		return false
	}
	if left := time.Until(s.Expires); !s.Expires.IsZero() && left < m.VM.Config.Credential.WarnBefore {
		x.warn("secret", fmt.Sprintf("%s, version %s, expires in %d days: %s", kv.Secret, s.Version, int(left.Hours()/24),
			s.Expires.UTC().Format(time.RFC3339)), "Store a new PAT as a new version of the secret; the VMs take it by themselves.")
	}
	x.say("clock", func() (string, error) { return clockIsRight(time.Since(s.Asked)) })
	return true
}

func (x *examination) packageInPlace(m member.Member) (string, error) {
	if err := m.Agent.Guarded(); err != nil {
		return "", err
	}
	p, err := m.Agent.Verify()
	x.inPlace = p.Version
	if err == nil {
		err = m.Agent.Lacking()
	}
	return fmt.Sprintf("%s, SHA-256 verified", p.File), err
}

// serviceIsWell looks at the agent's service, and at the daemon that watches over it.
func serviceIsWell(m member.Member) (string, error) {
	if err := m.Agent.Runnable(); err != nil {
		return "", err
	}
	groups, err := groupsAreThere(m)
	if err != nil {
		return "", err
	}
	detail, err := serviceRuns(m)
	detail += groups
	if err != nil || m.VM.AsProcess() {
		return detail, err
	}
	notes, err := image.StartsAtBoot(tree.Tree{})
	return detail + notes, err
}

func serviceRuns(m member.Member) (string, error) {
	s := m.State()
	switch {
	case s.Agent.ID == 0:
		return "not registered yet", nil
	case s.Phase == journal.Removed:
		return "this VM has left Azure DevOps", nil
	}
	running, state := m.Agent.Running(s.Agent.Service)
	if !running {
		return "", fault.New(fault.Service, "the agent %s does not run (%s)", s.Agent.Name, state).
			Hint("Its log: %s. The daemon brings it up again: systemctl restart azp-bootstrap.", m.AgentLog())
	}
	detail := fmt.Sprintf("the agent %s runs (%s)", s.Agent.Name, state)
	daemon := health.Daemon(m.Journal.Dir())
	if daemon.Unserved != "" {
		return "", fault.New(fault.Network, "%s, but %s", detail, daemon.Unserved).
			Hint("Azure asks this VM for its health in vain, and may replace it: name another address in health.listen, and in " +
				"the Application Health extension.")
	}
	if daemon.Daemon == health.Stopped {
		detail += unwatched
	}
	return detail, nil
}

const unwatched = "; the daemon does not: nobody watches over this VM"

// unwatched makes a warning of it.
func (x *examination) unwatched() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if c := x.found["service"]; strings.Contains(c.Detail, unwatched) {
		x.found["service"] = Check{Name: c.Name, Outcome: Warned, Detail: c.Detail, Hint: fault.Here("systemctl start azp-bootstrap")}
	}
}

// startGate looks at what the agent's start waits for.
func (x *examination) startGate(m member.Member) {
	c := m.VM.Config.Start
	names, ignored, err := scripts.Of(c.Run, scripts.Start)
	waits := slices.Clone(c.After)
	for _, name := range names {
		waits = append(waits, filepath.Join(c.Run, name))
	}
	detail := "the agent starts at once"
	if len(waits) > 0 {
		detail = "the agent starts after " + strings.Join(waits, ", ")
	}
	hint := ""
	for _, i := range ignored {
		detail += "; not run: " + line.Shown(i.Name) + ", " + i.Why
		hint = "Rename it or make it executable if it is to be run, else move it out of " + c.Run + "."
	}
	for _, name := range names {
		if why := scripts.FirstLine(filepath.Join(c.Run, name)); why != "" {
			detail += "; " + name + " cannot be run: " + why
			hint = "Mend its first line, unless what runs before it installs the program. " + hint
		}
	}
	if err != nil || hint == "" {
		x.record("start", detail, err)
		return
	}
	x.warn("start", detail, strings.TrimSpace(hint))
}

func clockIsRight(behind time.Duration) (string, error) {
	if behind.Abs() >= devops.MaxSkew {
		return "", fault.New(fault.Agent, "the VM's clock differs from the vault's "+
			"by %s", behind.Abs().Round(time.Second)).
			Hint("Fix time synchronization: timedatectl, chronyc sources. Azure DevOps refuses agents beyond five " +
				"minutes.")
	}
	return fmt.Sprintf("within %s of the vault's", max(behind.Abs().Round(time.Second), time.Second)), nil
}

// needed is what an agent's folder wants besides the package itself, for a first job. Below scarce, and
// scarceInodes in a hundred, the next jobs are likely to fail.
const (
	needed       = 1 << 30
	scarce       = 2 << 30
	scarceInodes = 5
)

// disk looks at the agent's folder and at the work folder, each on the disk where it is or will be.
func (x *examination) disk(m member.Member) {
	limits := m.VM.Config.Disk
	var details []string
	warned := ""
	for _, folder := range []string{"", m.Setup.Work} {
		r, err := m.Agent.Room(folder)
		if err != nil {
			x.record("disk", "", err)
			return
		}
		class, short := fault.Agent, r.Short(needed, 0)
		if configured := r.Short(uint64(limits.Min), int(limits.MinInodes)); folder != "" && short == "" {
			class, short = fault.Disk, configured
		}
		if short != "" {
			x.record("disk", "", fault.New(class, "%s", short).
				Hint("Free some, or give it a larger disk: at least %s. agent.work may lie on a data disk.",
					humanize.IBytes(max(needed, uint64(limits.Min)))))
			return
		}
		if warned == "" {
			warned = r.Short(scarce, scarceInodes)
		}
		details = append(details, r.String())
	}
	if warned != "" {
		x.warn("disk", warned, "Free some, or give it a larger disk, before jobs fail.")
		return
	}
	x.record("disk", strings.Join(details, "; "), nil)
}
