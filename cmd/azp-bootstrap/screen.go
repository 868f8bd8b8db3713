package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"azp-bootstrap/bootstrap/journal"
	"azp-bootstrap/bootstrap/line"
)

// A screen shows what a VM is doing while somebody waits. On a terminal each phase that is through
// keeps a line, and the one at work is drawn over and over, with what it waits for, the next try and
// when it gives up. Elsewhere each change is one plain line.
type screen struct {
	out   io.Writer
	live  bool
	width int
	since time.Time // phases that began before are not this wait's
	begun time.Time

	mu    sync.Mutex
	turn  int
	kept  map[string]bool // phases that have their line
	plain string          // the last plain line
	drawn bool
}

func newScreen(f *os.File, since time.Time) *screen {
	s := &screen{out: f, live: terminal(f) && os.Getenv("TERM") != "dumb", since: since, begun: time.Now(), kept: map[string]bool{}}
	if s.width = 80; s.live {
		if w, _, err := term.GetSize(int(f.Fd())); err == nil && w > 20 { //nolint:gosec // a descriptor
			s.width = w
		}
	}
	return s
}

// wipe removes the live line; s is locked.
func (s *screen) wipe() {
	if s.drawn {
		fmt.Fprint(s.out, "\r\x1b[K")
		s.drawn = false
	}
}

// clear leaves the screen to what is written next.
func (s *screen) clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wipe()
}

// Write puts lines above the live one.
func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wipe()
	return s.out.Write(p)
}

// draw shows where the VM stands.
func (s *screen) draw(state journal.State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if !s.live {
		if text := s.changed(state); text != "" && text != s.plain {
			s.plain = text
			fmt.Fprintln(s.out, text)
		}
		return
	}
	for i, p := range state.Phases {
		through := i+1 < len(state.Phases) || state.Phase == journal.Ready || state.Phase == journal.Removed
		if !through || s.kept[p.Name] || p.StartedAt.Before(s.since) {
			continue
		}
		s.kept[p.Name] = true
		s.wipe()
		retries := ""
		if p.Retries > 0 {
			retries = fmt.Sprintf("  after %d retries", p.Retries)
		}
		fmt.Fprintf(s.out, "✓ %-11s %8.3f s%s\n", line.Shown(p.Name), p.Seconds, retries)
	}
	s.turn++
	if state.Phase == journal.Ready || state.Phase == journal.Removed || state.Phase == journal.Failed {
		return // who draws says so
	}
	text := fmt.Sprintf("%-11s %6.0f s", line.Shown(state.Phase), now.Sub(s.begun).Seconds())
	if why := waitsFor(state, now); why != "" {
		text += "  " + why
	}
	s.over(text)
}

// over draws the live line; s is locked.
func (s *screen) over(text string) {
	if r := []rune(text); len(r) > s.width-4 {
		text = string(r[:s.width-5]) + "…"
	}
	fmt.Fprintf(s.out, "\r\x1b[K%c %s", []rune("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏")[s.turn%10], text)
	s.drawn = true
}

// says draws what is not the journal's to tell.
func (s *screen) says(what, why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.turn++
	s.over(fmt.Sprintf("%-11s %6.0f s  %s", what, time.Since(s.begun).Seconds(), why))
}

// changed is the plain line of a state, without times that run.
func (s *screen) changed(state journal.State) string {
	text := line.Shown(state.Phase)
	if state.Paused != nil {
		text += ", paused"
	}
	if g := state.Gate; g != nil {
		text += ": waits for " + line.Shown(g.WaitsFor)
	}
	if e := current(state); e != nil {
		text += ": waits: " + line.Shown(e.Message)
		if !e.GivesUp.IsZero() {
			text += "; gives up at " + e.GivesUp.Format(time.RFC3339)
		}
	}
	return text
}

// current is the error that a phase at work waits out; nil if there is none.
func current(state journal.State) *journal.Failure {
	e := state.LastError
	if e == nil || len(state.Phases) == 0 || e.At.Before(state.Phases[len(state.Phases)-1].StartedAt) {
		return nil
	}
	return e
}

// waitsFor says what the phase at work waits for, the time first: a terminal may be narrow.
func waitsFor(state journal.State, now time.Time) string {
	var says []string
	e := current(state)
	if e != nil && e.NextTry.After(now) {
		says = append(says, "next try in "+e.NextTry.Sub(now).Round(time.Second).String())
	}
	if e != nil && e.GivesUp.After(now) {
		says = append(says, "gives up at "+e.GivesUp.Local().Format("15:04:05"))
	}
	if g := state.Gate; g != nil {
		says = append(says, "waits for "+line.Shown(g.WaitsFor))
	}
	if until := state.DrainUntil; until != nil && state.Phase == journal.Draining && until.After(now) {
		says = append(says, "waits for its job until "+until.Local().Format("15:04:05"))
	}
	text := strings.Join(says, ", ")
	if e != nil {
		if text != "" {
			text += ": "
		}
		text += line.Shown(e.Message)
	}
	return text
}

// watched does work while a person watches it: on a terminal the screen shows the VM's state, and of
// the log only what the screen does not say. Whoever asks for a level or a format gets the log.
func (a *app) watched(cmd *cobra.Command, log *logrus.Logger, work func(context.Context) error) error {
	return a.drawn(cmd, log, func(s *screen, over bool) {
		state, err := a.readState()
		atWork := !state.Stands() && state.Phase != journal.Failed || state.Phase == journal.Draining
		if err == nil && (atWork || over) { // the last phase has its line, too
			s.draw(state)
		}
	}, work)
}

// drawn is watched for any picture: draw draws it ten times a second, and once more when the work is
// over and has not failed.
func (a *app) drawn(
	cmd *cobra.Command, log *logrus.Logger, draw func(s *screen, over bool), work func(context.Context) error,
) error {
	ctx := cmd.Context()
	asked := cmd.Flags().Changed("log-level") || cmd.Flags().Changed("log-format") || a.logLevel != "info" || a.logFormat != "auto"
	s := newScreen(os.Stderr, time.Now().Add(-time.Second))
	if !s.live || asked {
		return work(ctx)
	}
	log.SetOutput(s)
	log.SetFormatter(unsaid{log.Formatter})
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	drawn := make(chan struct{})
	go func() {
		defer close(drawn)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			draw(s, false)
		}
	}()
	err := work(ctx)
	cancel()
	<-drawn
	if err == nil {
		draw(s, true)
	}
	s.clear()
	return err
}

// unsaid leaves out of the log what a screen shows, or the command says itself when it ends.
type unsaid struct{ logrus.Formatter }

func (f unsaid) Format(e *logrus.Entry) ([]byte, error) {
	if _, waits := e.Data["wait"]; waits || e.Level != logrus.WarnLevel {
		return nil, nil
	}
	b := bytes.NewBufferString("! " + e.Message + "\n")
	if hint, ok := e.Data["hint"].(string); ok && hint != "" {
		fmt.Fprintf(b, "  Next: %s\n", line.Lines(hint))
	}
	return b.Bytes(), nil
}
