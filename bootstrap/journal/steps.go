package journal

import (
	"slices"
	"time"

	"azp-bootstrap/bootstrap/fault"
)

// Now is the time as state.json keeps it.
func Now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }

// NewInstance begins the state of another VM, on whose disk the package lies all the same.
func (s *State) NewInstance(id string) {
	at, attempt := s.StartedAt, s.Attempt
	if s.InstanceID != "" {
		at, attempt = Now(), 1
	}
	*s = State{
		Schema:     schema,
		InstanceID: id,
		Phase:      Discover,
		Attempt:    max(attempt, 1),
		StartedAt:  at,
		Phases:     s.Phases,
		Package:    s.Package,
	}
}

// Rejoin begins an attempt on a VM that was ready, or had left.
func (s *State) Rejoin() {
	s.Attempt++
	if s.Phase == Removed {
		s.Agent, s.Target = Agent{}, Target{}
		s.Once, s.Retire = nil, nil // an agent that is registered anew has its own
	}
	s.ReadyAt, s.DrainUntil, s.RemovedBy, s.Phases = nil, nil, "", []Phase{}
	s.Phase = Credential
}

// Leave records who asks the VM to leave, and until when its job is waited for.
// An operator's word, once given, is not taken back by Azure's.
func (s *State) Leave(by string, until time.Time) {
	s.DrainUntil, s.Gate = &until, nil
	if s.Phase != Draining {
		s.LastError = nil // of joining: it is over
	}
	if s.Phase != Draining || s.RemovedBy != ByOperator {
		s.RemovedBy = by
	}
}

// ByAzure reports whether the VM leaves, or has left, because Azure took it away, and not on an
// operator's word: then the same VM joins again when it is there again.
func (s State) ByAzure() bool {
	return s.RemovedBy == ByTerminate || s.RemovedBy == ByPreempt || s.RemovedBy == ByShutdown
}

// FallBack says that config.sh registers this VM's agent from now on. The phases from register on
// begin anew.
func (s *State) FallBack(why string) {
	s.Fallback = &Fallback{Now(), why}
	if i := slices.IndexFunc(s.Phases, func(p Phase) bool { return p.Name == Register }); i >= 0 {
		s.Phases = s.Phases[:i]
	}
}

// Unproven reports whether the agent of this ID came by the daemon's own registration and was given
// up before Azure DevOps ever showed it online.
func (s State) Unproven(id int) bool {
	return s.Fallback != nil && s.Agent.By != "" && s.Agent.ID == id && !s.Agent.Confirmed()
}

// Begin enters a phase.
func (s *State) Begin(phase string) {
	if s.StartedAt.IsZero() {
		s.StartedAt = Now()
	}
	if phase == Discover {
		s.Phases = []Phase{}
	}
	s.Phase = phase
	s.Phases = append(s.Phases, Phase{Name: phase, StartedAt: Now()})
}

// End notes how long the phase took that was begun last.
func (s *State) End(p Phase) {
	for i := range s.Phases {
		if of := &s.Phases[i]; of.Name == p.Name {
			of.Seconds, of.Retries = p.Seconds, p.Retries
			return
		}
	}
}

// Joined records that the VM is ready.
func (s *State) Joined() {
	at := Now()
	s.Phase, s.ReadyAt, s.RemovedBy = Ready, &at, ""
}

// Left records that the VM has left its target. Its pause, an operator's word, ends by an operator's:
// a VM that Azure took away and that is there again is paused still.
func (s *State) Left() {
	if s.RemovedBy == ByOperator || s.RemovedBy == ByRetired {
		s.Paused = nil
	}
	s.Phase, s.ReadyAt, s.Registering, s.DrainUntil, s.LastError = Removed, nil, nil, nil, nil
	s.Gate = nil
}

// LeftBehind reports whether the VM goes, and could not take its agent with it.
func (s State) LeftBehind() bool {
	return s.Phase == Draining && s.LastError != nil && s.LastError.GivesUp.IsZero() // what may pass has an end
}

// Fail records why an attempt failed.
func (s *State) Fail(why *Failure) {
	if s.StartedAt.IsZero() {
		s.StartedAt = Now()
	}
	s.Attempt = max(s.Attempt, 1)
	s.Phase, s.ReadyAt, s.LastError = Failed, nil, why
}

// saidEvery is how often it is worth a write that the same is waited for.
const saidEvery = 30 * time.Second

// shortWait is a wait that nobody wants to see the end of.
const shortWait = 2 * time.Second

// Stumble records a passing fault; the phase goes on. A VM that is ready stays without.
func (s *State) Stumble(why *Failure) {
	was := s.LastError
	again := was != nil && was.Message == why.Message && why.At.Sub(was.At) < saidEvery
	if s.Phase == Ready || again && why.NextTry.Sub(why.At) < shortWait {
		return
	}
	s.LastError = why
}

// Mended takes the last error back if it is of that class.
func (s *State) Mended(code string) {
	if s.LastError != nil && s.LastError.Code == code {
		s.LastError = nil
	}
}

// NoRoom reports whether the VM is ready, and has no room for a job.
func (s State) NoRoom() bool { return s.Phase == Ready && s.Agent.Full }

// Why is a fault as state.json keeps it.
func Why(f *fault.Error, redact func(string) string) *Failure {
	return &Failure{Code: f.Class.Code, Message: redact(f.Error()), Hint: redact(f.Advice), At: Now()}
}

// Due says when the next attempt begins after one that failed.
func (s *State) Due(at time.Time) {
	if s.LastError != nil && s.Phase != Ready {
		why := *s.LastError
		why.NextTry, why.GivesUp = at.UTC().Truncate(time.Second), time.Time{}
		s.LastError = &why
	}
}

// Stands reports whether the VM has joined or left, so that there may be nothing to do.
func (s State) Stands() bool { return s.Phase == Ready || s.Phase == Draining || s.Phase == Removed }

// At is the phase that the boot is in, for messages.
func (s State) At() string {
	if s.Phase == Failed || s.Phase == "" {
		return Waiting
	}
	return s.Phase
}
