package journal

import (
	"errors"
	"io/fs"
	"os"
	"testing"
	"time"

	"azp-bootstrap/bootstrap/fault"
)

// An attempt on a VM that was ready begins anew; who it is stays, unless it had left.
func TestAgain(t *testing.T) {
	for phase, keeps := range map[string]bool{Ready: true, Draining: true, Removed: false} {
		s := sample()
		at := time.Now()
		s.Phase, s.Attempt, s.DrainUntil, s.RemovedBy = phase, 2, &at, ByPreempt
		s.Rejoin()
		if s.Attempt != 3 || s.Phase != Credential || s.ReadyAt != nil || s.DrainUntil != nil || s.RemovedBy != "" ||
			len(s.Phases) != 0 {
			t.Errorf("%s: %+v", phase, s)
		}
		if kept := s.Agent.ID == 7 && s.Target.Name == "production"; kept != keeps || !keeps && s.Agent != (Agent{}) {
			t.Errorf("%s: agent %+v, target %+v", phase, s.Agent, s.Target)
		}
	}
}

// Another VM's disk: nothing of its registration counts, only the package that lies there.
func TestNewInstance(t *testing.T) {
	was := sample()
	was.Package, was.Registering, was.Paused = &Package{File: "p"}, &Registering{Name: "x"}, &Pause{By: "alice"}
	s := was.copied()
	s.NewInstance("another")
	if s.InstanceID != "another" || s.Agent != (Agent{}) || s.Target != (Target{}) || s.Registering != nil || s.LastError != nil ||
		s.Paused != nil ||
		s.Package == nil ||
		s.Phase != Discover ||
		s.Attempt != 1 ||
		!s.StartedAt.After(was.StartedAt) {
		t.Errorf("%+v", s)
	}
	fresh := New() // the first attempt of a VM that has just found out who it is
	fresh.Attempt, fresh.StartedAt = 1, was.StartedAt
	fresh.NewInstance("first")
	if fresh.Attempt != 1 || !fresh.StartedAt.Equal(was.StartedAt) {
		t.Errorf("%+v", fresh)
	}
}

// A pause ends with an operator's departure, not with one that Azure asked for.
func TestWhatADepartureMakesOfAPause(t *testing.T) {
	for by, ends := range map[string]bool{ByOperator: true, ByTerminate: false, ByPreempt: false, ByShutdown: false} {
		s := sample()
		s.Paused = &Pause{By: "alice"}
		s.Leave(by, time.Now())
		if s.Paused == nil {
			t.Errorf("%s: it ended before the VM had left", by)
		}
		if s.Left(); (s.Paused == nil) != ends {
			t.Errorf("%s: %+v", by, s.Paused)
		}
		if s.Rejoin(); (s.Paused == nil) != ends {
			t.Errorf("%s, joined again: %+v", by, s.Paused)
		}
	}
}

func TestPhasesOfABoot(t *testing.T) {
	s := New()
	s.Begin(Discover)
	begun := s.StartedAt
	s.End(Phase{Name: Discover, Seconds: 1.5, Retries: 2})
	s.Begin(Credential)
	if s.Phase != Credential || len(s.Phases) != 2 || s.Phases[0].Seconds != 1.5 || s.Phases[0].Retries != 2 ||
		s.Phases[1].Seconds != 0 ||
		begun.IsZero() ||
		s.Phases[0].StartedAt.IsZero() {
		t.Errorf("%+v", s)
	}
	s.End(Phase{Name: "of another boot"})
	s.Begin(Discover)
	if len(s.Phases) != 1 || !s.StartedAt.Equal(begun) {
		t.Errorf("a boot that begins anew: %+v", s)
	}
	s.Joined()
	if s.Phase != Ready || s.ReadyAt == nil || s.RemovedBy != "" {
		t.Errorf("%+v", s)
	}
	s.Leave(ByTerminate, begun)
	if s.Phase != Ready || !s.ByAzure() || !s.DrainUntil.Equal(begun) {
		t.Errorf("%+v", s)
	}
	operator := State{Phase: Draining, RemovedBy: ByOperator}
	operator.Leave(ByPreempt, begun)
	if operator.RemovedBy != ByOperator || !operator.DrainUntil.Equal(begun) {
		t.Errorf("an operator's word was taken back: %+v", operator)
	}
	operator.Phase = Ready // long ago
	if operator.Leave(ByPreempt, begun); operator.RemovedBy != ByPreempt {
		t.Errorf("%+v", operator)
	}
	s.Registering = &Registering{}
	s.Left()
	if s.Phase != Removed || s.ReadyAt != nil || s.Registering != nil || s.DrainUntil != nil ||
		s.RemovedBy != ByTerminate {
		t.Errorf("%+v", s)
	}
}

func TestFail(t *testing.T) {
	f := fault.New(fault.Vault, "the vault").Because(fs.ErrNotExist).Hint("Look at the PAT.")
	why := Why(f, func(s string) string { return s[:3] })
	if why.Code != "vault" || why.Message != "the" || why.Hint != "Loo" || time.Since(why.At) > time.Minute {
		t.Errorf("%+v", why)
	}
	s := New()
	s.Fail(why)
	if s.Phase != Failed || s.Attempt != 1 || s.StartedAt.IsZero() || s.LastError != why {
		t.Errorf("%+v", s)
	}
	s = sample()
	begun := s.StartedAt
	s.Fail(why)
	if s.Attempt != 2 || !s.StartedAt.Equal(begun) || s.ReadyAt != nil {
		t.Errorf("%+v", s)
	}
}

func TestWords(t *testing.T) {
	for phase, c := range map[string]struct {
		stands bool
		at     string
	}{
		Waiting: {false, Waiting}, Discover: {false, Discover}, Ready: {true, Ready}, Draining: {true, Draining},
		Removed: {true, Removed}, Failed: {false, Waiting}, "": {false, Waiting}, Online: {false, Online},
	} {
		if s := (State{Phase: phase}); s.Stands() != c.stands || s.At() != c.at {
			t.Errorf("%s: stands %v, at %s", phase, s.Stands(), s.At())
		}
	}
	for by, azure := range map[string]bool{ByTerminate: true, ByPreempt: true, ByShutdown: true, ByOperator: false, "": false, "retired": false} {
		if (State{RemovedBy: by}).ByAzure() != azure {
			t.Errorf("%s: by Azure %v", by, !azure)
		}
	}
	a, b := Target{Kind: "pool", Name: "x", URL: "u", ID: 1}, Target{Kind: "pool", Name: "x", URL: "u", ID: 2}
	if !a.Named(b) || a.Named(Target{Kind: "pool", Name: "y", URL: "u"}) ||
		a.Named(Target{Kind: "pool", Name: "x", URL: "v"}) ||
		a.Named(Target{Kind: "environment", Name: "x", URL: "u"}) ||
		a.Named(Target{Kind: "pool", Name: "x", URL: "u", Project: "p"}) {
		t.Error("names are compared wrongly")
	}
}

// What cannot be understood, or read, is said; nothing is lost.
func TestReadRefuses(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(File(dir), []byte(`{"schema":2,"phase":"ready"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Read(dir); fault.From(err).Class != fault.State {
		t.Errorf("a newer schema: %v", err)
	}
	if err := os.WriteFile(File(dir), make([]byte, maxState+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, damaged, err := Read(dir); damaged == nil || err != nil || s.Phase != Waiting {
		t.Errorf("too large: %+v, %v, %v", s, damaged, err)
	}
	j := open(t, dir, nobody)
	if _, err := os.Stat(File(dir) + ".damaged"); err != nil || j.State().Phase != Waiting {
		t.Errorf("it is not set aside: %v", err)
	}
	if err := os.Mkdir(File(dir), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Read(dir); fault.From(err).Class != fault.State {
		t.Errorf("a folder: %v", err)
	}
	if err := j.Update(named("x")); err == nil {
		t.Error("a folder was written over")
	}
	if _, err := Open(File(dir)+"/no/such", nil, nobody); err != nil {
		t.Errorf("its folder is not made: %v", err)
	}
	file := dir + "/file"
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var f *fault.Error
	if _, err := Open(file, nil, nobody); !errors.As(err, &f) || f.Class != fault.State || f.Advice == "" {
		t.Errorf("a file in the folder's place: %v", err)
	}
}

// What is given up is an agent that came by the daemon's own registration and was never seen online, of that ID and no other.
func TestUnproven(t *testing.T) {
	s := State{Agent: Agent{ID: 7, By: "rest"}, Phases: []Phase{{Name: Discover}, {Name: Register}, {Name: Online}}}
	if s.Unproven(7) {
		t.Error("nobody has given it up")
	}
	s.FallBack("why")
	if !s.Unproven(7) || s.Unproven(8) || s.Fallback.Why != "why" || len(s.Phases) != 1 {
		t.Errorf("%+v", s)
	}
	seen, script := s, s
	seen.Agent.Version, script.Agent.By = "4.248.0", ""
	if seen.Unproven(7) || script.Unproven(7) {
		t.Error("one that was seen online, or that config.sh registered, is kept")
	}
}
