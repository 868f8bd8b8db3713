package health

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode"
)

func sample() State {
	at := time.Date(2026, 11, 24, 3, 0, 0, 0, time.UTC)
	ready := at.Add(12500 * time.Millisecond)
	return State{Schema: 1, InstanceID: "5c7a1b1e", Phase: Ready, Attempt: 2, StartedAt: at, ReadyAt: &ready,
		Target: Target{Kind: "environment", Project: "Shop", Name: "production", URL: "https://dev.azure.com/contoso"},
		Agent:  Agent{Name: "web-000001", ID: 7, Version: "4.248.0", Service: "vsts.agent.contoso.production.web-000001.service"},
		Phases: []Phase{{Name: Discover, StartedAt: at, Seconds: 0.012, Retries: 3}}, LastError: &Failure{Code: "imds", Message: "m", Hint: "h", At: at}}
}

func TestStateRoundTrip(t *testing.T) {
	dir := t.TempDir()
	if s, damaged, err := ReadState(dir); err != nil || damaged != nil || s.Phase != Waiting || s.Attempt != 0 {
		t.Errorf("a VM without state: %+v %v %v", s, damaged, err)
	}
	want := sample()
	if err := want.Write(dir); err != nil {
		t.Fatal(err)
	}
	if s, damaged, err := ReadState(dir); err != nil || damaged != nil || !reflect.DeepEqual(s, want) {
		t.Errorf("got %+v %v %v", s, damaged, err)
	}
	left, _ := filepath.Glob(filepath.Join(dir, "*"))
	if len(left) != 1 {
		t.Errorf("left %v", left)
	}
	// the keys are the contract's
	data, err := os.ReadFile(StateFile(dir))
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{`"schema": 1`, `"instanceId"`, `"phase": "ready"`, `"attempt": 2`, `"kind": "environment"`, `"readyAt"`, `"startedAt"`, `"retries": 3`, `"seconds": 0.012`, `"lastError"`, `"code": "imds"`, `"hint"`, `"at"`} {
		if !strings.Contains(string(data), key) {
			t.Errorf("no %s in %s", key, data)
		}
	}
}

func TestDamagedState(t *testing.T) {
	for _, text := range []string{"", "{", "[]", `"x"`, `{}`, `{"schema":1}`, `{"schema":1,"phase":7}`, "\x00\x01"} {
		dir := t.TempDir()
		if err := os.WriteFile(StateFile(dir), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		s, damaged, err := ReadState(dir)
		if damaged == nil || err != nil || s.Phase != Waiting {
			t.Errorf("%q: %+v %v %v", text, s, damaged, err)
		}
	}
}

func TestRender(t *testing.T) {
	var out strings.Builder
	sample().Render(&out, false, Alive{})
	want := `● ready
  target    environment Shop / production at https://dev.azure.com/contoso
  agent     web-000001, ID 7, version 4.248.0
  service   vsts.agent.contoso.production.web-000001.service
  instance  5c7a1b1e
  ready     2026-11-24T03:00:12Z, 12.5s after the start
  attempt   2
  phases
    discover       0.012 s  asked again 3×
  last error, mended since (imds, 2026-11-24T03:00:00Z)
    m
    Next: h
`
	if out.String() != want {
		t.Errorf("got\n%s", out.String())
	}
	for phase, begin := range map[string]string{Failed: "✗ failed", Register: "… register"} {
		s := sample()
		s.Phase = phase
		out.Reset()
		s.Render(&out, true, Alive{})
		if !strings.Contains(out.String(), begin) || !strings.Contains(out.String(), "\x1b[") {
			t.Errorf("%s: got %q", phase, out.String())
		}
	}
}

// A name or a word of others moves no cursor and paints nothing.
func TestRenderShowsNoEscapes(t *testing.T) {
	const evil = "\x1b[2J\x1b[1;32m\r● ready\x07\u009b2J"
	s := sample()
	s.Agent.Version, s.Agent.Name, s.Target.Name, s.Target.Project = evil, evil, evil, evil
	s.Package = &Package{File: evil}
	s.LastError = &Failure{Code: evil, Message: "one\n" + evil, Hint: evil}
	var out strings.Builder
	s.Render(&out, false, Alive{})
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
		if err := os.WriteFile(StateFile(dir), data, 0o644); err != nil {
			t.Fatal(err)
		}
		s, _, err := ReadState(dir)
		if err == nil {
			var out strings.Builder
			s.Render(&out, true, Alive{})
			if e := s.Write(dir); e != nil {
				t.Error(e)
			}
		}
	})
}
