package health

import (
	"fmt"
	"io"
	"strings"
	"time"

	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/journal"
	"azp-bootstrap/bootstrap/line"
)

// Render shows a VM's state to a person.
func Render(out io.Writer, s journal.State, color bool, alive Alive) {
	p := page{out: out, color: color}
	s = plain(s)
	down := alive.Down(s)
	fmt.Fprintln(out, p.head(s, down != nil))
	p.membership(s, alive)
	p.machine(s)
	p.phases(s)
	if s.LastError != nil {
		p.lastError(s, alive)
	}
	if down != nil {
		fmt.Fprintf(out, "  error (%s)\n    %s\n    %s %s\n", down.Class.Code, down, p.paint("1", "Next:"), down.Advice)
	}
}

// A page is what a person reads.
type page struct {
	out   io.Writer
	color bool
}

func (p page) paint(code, text string) string {
	if !p.color {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (p page) row(name, format string, args ...any) {
	fmt.Fprintf(p.out, "  %-9s %s\n", name, fmt.Sprintf(format, args...))
}

func (p page) head(s journal.State, down bool) string {
	switch {
	case down:
		return p.paint("1;31", "✗ agent down")
	case s.NoRoom():
		return p.paint("1;31", "✗ no room")
	case s.Attempt == 0:
		return "○ not started"
	case s.Held():
		return p.paint("1;33", "● held: in a standby pool")
	case s.Phase == journal.Ready && s.Gate != nil:
		return p.paint("1;33", "… starts")
	case s.Phase == journal.Ready && s.Paused != nil:
		return p.paint("1;33", "● ready, paused")
	case s.Phase == journal.Ready:
		return p.paint("1;32", "● ready")
	case s.Phase == journal.Failed:
		return p.paint("1;31", "✗ failed")
	case s.LeftBehind():
		return p.paint("1;31", "✗ left behind")
	}
	return p.paint("1;33", "… "+s.Phase)
}

// membership is the VM's place in Azure DevOps.
func (p page) membership(s journal.State, alive Alive) {
	if who := asker[s.RemovedBy]; who != "" && s.Phase == journal.Removed {
		again := "; if the VM is there again, it joins again"
		if s.RemovedBy == journal.ByOperator {
			again = "; azp-bootstrap rejoin joins it again"
		}
		if s.RemovedBy == journal.ByRetired {
			again = gone(s)
		}
		p.row("left", "%s%s", who, again)
	} else if who != "" {
		p.row("leaves", "%s%s%s", who, since(s), waitsUntil(s))
	}
	if s.Paused != nil {
		p.row("paused", "%s", p.paint("1;33", Pause(*s.Paused)+"; azp-bootstrap resume ends it"))
	}
	if text := Retires(s, time.Now()); text != "" {
		p.row("retires", "%s", text)
	}
	if s.Target.Kind != "" {
		where := s.Target.Name
		if s.Target.Project != "" {
			where = s.Target.Project + " / " + where
		}
		p.row("target", "%s %s at %s", kindName(s.Target.Kind), where, s.Target.URL)
	}
	if a := s.Agent; a.Name != "" {
		id, version := "", ""
		if a.ID != 0 {
			id = fmt.Sprintf(", ID %d", a.ID)
		}
		if a.Version != "" {
			version = ", version " + a.Version
		}
		p.row("agent", "%s%s%s", a.Name, id, version)
		if a.Disabled {
			p.row("", "%s", p.paint("1;33", "disabled in Azure DevOps: it takes no job until somebody enables it there"))
		}
	}
	if s.Agent.By != "" {
		p.row("", "registered by %s", s.Agent.By)
	}
	if b := s.Fallback; b != nil {
		p.row("fallback", "%s", p.paint("1;33", "config.sh registers this VM since "+b.At.Format(time.RFC3339)+": by rest it failed"))
		p.row("", "%s", b.Why)
	}
	if u := s.Agent.Unapplied; u != "" {
		p.row("", "%s", p.paint("1;33", u))
		p.row("", "%s", "It counts when the VM joins anew: azp-bootstrap deregister, then azp-bootstrap rejoin.")
	}
	if s.Agent.Service != "" {
		p.row("service", "%s", s.Agent.Service)
	}
	if s.Held() {
		p.row("held", "in a standby pool, since %s: the agent starts when the VM leaves it",
			s.Standby.Since.Format(time.RFC3339))
	}
	if s.Gate != nil {
		p.row("waits", "for %s, since %s: the agent does not start before", s.Gate.WaitsFor, s.Gate.Since.Format(time.RFC3339))
	}
	if m := s.Metadata; m != nil {
		text := metadataWords[m.Access] + " (" + line.Shown(m.Why) + ")"
		if m.Access != "closed" {
			text = p.paint("1;33", text)
		}
		p.row("metadata", "%s", text)
	}
	if s.Phase == journal.Ready && alive.Agent == Unknown {
		p.row("runs", "%s", fault.Here("unknown: whether the agent runs cannot be seen; ask as root"))
	}
	if text := jobs(s); text != "" && alive.Daemon != Stopped {
		p.row("jobs", "%s", text)
	}
	if h := s.HookFailed; h != nil {
		p.row("hooks", "%s", p.paint("1;33", "at "+h.At.Format(time.RFC3339)+": "+line.Shown(h.Message)))
	}
	if line := alive.daemon(s); line != "" {
		p.row("daemon", "%s", line)
	}
	if alive.Unserved != "" {
		p.row("health", "%s", p.paint("1;33", "not served, so the VM is not Healthy to Azure: "+line.Lines(alive.Unserved)))
	}
}

// jobs says in one line what the agent runs and has run; "" if nobody has looked yet.
func jobs(s journal.State) string {
	j := s.Agent.Jobs
	ended := fmt.Sprintf("; %d ended since the agent was registered", j.Ended)
	if !j.Since.IsZero() {
		return "one runs since " + j.Since.Format(time.RFC3339) + ended
	}
	if since, idle := s.Idle(); idle {
		return "none runs since " + since.Format(time.RFC3339) + ended
	}
	return ""
}

// Pause says in one line since when a VM is paused, by whom and why.
func Pause(p journal.Pause) string {
	text := "since " + p.Since.Format(time.RFC3339) + " by " + line.Shown(p.By)
	if p.Reason != "" {
		text += ": " + line.Shown(p.Reason)
	}
	return text
}

// metadataWords say how far jobs get to Azure's metadata service.
var metadataWords = map[string]string{
	"closed":  "closed to jobs",
	"open":    "open: jobs can ask for tokens of the VM's identity",
	"unknown": "unknown: whether jobs can ask for tokens of the VM's identity",
}

// asker says who asked the VM to leave, by the journal's word.
var asker = map[string]string{
	journal.ByTerminate: "Azure deletes this VM", journal.ByPreempt: "Azure evicts this VM",
	journal.ByShutdown: "this VM shuts down", journal.ByOperator: "an operator asked for it",
	journal.ByRetired: "this VM left by itself",
}

// since is when the phase at work began.
func since(s journal.State) string {
	if n := len(s.Phases); n > 0 && s.Phases[n-1].Name == s.Phase {
		return ", since " + s.Phases[n-1].StartedAt.Format(time.RFC3339)
	}
	return ""
}

func waitsUntil(s journal.State) string {
	if s.Phase != journal.Draining || s.DrainUntil == nil || time.Now().After(*s.DrainUntil) {
		return ""
	}
	return "; a running job is waited for until " + s.DrainUntil.Format(time.RFC3339)
}

// machine is this VM and what it holds.
func (p page) machine(s journal.State) {
	if s.Package != nil {
		p.row("package", "%s, prepared %s", s.Package.File, s.Package.PreparedAt.Format(time.RFC3339))
	}
	if s.InstanceID != "" {
		p.row("instance", "%s", s.InstanceID)
	}
	if s.ReadyAt != nil {
		took := ""
		if len(s.Phases) > 0 && !s.Phases[0].StartedAt.After(*s.ReadyAt) {
			took = ", after " + s.ReadyAt.Sub(s.Phases[0].StartedAt).Round(time.Millisecond).String()
		}
		p.row("ready", "%s%s", s.ReadyAt.Format(time.RFC3339), took)
	}
	if s.Secret != nil && s.Secret.Expires != nil {
		left := time.Until(*s.Secret.Expires)
		text := fmt.Sprintf("expires %s, in %d days", s.Secret.Expires.Format(time.RFC3339), int(left.Hours()/24))
		if left < 0 {
			text = "expired " + s.Secret.Expires.Format(time.RFC3339)
		}
		p.row("secret", "%s", text)
	}
	if s.Attempt > 1 {
		p.row("attempt", "%d", s.Attempt)
	}
}

func (p page) phases(s journal.State) {
	if len(s.Phases) == 0 {
		return
	}
	fmt.Fprintln(p.out, "  phases")
	for i, each := range s.Phases {
		if i == len(s.Phases)-1 && each.Seconds == 0 && each.Name == s.Phase {
			fmt.Fprintf(p.out, "    %-11s %8s\n", each.Name, "at work")
			continue
		}
		retries := ""
		if each.Retries > 0 {
			retries = fmt.Sprintf("  asked again %d×", each.Retries)
		}
		fmt.Fprintf(p.out, "    %-11s %8.3f s%s\n", each.Name, each.Seconds, retries)
	}
}

func (p page) lastError(s journal.State, alive Alive) {
	e := s.LastError
	label := "last error"
	switch {
	case s.Phase == journal.Failed:
		label = "error"
	case s.LeftBehind():
		label = "LEFT BEHIND: the agent stays in Azure DevOps"
	case s.Phase == journal.Ready && (s.ReadyAt == nil || !e.At.After(*s.ReadyAt)):
		label = "last error, fixed since"
	}
	message := strings.ReplaceAll(e.Message, "\n", "\n    ")
	fmt.Fprintf(p.out, "  %s (%s, %s)\n    %s\n", label, e.Code, e.At.Format(time.RFC3339), message)
	if e.Hint != "" {
		fmt.Fprintf(p.out, "    %s %s\n", p.paint("1", "Next:"), e.Hint)
	}
	if s.Phase == journal.Ready || alive.Daemon == Stopped || !e.NextTry.After(time.Now()) {
		return
	}
	until := ""
	if !e.GivesUp.IsZero() {
		until = "; gives up at " + e.GivesUp.Format(time.RFC3339)
	}
	fmt.Fprintf(p.out, "    Tried again at %s, in %s%s\n", e.NextTry.Format(time.RFC3339),
		time.Until(e.NextTry).Round(time.Second), until)
}

// plain is the state as a terminal may show it: names and words of others cannot move its cursor.
func plain(s journal.State) journal.State {
	for _, text := range []*string{
		&s.Phase, &s.InstanceID, &s.Target.Kind, &s.Target.URL, &s.Target.Project, &s.Target.Name,
		&s.Agent.Name, &s.Agent.Version, &s.Agent.Service, &s.Agent.Unapplied,
	} {
		*text = line.Shown(*text)
	}
	if s.Package != nil {
		p := *s.Package
		p.File = line.Shown(p.File)
		s.Package = &p
	}
	if s.Gate != nil {
		g := *s.Gate
		g.WaitsFor = line.Shown(g.WaitsFor)
		s.Gate = &g
	}
	s.Agent.By = line.Shown(s.Agent.By)
	if s.Fallback != nil {
		b := *s.Fallback
		b.Why = line.Shown(b.Why)
		s.Fallback = &b
	}
	if s.LastError != nil {
		f := *s.LastError
		f.Code, f.Message, f.Hint = line.Shown(f.Code), line.Lines(f.Message), line.Lines(f.Hint)
		s.LastError = &f
	}
	return s
}

func kindName(kind string) string {
	switch kind {
	case "deploymentGroup":
		return "deployment group"
	case "pool":
		return "agent pool"
	}
	return kind
}

// ClassOfPhase is the class to report when a wait ends in a phase without an error of its own.
func ClassOfPhase(phase string) string {
	return map[string]string{
		journal.Discover: "imds", journal.Credential: "vault", journal.Preflight: "network",
		journal.Register: "agent", journal.Service: "service", journal.Online: "service",
	}[phase]
}
