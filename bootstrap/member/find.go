package member

import (
	"context"
	"errors"

	"github.com/sirupsen/logrus"

	"azp-bootstrap/bootstrap/devops"
	"azp-bootstrap/bootstrap/journal"
)

// PlaceOf is the place of a target in the journal.
func PlaceOf(t journal.Target) devops.Place {
	return devops.Place{
		Target:    devops.Target{Kind: t.Kind, Project: t.Project, Name: t.Name},
		ProjectID: t.ProjectID,
		ID:        t.ID,
		PoolID:    t.PoolID,
	}
}

// Placed is where the journal says that the agent stands, which the configuration may no longer
// name. A state of an earlier version has no IDs: they are looked up by name, and kept when this
// VM's agent is found there.
func (m Member) Placed(ctx context.Context, c *devops.Client) (devops.Place, error) {
	p := PlaceOf(m.State().Target)
	if p.ID != 0 {
		return p, nil
	}
	return c.Find(ctx, p.Target)
}

// NotePlace notes the IDs of the place where the agent of the journal is.
func (m Member) NotePlace(p devops.Place) error {
	return m.Journal.Update(func(s *journal.State) {
		s.Target.ProjectID, s.Target.ID, s.Target.PoolID = p.ProjectID, p.ID, p.PoolID
	})
}

// StandsAt reports whether the agent of the journal stands at p, which was found for the configured
// names: by ID, so that a new name of an old target moves nobody.
func (m Member) StandsAt(p devops.Place) bool {
	t, want := m.State().Target, m.VM.Target()
	if t.ID == 0 || t.Kind != want.Kind || t.URL != want.URL {
		return t.Named(want)
	}
	return t.ID == p.ID && (t.ProjectID == p.ProjectID || t.ProjectID == "" || p.ProjectID == "")
}

// A Listed is the agent of the journal on its server.
type Listed struct {
	Client *devops.Client
	Place  devops.Place
	Agent  *devops.Agent // nil if the server says that it is gone, or that it is another VM's by now

	drops int // of the access that it was found with
}

// Find looks for the agent of the journal where the journal says it is, which the configuration may
// no longer name. What is not found by name or not shown is an error. If it is asked again with the
// same PAT, it answers from d.
func (m Member) Find(ctx context.Context, d *Drain) (l Listed, err error) {
	if d.found != nil && d.found.drops == m.Access.Drops() {
		return *d.found, nil
	}
	known := m.State()
	l.drops = m.Access.Drops()
	if l.Client, err = m.Access.At(ctx, known.Target.URL); err != nil {
		return l, err
	}
	if l.Place, err = m.Placed(ctx, l.Client); err != nil {
		return l, err
	}
	a, err := l.Client.ByID(ctx, l.Place, known.Agent.ID)
	if err == nil {
		a, err = m.Reclaim(ctx, l.Client, l.Place, a, d)
	}
	switch {
	case errors.Is(err, devops.ErrGone):
	case err != nil:
		return l, err
	case m.Whose(a) == AnotherVM:
		m.Log.WithFields(logrus.Fields{"agent": a.Name, "id": a.ID, "instance": a.InstanceID}).
			Warn("another VM has taken this VM's agent over: it is left alone, and this VM leaves")
	case m.Whose(a) == NobodyKnows:
		return l, Unclear(l.Place, a)
	default:
		if err := m.NotePlace(l.Place); err != nil {
			return l, err
		}
		if a.ResourceID == 0 {
			a.ResourceID = known.Agent.ResourceID
		}
		l.Agent = a
	}
	d.found = &l
	return l, nil
}

// SettleIntent finds out what became of a registration that was cut off, unless it is gone on with
// at wanted: an agent that it made is this VM's, and is the one to leave.
func (m Member) SettleIntent(ctx context.Context, wanted devops.Place) error {
	made := m.State().Registering
	if made == nil || made.Target.ID == 0 { // an earlier version wrote no target
		return nil
	}
	samePlace := made.Target.ID == wanted.ID && made.Target.Kind == wanted.Kind && made.Target.URL == m.VM.Target().URL
	if made.Name == m.VM.AgentName && samePlace {
		return nil
	}
	if !m.Works() { // a config.sh that was left behind must not register an agent after we have looked
		if err := m.Agent.Remove(ctx, m.State().Agent.Service); err != nil {
			return err
		}
	}
	p := PlaceOf(made.Target)
	c, err := m.Access.At(ctx, made.Target.URL)
	if err != nil {
		return err
	}
	a, err := c.Agent(ctx, p, made.Name)
	if err != nil {
		return err
	}
	ours := a != nil && m.Whose(a) == ThisVM
	return m.Journal.Update(func(s *journal.State) {
		if ours && a.ID != s.Agent.ID {
			s.Agent = journal.Agent{Name: made.Name, ID: a.ID, ResourceID: a.ResourceID, Drained: made.Drained, Full: s.Agent.Full}
			s.Target = made.Target
		}
		s.Registering = nil
	})
}
