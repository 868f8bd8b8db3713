package health

import (
	"fmt"
	"strings"
	"time"

	"azp-bootstrap/bootstrap/journal"
	"azp-bootstrap/bootstrap/line"
)

// Retires says in one line when a VM leaves by itself, or how far it is; "" if it never does.
func Retires(s journal.State, now time.Time) string {
	plan := s.Retire
	if plan == nil || s.Phase == journal.Removed {
		return ""
	}
	held := ""
	if s.Paused != nil {
		held = "; not while it is paused"
	}
	if plan.Waits != "" {
		held = "; not yet: " + line.Shown(plan.Waits) + held
	}
	if plan.Why != "" {
		text := line.Shown(plan.Why) + ", since " + plan.Since.Format(time.RFC3339)
		if !s.Agent.Jobs.Since.IsZero() {
			text += "; its job is waited for"
		}
		return text + held + then(plan)
	}
	var when []string
	switch {
	case plan.Jobs == 1:
		when = append(when, "after its job")
	case plan.Jobs > 1:
		when = append(when, fmt.Sprintf("after %d jobs (%d so far)", plan.Jobs, s.Agent.Jobs.Ended))
	}
	if plan.Idle > 0 {
		text := "idle for " + span(ofSeconds(plan.Idle))
		if since, is := s.Idle(); is {
			text = "idle " + span(now.Sub(since)) + " of " + span(ofSeconds(plan.Idle))
		}
		when = append(when, text)
	}
	if !plan.Due.IsZero() {
		when = append(when, "in "+span(plan.Due.Sub(now))+" by its age")
	}
	return strings.Join(when, ", or ") + held + then(plan)
}

func then(plan *journal.Retire) string { return "; then " + line.Shown(plan.Then) }

func ofSeconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// span is a time as people say it: of days the hours count, of hours the minutes.
func span(d time.Duration) string {
	switch d = max(d, 0); {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%d d %d h", int(d.Hours())/24, int(d.Hours())%24)
	case d >= time.Hour:
		return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
	case d >= time.Minute:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	}
	return fmt.Sprintf("%d s", int(d.Seconds()))
}

// gone says what has become of a VM that has left by itself.
func gone(s journal.State) string {
	plan := s.Retire
	switch {
	case plan == nil || plan.Then == "none":
		return "; azp-bootstrap rejoin joins it again"
	case plan.Taken.IsZero():
		return "; it goes: " + line.Shown(plan.Then)
	}
	return "; it goes: " + line.Shown(plan.Then) + ", asked for at " + plan.Taken.Format(time.RFC3339)
}
