package health

import (
	"fmt"
	"html"
	"io"
	"strings"
	"time"

	"azp-bootstrap/bootstrap/journal"
)

// A Timeline is the last boot as bars: when each phase began, how long it took, and how often it had to ask again.
type Timeline struct {
	title string
	bars  []bar
	begin time.Time
	long  time.Duration
}

type bar struct {
	name   string
	at     time.Duration // after the beginning
	takes  time.Duration
	note   string
	waited bool // something had to be asked again, or is still
}

// beforeUs is the longest time between the system's start and the daemon's that belongs to one boot.
const beforeUs = time.Hour

// NewTimeline reads it off the state. booted is when the system started; zero if nobody knows. ok is false if
// there is nothing to draw.
func NewTimeline(s journal.State, booted, now time.Time) (t Timeline, ok bool) {
	s = plain(s)
	if len(s.Phases) == 0 {
		return t, false
	}
	first := s.Phases[0].StartedAt
	t.begin = first
	if early := first.Sub(booted); s.Attempt == 1 && !booted.IsZero() && early > 0 && early < beforeUs {
		t.begin = booted
		t.bars = append(t.bars, bar{name: "system", takes: early})
	}
	for i, p := range s.Phases {
		b := bar{name: p.Name, at: max(p.StartedAt.Sub(t.begin), 0), takes: time.Duration(p.Seconds * float64(time.Second))}
		if i == len(s.Phases)-1 && p.Seconds == 0 && p.Name == s.Phase {
			b.takes, b.note, b.waited = max(now.Sub(p.StartedAt), 0), "at work", true
		}
		if p.Retries > 0 {
			b.waited = true
			b.note = strings.TrimPrefix(b.note+fmt.Sprintf(", asked again %d×", p.Retries), ", ")
		}
		t.bars = append(t.bars, b)
		t.long = max(t.long, b.at+b.takes)
	}
	t.long = max(t.long, time.Millisecond)
	t.title = "this VM: " + s.At()
	if s.Agent.Name != "" {
		t.title = s.Agent.Name + ": " + s.At()
	}
	t.title += ", " + short(t.long) + " from " + t.begin.UTC().Format(time.RFC3339)
	return t, true
}

// short is a time as people read it in a list.
func short(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return d.Round(time.Second).String()
}

// nameWidth and timeWidth are the columns beside the bars.
const nameWidth, timeWidth = 13, 9

// Text draws it for a terminal of so many columns.
func (t Timeline) Text(out io.Writer, width int, color bool) {
	p := page{out: out, color: color}
	cells := min(max(width-nameWidth-timeWidth-30, 20), 100)
	fmt.Fprintln(out, t.title)
	for _, b := range t.bars {
		from := int(int64(cells) * int64(b.at) / int64(t.long))
		to := max(int(int64(cells)*int64(b.at+b.takes)/int64(t.long)), from)
		drawn, code := strings.Repeat("█", to-from), "32"
		if to == from {
			from, drawn = min(from, cells-1), "▏"
		}
		if b.waited {
			code = "33"
		}
		rest := strings.Repeat(" ", max(cells-from-len([]rune(drawn)), 0))
		line := fmt.Sprintf("  %-*s %s%s%s %*s  %s", nameWidth-3, b.name, strings.Repeat(" ", from), p.paint(code, drawn), rest,
			timeWidth-1, short(b.takes), b.note)
		fmt.Fprintln(out, strings.TrimRight(line, " "))
	}
}

// SVG draws it as a picture.
func (t Timeline) SVG(out io.Writer) error {
	const (
		row, left, chart, right = 26, 120, 560, 220
		top                     = 44
	)
	high := top + row*len(t.bars) + 34
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" font-family="sans-serif" font-size="13">
<title>%s</title>
<rect width="100%%" height="100%%" fill="#ffffff"/>
<text x="12" y="24" font-size="15" fill="#1f2328">%[3]s</text>
`, left+chart+right, high, html.EscapeString(t.title))
	for i, each := range t.bars {
		y := top + i*row
		x := float64(left) + chart*float64(each.at)/float64(t.long)
		w := max(chart*float64(each.takes)/float64(t.long), 2)
		colour := "#2da44e"
		switch {
		case each.name == "system":
			colour = "#8c959f"
		case each.waited:
			colour = "#d4a72c"
		}
		said := short(each.takes)
		if each.note != "" {
			said += ", " + each.note
		}
		fmt.Fprintf(&b, `<text x="12" y="%d" fill="#1f2328">%s</text>`, y+17, html.EscapeString(each.name))
		fmt.Fprintf(&b, `<rect x="%.1f" y="%d" width="%.1f" height="%d" rx="3" fill="%s"/>`, x, y+4, w, row-8, colour)
		fmt.Fprintf(&b, `<text x="%d" y="%d" fill="#57606a">%s</text>`+"\n", left+chart+12, y+17, html.EscapeString(said))
	}
	base := top + row*len(t.bars)
	fmt.Fprintf(&b, `<path d="M%d %d h%d" stroke="#d0d7de"/><text x="%[1]d" y="%[4]d" fill="#57606a">0</text>`, left, base+6, chart, base+24)
	fmt.Fprintf(&b, `<text x="%d" y="%d" fill="#57606a" text-anchor="end">%s</text>`+"\n</svg>\n", left+chart, base+24, short(t.long))
	_, err := io.WriteString(out, b.String())
	return err
}
