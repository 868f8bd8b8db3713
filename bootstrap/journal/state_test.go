package journal

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"azp-bootstrap/bootstrap/whole"
)

func sample() State {
	at := time.Date(2026, 11, 24, 3, 0, 0, 0, time.UTC)
	ready := at.Add(12500 * time.Millisecond)
	return State{
		Schema:     1,
		InstanceID: "5c7a1b1e",
		Phase:      Ready,
		Attempt:    2,
		StartedAt:  at,
		ReadyAt:    &ready,
		Target: Target{
			Kind:    "environment",
			Project: "Shop",
			Name:    "production",
			URL:     "https://dev.azure.com/contoso",
		},
		Agent: Agent{
			Name:    "web-000001",
			ID:      7,
			Version: "4.248.0",
			Service: "vsts.agent.contoso.production.web-000001.service",
		},
		Phases: []Phase{
			{Name: Discover, StartedAt: at, Seconds: 0.012, Retries: 3},
		},
		LastError: &Failure{Code: "imds", Message: "m", Hint: "h", At: at},
	}
}

func TestStateRoundTrip(t *testing.T) {
	dir := t.TempDir()
	if s, damaged, err := Read(dir); err != nil || damaged != nil || s.Phase != Waiting || s.Attempt != 0 {
		t.Errorf("a VM without state: %+v %v %v", s, damaged, err)
	}
	want := sample()
	if _, err := want.write(dir); err != nil {
		t.Fatal(err)
	}
	if s, damaged, err := Read(dir); err != nil || damaged != nil || !reflect.DeepEqual(s, want) {
		t.Errorf("got %+v %v %v", s, damaged, err)
	}
	left, _ := filepath.Glob(filepath.Join(dir, "*"))
	for _, name := range left {
		if name != File(dir) && !slices.Contains(whole.Spares(File(dir)), name) {
			t.Errorf("left %v", left)
		}
	}
	// the keys are the contract's
	data, err := os.ReadFile(File(dir))
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
		if err := os.WriteFile(File(dir), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		s, damaged, err := Read(dir)
		if damaged == nil || err != nil || s.Phase != Waiting {
			t.Errorf("%q: %+v %v %v", text, s, damaged, err)
		}
	}
}
