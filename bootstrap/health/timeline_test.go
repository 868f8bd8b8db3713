package health

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"azp-bootstrap/bootstrap/journal"
)

func drawn(s journal.State, booted, now time.Time) string {
	t, ok := NewTimeline(s, booted, now)
	if !ok {
		return "nothing\n"
	}
	var b strings.Builder
	t.Text(&b, 72, false)
	return b.String()
}

func TestTimeline(t *testing.T) {
	at := time.Date(2026, 11, 24, 3, 0, 0, 0, time.UTC)
	boot := func(phase string, attempt int, all ...journal.Phase) journal.State {
		return journal.State{Phase: phase, Attempt: attempt, Agent: journal.Agent{Name: "web-000001"}, Phases: all}
	}
	after := func(s float64) time.Time { return at.Add(time.Duration(s * float64(time.Second))) }
	ready := boot(journal.Ready, 1, journal.Phase{Name: "discover", StartedAt: at, Seconds: 2},
		journal.Phase{Name: "credential", StartedAt: after(2), Seconds: 6, Retries: 3}, journal.Phase{Name: "online", StartedAt: after(8), Seconds: 2})
	for name, c := range map[string]struct {
		s      journal.State
		booted time.Time
		want   string
	}{
		"nothing yet": {journal.State{}, time.Time{}, "nothing\n"},
		"ready": {ready, time.Time{}, `web-000001: ready, 10.0 s from 2026-11-24T03:00:00Z
  discover   ████                    2.0 s
  credential     ████████████        6.0 s  asked again 3×
  online                     ████    2.0 s
`},
		"with the system's start": {ready, at.Add(-10 * time.Second), `web-000001: ready, 20.0 s from 2026-11-24T02:59:50Z
  system     ██████████             10.0 s
  discover             ██            2.0 s
  credential             ██████      6.0 s  asked again 3×
  online                       ██    2.0 s
`},
		"another boot's start": {ready, at.Add(-25 * time.Hour), `web-000001: ready, 10.0 s from 2026-11-24T03:00:00Z
  discover   ████                    2.0 s
  credential     ████████████        6.0 s  asked again 3×
  online                     ████    2.0 s
`},
		"a later attempt": {boot(journal.Ready, 2, ready.Phases[0]), at.Add(-time.Minute), `web-000001: ready, 2.0 s from 2026-11-24T03:00:00Z
  discover   ████████████████████    2.0 s
`},
		"at work": {boot(journal.Credential, 1, ready.Phases[0], journal.Phase{Name: "credential", StartedAt: after(2), Retries: 0}), time.Time{},
			`web-000001: credential, 20.0 s from 2026-11-24T03:00:00Z
  discover   ██                      2.0 s
  credential   ██████████████████   18.0 s  at work
`},
		"no time at all": {boot(journal.Ready, 1, journal.Phase{Name: "discover", StartedAt: at}), time.Time{},
			`web-000001: ready, 1 ms from 2026-11-24T03:00:00Z
  discover   ▏                        0 ms
`},
		"a clock that was put back": {boot(journal.Ready, 1, ready.Phases[0], journal.Phase{Name: "online", StartedAt: at.Add(-time.Hour), Seconds: 2}), time.Time{},
			`web-000001: ready, 2.0 s from 2026-11-24T03:00:00Z
  discover   ████████████████████    2.0 s
  online     ████████████████████    2.0 s
`},
	} {
		if got := drawn(c.s, c.booted, after(20)); got != c.want {
			t.Errorf("%s:\n%s\nwant\n%s", name, got, c.want)
		}
	}
}

func TestTimelineAsAPicture(t *testing.T) {
	s := journal.State{Phase: journal.Ready, Attempt: 1, Agent: journal.Agent{Name: `<script>"&`},
		Phases: []journal.Phase{{Name: "a<b", StartedAt: time.Unix(0, 0), Seconds: 1}, {Name: "online", StartedAt: time.Unix(1, 0), Seconds: 3, Retries: 2}}}
	drawing, _ := NewTimeline(s, time.Time{}, time.Unix(9, 0))
	var b strings.Builder
	if err := drawing.SVG(&b); err != nil {
		t.Fatal(err)
	}
	bars, texts := 0, ""
	for d := xml.NewDecoder(strings.NewReader(b.String())); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%s\n%s", err, b.String())
		}
		switch e := token.(type) {
		case xml.StartElement:
			if e.Name.Local == "rect" {
				bars++
			}
			if e.Name.Local == "script" {
				t.Error("somebody's name is a part of the picture")
			}
		case xml.CharData:
			texts += string(e)
		}
	}
	if bars != 3 || !strings.Contains(texts, "a<b") || !strings.Contains(texts, "3.0 s, asked again 2×") {
		t.Errorf("%d bars, %q", bars, texts)
	}
}
