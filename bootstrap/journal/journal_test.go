package journal

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"azp-bootstrap/bootstrap/fault"
)

func open(t *testing.T, dir string, publish func(State)) *Journal {
	t.Helper()
	log := logrus.New()
	log.SetOutput(io.Discard)
	j, err := Open(dir, log, publish)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func nobody(State) {}

func named(name string) func(*State) { return func(s *State) { s.Agent.Name = name } }

// At most one run works on a VM; the other waits its turn, and then goes on from what the first
// wrote.
func TestTurns(t *testing.T) {
	dir := t.TempDir()
	one, two := open(t, dir, nobody), open(t, dir, nobody)
	release, err := one.Take()
	if err != nil {
		t.Fatal(err)
	}
	busy := func(err error) bool { f := fault.From(err); return err != nil && f.Class == fault.State && f.Wait }
	if _, err := two.Take(); !busy(err) {
		t.Errorf("a second run: %v", err)
	}
	if err := two.Update(named("two")); !busy(err) {
		t.Errorf("a write beside the run: %v", err)
	}
	if err := one.Update(named("one")); err != nil {
		t.Fatal(err)
	}
	release()
	if err := two.Update(func(s *State) { s.Attempt = 5 }); err != nil {
		t.Fatal(err)
	}
	if s := two.State(); s.Agent.Name != "one" || s.Attempt != 5 {
		t.Errorf("written over what another run had written: %+v", s)
	}
	if release, err = one.Take(); err != nil {
		t.Fatal(err)
	}
	defer release()
	if s := one.State(); s.Attempt != 5 {
		t.Errorf("the turn began with an old state: %+v", s)
	}
}

// Who works on a VM is asked to leave off, for as long as somebody asks; that hinders no turn.
func TestAsking(t *testing.T) {
	dir := t.TempDir()
	worker, one, two := open(t, dir, nobody), open(t, dir, nobody), open(t, dir, nobody)
	if worker.Asked() {
		t.Error("nobody has asked")
	}
	turn, err := worker.Take()
	if err != nil {
		t.Fatal(err)
	}
	defer turn()
	for range 2 {
		first, err := one.Ask()
		if err != nil {
			t.Fatal(err)
		}
		second, err := two.Ask()
		if err != nil {
			t.Fatal(err)
		}
		if !worker.Asked() {
			t.Error("two ask in vain")
		}
		if first(); !worker.Asked() {
			t.Error("one asks in vain")
		}
		if second(); worker.Asked() {
			t.Error("nobody asks any more")
		}
	}
}

// A daemon whose memory is older than the file must not bring the old state back (a deregister in
// between).
func TestUpdateBeginsFromTheFile(t *testing.T) {
	dir := t.TempDir()
	daemon, command := open(t, dir, nobody), open(t, dir, nobody)
	if err := daemon.Update((*State).Joined); err != nil {
		t.Fatal(err)
	}
	if err := command.Update((*State).Left); err != nil {
		t.Fatal(err)
	}
	why := Why(fault.New(fault.Config, "refused"), func(s string) string { return s })
	if err := daemon.Update(func(s *State) { s.LastError = why }); err != nil {
		t.Fatal(err)
	}
	if s, _, err := Read(dir); err != nil || s.Phase != Removed || s.LastError == nil {
		t.Errorf("%+v, %v", s, err)
	}
}

// What is published and what State returns are copies: nothing that anybody does to them, and
// nothing that is written later, shows in the others.
func TestStatesAreCopies(t *testing.T) {
	var heard []State
	j := open(t, t.TempDir(), func(s State) { heard = append(heard, s) })
	full := sample()
	at := time.Now()
	full.Secret, full.Registering = &Secret{Version: "1", Expires: &at}, &Registering{Name: "x"}
	full.Package, full.DrainUntil, full.Paused = &Package{File: "f"}, &at, &Pause{By: "alice"}
	full.Gate, full.HookFailed = &Gate{WaitsFor: "cloud-init"}, &Hook{Event: "leaving"}
	full.Retire, full.Once = &Retire{Why: "w"}, &Once{Request: 7}
	full.Metadata = &Metadata{Access: "closed"}
	full.Standby = &Standby{Since: at}
	full.Fallback = &Fallback{Why: "why"}
	if err := j.Update(func(s *State) { *s = full }); err != nil {
		t.Fatal(err)
	}
	before, err := json.Marshal(j.State())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []State{heard[len(heard)-1], j.State()} {
		s.Phases[0].Seconds, s.LastError.Code, s.Registering.Name, s.Package.File = 99, "spoiled", "spoiled", "spoiled"
		s.Paused.By = "spoiled"
		s.Gate.WaitsFor, s.HookFailed.Event = "spoiled", "spoiled"
		s.Retire.Why, s.Once.Request = "spoiled", 99
		s.Metadata.Access = "spoiled"
		s.Standby.Since = time.Time{}
		s.Fallback.Why = "spoiled"
		*s.Secret.Expires, *s.ReadyAt, *s.DrainUntil = time.Time{}, time.Time{}, time.Time{}
	}
	if after, _ := json.Marshal(j.State()); string(after) != string(before) {
		t.Errorf("%s became %s", before, after)
	}
	// Each field that points somewhere is known to copied: a new one must be added there and above.
	for i, of := 0, reflect.TypeFor[State](); i < of.NumField(); i++ {
		f := of.Field(i)
		pointing := f.Type.Kind() == reflect.Pointer || f.Type.Kind() == reflect.Slice || f.Type.Kind() == reflect.Map
		if pointing &&
			!strings.Contains(" ReadyAt Phases LastError Secret Registering Package DrainUntil Paused Gate Metadata HookFailed Standby Retire Once Fallback ", " "+f.Name+" ") {
			t.Errorf("%s is shared by copies", f.Name)
		}
	}
}

// Somebody who asks all the time while phases come and go (make race).
func TestReadersAndAWriter(t *testing.T) {
	var mu sync.Mutex
	var last State
	j := open(t, t.TempDir(), func(s State) {
		mu.Lock()
		defer mu.Unlock()
		last = s
	})
	done := make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			mu.Lock()
			s := last
			mu.Unlock()
			if _, err := json.Marshal([]State{s, j.State()}); err != nil {
				t.Error(err)
			}
		}
	})
	for range 50 {
		for _, change := range []func(*State){
			func(s *State) { s.Begin(Discover) }, func(s *State) { s.End(Phase{Name: Discover, Seconds: 1}) },
			func(s *State) { s.Begin(Online) }, func(s *State) { s.End(Phase{Name: Online, Retries: 3}) },
			(*State).Joined, (*State).Rejoin,
		} {
			if err := j.Update(change); err != nil {
				t.Fatal(err)
			}
		}
	}
	close(done)
	all.Wait()
}

// A restart that finds nothing to do leaves the file as it is.
func TestAChangeThatChangesNothingWritesNothing(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, nobody)
	if err := j.Update(named("x")); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(File(dir))
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Update(named("x")); err != nil {
		t.Fatal(err)
	}
	if after, err := os.Stat(File(dir)); err != nil || !os.SameFile(before, after) {
		t.Errorf("it was written anew: %v", err)
	}
}

func TestALookWritesNothing(t *testing.T) {
	dir := t.TempDir()
	j, err := Look(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Update(named("x")); err != nil || j.State().Agent.Name != "x" {
		t.Errorf("%v, %+v", err, j.State())
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// Whatever stands in state.json, the next run writes one that can be read.
func FuzzOpen(f *testing.F) {
	f.Add([]byte(`{"schema":1,"phase":"ready","phases":[{"name":"x"}]}`))
	log := logrus.New()
	log.SetOutput(io.Discard)
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(File(dir), data, 0o600); err != nil {
			t.Fatal(err)
		}
		j, err := Open(dir, log, nobody)
		if err != nil {
			return
		}
		if err := j.Update(func(s *State) { s.Begin(Discover) }); err != nil {
			t.Fatal(err)
		}
		if s, damaged, err := Read(dir); err != nil || damaged != nil || s.Phase != Discover {
			t.Errorf("%+v, %v, %v", s, damaged, err)
		}
	})
}

// A passing fault is told once in a while, and never on a VM that is ready.
func TestStumble(t *testing.T) {
	why := func(message string, at time.Time) *Failure { return &Failure{Message: message, At: at} }
	now := Now()
	for name, c := range map[string]struct {
		before State
		told   bool
	}{
		"the first":                    {State{}, true},
		"another one":                  {State{LastError: why("busy", now)}, true},
		"the same":                     {State{LastError: why("silent", now.Add(-time.Second))}, false},
		"the same, half a minute on":   {State{LastError: why("silent", now.Add(-saidEvery))}, true},
		"the VM is ready in any event": {State{Phase: Ready}, false},
	} {
		s := c.before
		s.Stumble(why("silent", now))
		if told := s.LastError != c.before.LastError; told != c.told {
			t.Errorf("%s: told %v", name, told)
		}
	}
}

// Whoever may open the lock may hold it, and keep the VM from joining.
func TestTheLockIsNotForOthers(t *testing.T) {
	j, err := Open(t.TempDir(), logrus.New(), func(State) {})
	if err != nil {
		t.Fatal(err)
	}
	release, err := j.Take()
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	if fi, err := os.Stat(
		filepath.Join(j.Dir(), "lock"),
	); err != nil ||
		fi.Mode().Perm()&0o077 != 0 && runtime.GOOS != "windows" {
		t.Errorf("%v, %v", fi, err)
	}
}

// Who works beside in the same process has a turn of its own, or none.
func TestTurnsOfOneProcess(t *testing.T) {
	j, err := Open(t.TempDir(), logrus.New(), func(State) {})
	if err != nil {
		t.Fatal(err)
	}
	release, err := j.Take()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := j.Take(); err == nil || !fault.From(err).Wait {
		t.Errorf("two turns at once: %v", err)
	}
	if err := j.Update(func(s *State) { s.Attempt = 7 }); err != nil {
		t.Errorf("the first has lost its turn: %v", err)
	}
	release()
	if release, err = j.Take(); err != nil {
		t.Fatal(err)
	}
	release()
}
