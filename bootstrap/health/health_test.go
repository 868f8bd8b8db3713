package health

import (
	"os"
	"strings"
	"testing"
	"time"
	"unicode"

	"azp-bootstrap/bootstrap/journal"
)

func sample() journal.State {
	at := time.Date(2026, 11, 24, 3, 0, 0, 0, time.UTC)
	ready := at.Add(12500 * time.Millisecond)
	return journal.State{
		Schema:     1,
		InstanceID: "5c7a1b1e",
		Phase:      journal.Ready,
		Attempt:    2,
		StartedAt:  at,
		ReadyAt:    &ready,
		Target: journal.Target{
			Kind:    "environment",
			Project: "Shop",
			Name:    "production",
			URL:     "https://dev.azure.com/contoso",
		},
		Agent: journal.Agent{
			Name:    "web-000001",
			ID:      7,
			Version: "4.248.0",
			Service: "vsts.agent.contoso.production.web-000001.service",
		},
		Phases: []journal.Phase{
			{Name: journal.Discover, StartedAt: at, Seconds: 0.012, Retries: 3},
		},
		LastError: &journal.Failure{Code: "imds", Message: "m", Hint: "h", At: at},
	}
}

func TestRender(t *testing.T) {
	var out strings.Builder
	Render(&out, sample(), false, Alive{})
	want := `● ready
  target    environment Shop / production at https://dev.azure.com/contoso
  agent     web-000001, ID 7, version 4.248.0
  service   vsts.agent.contoso.production.web-000001.service
  instance  5c7a1b1e
  ready     2026-11-24T03:00:12Z, after 12.5s
  attempt   2
  phases
    discover       0.012 s  asked again 3×
  last error, fixed since (imds, 2026-11-24T03:00:00Z)
    m
    Next: h
`
	if out.String() != want {
		t.Errorf("got\n%s", out.String())
	}
	s := sample()
	s.Agent.Full, s.Agent.Unapplied = true, `agent.work is "/mnt/b", and the agent was registered with "/mnt/a"`
	out.Reset()
	Render(&out, s, false, Alive{})
	for _, line := range []string{"✗ no room\n", `            agent.work is "/mnt/b", and the agent was registered with "/mnt/a"`, "azp-bootstrap rejoin"} {
		if !strings.Contains(out.String(), line) {
			t.Errorf("no %q in\n%s", line, out.String())
		}
	}
	for phase, begin := range map[string]string{journal.Failed: "✗ failed", journal.Register: "… register"} {
		s := sample()
		s.Phase = phase
		out.Reset()
		Render(&out, s, true, Alive{})
		if !strings.Contains(out.String(), begin) || !strings.Contains(out.String(), "\x1b[") {
			t.Errorf("%s: got %q", phase, out.String())
		}
	}
}

// A VM that is paused says so first, and since when, by whom and why.
func TestRenderOfAPause(t *testing.T) {
	s := sample()
	s.Paused = &journal.Pause{Since: s.StartedAt, By: "alice", Reason: "patches"}
	var out strings.Builder
	Render(&out, s, false, Alive{})
	want := "● ready, paused\n  paused    since 2026-11-24T03:00:00Z by alice: patches; azp-bootstrap resume ends it\n  target "
	if !strings.HasPrefix(out.String(), want) {
		t.Errorf("got\n%s", out.String())
	}
	out.Reset()
	Render(&out, s, true, Alive{})
	if strings.Count(out.String(), "\x1b[1;33m") != 2 {
		t.Errorf("it is not yellow: %q", out.String())
	}
}

// A name or a word of others moves no cursor and paints nothing.
func TestRenderShowsNoEscapes(t *testing.T) {
	const evil = "\x1b[2J\x1b[1;32m\r● ready\x07\u009b2J"
	s := sample()
	s.Agent.Version, s.Agent.Name, s.Target.Name, s.Target.Project = evil, evil, evil, evil
	s.Package = &journal.Package{File: evil}
	s.LastError = &journal.Failure{Code: evil, Message: "one\n" + evil, Hint: evil}
	s.Paused = &journal.Pause{By: evil, Reason: evil}
	var out strings.Builder
	Render(&out, s, false, Alive{})
	for _, r := range out.String() {
		if r != '\n' && unicode.IsControl(r) {
			t.Fatalf("%q", out.String())
		}
	}
	if !strings.Contains(out.String(), "one\n") {
		t.Errorf("its lines are lost: %q", out.String())
	}
}

func FuzzState(f *testing.F) {
	f.Add([]byte(`{"schema":1,"phase":"ready","phases":[{"name":"x"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(journal.File(dir), data, 0o644); err != nil {
			t.Fatal(err)
		}
		s, _, err := journal.Read(dir)
		if err == nil {
			var out strings.Builder
			Render(&out, s, true, Alive{})
		}
	})
}

// A VM that leaves says who asked for it, and how long a job may take.
func TestRenderSaysWhoAsked(t *testing.T) {
	until := time.Date(2126, 1, 2, 3, 4, 5, 0, time.UTC)
	for want, change := range map[string]func(*journal.State){
		"  leaves    Azure deletes this VM; a running job is waited for until 2126-01-02T03:04:05Z\n": func(s *journal.State) {
			s.Phase, s.RemovedBy, s.DrainUntil = journal.Draining, journal.ByTerminate, &until
		},
		"  leaves    an operator asked for it\n": func(s *journal.State) {
			s.Phase, s.RemovedBy = journal.Draining, journal.ByOperator
		},
		"  left      Azure evicts this VM; if the VM is there again, it joins again\n": func(s *journal.State) {
			s.Phase, s.RemovedBy, s.DrainUntil = journal.Removed, journal.ByPreempt, &until
		},
	} {
		s := sample()
		change(&s)
		var out strings.Builder
		Render(&out, s, false, Alive{})
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}
