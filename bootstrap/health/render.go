package health

import (
	"fmt"
	"io"
	"strings"
	"time"

	"azp-bootstrap/bootstrap/journal"
	"azp-bootstrap/bootstrap/line"
)

// Render writes the state, and what runs, for people. color says whether out is a terminal that
// shows colours.
func Render(out io.Writer, s journal.State, color bool, alive Alive) {
	s = plain(s)
	paint := func(code, text string) string {
		if !color {
			return text
		}
		return "\x1b[" + code + "m" + text + "\x1b[0m"
	}
	head := map[string]string{
		journal.Ready: paint("1;32", "● ready"), journal.Failed: paint("1;31", "✗ failed"),
	}[s.Phase]
	if head == "" {
		head = paint("1;33", "… "+s.Phase)
	}
	if s.Attempt == 0 {
		head = "○ not started"
	}
	down := alive.Down(s)
	if down != nil {
		head = paint("1;31", "✗ agent down")
	}
	fmt.Fprintln(out, head)
	row := func(name, format string, args ...any) {
		fmt.Fprintf(out, "  %-9s %s\n", name, fmt.Sprintf(format, args...))
	}
	if s.Target.Kind != "" {
		where := s.Target.Name
		if s.Target.Project != "" {
			where = s.Target.Project + " / " + where
		}
		row("target", "%s %s at %s", kindName(s.Target.Kind), where, s.Target.URL)
	}
	if s.Agent.Name != "" {
		id, version := "", ""
		if s.Agent.ID != 0 {
			id = fmt.Sprintf(", ID %d", s.Agent.ID)
		}
		if s.Agent.Version != "" {
			version = ", version " + s.Agent.Version
		}
		row("agent", "%s%s%s", s.Agent.Name, id, version)
		if s.Agent.Disabled {
			row("", "%s", paint("1;33", "disabled in Azure DevOps: it takes no job until somebody enables it there"))
		}
	}
	if s.Agent.Service != "" {
		row("service", "%s", s.Agent.Service)
	}
	if s.Phase == journal.Ready && alive.Agent == Unknown {
		row("runs", "unknown: whether the agent runs cannot be seen; ask as root")
	}
	if line := alive.daemon(s); line != "" {
		row("daemon", "%s", line)
	}
	if s.Package != nil {
		row("package", "%s, prepared %s", s.Package.File, s.Package.PreparedAt.Format(time.RFC3339))
	}
	if s.InstanceID != "" {
		row("instance", "%s", s.InstanceID)
	}
	if s.ReadyAt != nil {
		row(
			"ready",
			"%s, %s after the start",
			s.ReadyAt.Format(time.RFC3339),
			s.ReadyAt.Sub(s.StartedAt).Round(time.Millisecond),
		)
	}
	if s.Secret != nil && s.Secret.Expires != nil {
		left := time.Until(*s.Secret.Expires)
		text := fmt.Sprintf("expires %s, in %d days", s.Secret.Expires.Format(time.RFC3339), int(left.Hours()/24))
		if left < 0 {
			text = "expired " + s.Secret.Expires.Format(time.RFC3339)
		}
		row("secret", "%s", text)
	}
	if s.Attempt > 1 {
		row("attempt", "%d", s.Attempt)
	}
	if len(s.Phases) > 0 {
		fmt.Fprintln(out, "  phases")
		for _, p := range s.Phases {
			retries := ""
			if p.Retries > 0 {
				retries = fmt.Sprintf("  asked again %d×", p.Retries)
			}
			fmt.Fprintf(out, "    %-11s %8.3f s%s\n", p.Name, p.Seconds, retries)
		}
	}
	if e := s.LastError; e != nil {
		label := "last error, mended since"
		if s.ReadyAt != nil && e.At.After(*s.ReadyAt) {
			label = "last error"
		}
		if s.Phase == journal.Failed {
			label = "error"
		} else if s.Phase != journal.Ready {
			label = "last error"
		}
		fmt.Fprintf(
			out,
			"  %s (%s, %s)\n    %s\n",
			label,
			e.Code,
			e.At.Format(time.RFC3339),
			strings.ReplaceAll(e.Message, "\n", "\n    "),
		)
		if e.Hint != "" {
			fmt.Fprintf(out, "    %s %s\n", paint("1", "Next:"), e.Hint)
		}
	}
	if down != nil {
		fmt.Fprintf(out, "  error (%s)\n    %s\n    %s %s\n", down.Class.Code, down, paint("1", "Next:"), down.Advice)
	}
}

// plain is the state as a terminal may show it: names and words of others cannot move its cursor.
func plain(s journal.State) journal.State {
	for _, text := range []*string{
		&s.Phase, &s.InstanceID, &s.Target.Kind, &s.Target.URL, &s.Target.Project, &s.Target.Name,
		&s.Agent.Name, &s.Agent.Version, &s.Agent.Service,
	} {
		*text = line.Shown(*text)
	}
	if s.Package != nil {
		p := *s.Package
		p.File = line.Shown(p.File)
		s.Package = &p
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
