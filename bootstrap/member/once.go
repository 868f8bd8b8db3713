package member

import (
	"context"
	"errors"

	"github.com/sirupsen/logrus"

	"azp-bootstrap/bootstrap/devops"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/journal"
)

// ErrSpent says that the agent of this VM has begun the only job that it may: it is not started again.
var ErrSpent = errors.New("a second job is never taken")

// Once reports whether the agent of this VM runs one job and never a second one.
func (m Member) Once() bool { return m.VM.Config.Retire.Once() }

// BeginOnce notes, when the agent is registered, which jobs of the server's are another VM's.
func (m Member) BeginOnce(s *journal.State) {
	if m.Once() {
		s.Once = &journal.Once{Before: s.Registering.Before}
	}
}

// NoteGiven notes if the server shows that the agent of this VM has begun its only job. What it showed
// before the agent was this VM's is another's. A job that was given to it and that it never received is
// none: it is the one that it will run.
func (m Member) NoteGiven(a *devops.Agent) error {
	if !m.Once() || a == nil || m.Whose(a) == AnotherVM {
		return nil
	}
	s := m.State()
	var before journal.Requests // nothing, if the state was lost: then whatever it has done counts
	switch made := s.Registering; {
	case s.Once != nil:
		before = s.Once.Before
	case made != nil && made.Existing == a.ID:
		before = made.Before
	case s.Agent.ID == a.ID: // retire.jobs is 1 only now: it may run one more
		return m.Journal.Update(func(s *journal.State) { s.Once = &journal.Once{Before: journal.Requests(a.Given)} })
	}
	id := a.Given.Since(devops.Requests(before))
	if id == 0 || s.Spent() {
		return nil
	}
	m.Log.WithFields(logrus.Fields{"agent": a.Name, "id": a.ID, "request": id}).
		Info("Azure DevOps says that the agent has begun its only job")
	return m.Journal.Update(func(s *journal.State) { s.Spend(id) })
}

// noteLast asks the server, before it forgets an agent that was stopped, whether that has begun its only job:
// a VM that Azure takes away and gives back must know.
func (m Member) noteLast(ctx context.Context, at Listed) error {
	if !m.Once() || m.State().Spent() {
		return nil
	}
	a, err := at.Client.ByID(ctx, at.Place, at.Agent.ID)
	if errors.Is(err, devops.ErrGone) {
		return nil
	}
	if err != nil {
		return err
	}
	return m.NoteGiven(a)
}

// MayServe is a fault if the agent of this VM, of which the server shows a, has begun its only job;
// nil = nobody asks for it.
func (m Member) MayServe(a *devops.Agent) error {
	if err := m.NoteGiven(a); err != nil || !m.Once() || !m.State().Spent() {
		return err
	}
	return fault.New(fault.State, "the agent %s has begun its only job (retire.jobs: 1), and does not start again",
		m.VM.AgentName).Because(ErrSpent).Hint("The VM leaves by itself; azp-bootstrap status says how far it is.")
}
