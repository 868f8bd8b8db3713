package bootstrap

import (
	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/config"
	"azp-bootstrap/bootstrap/journal"
)

// prepared is what image time recorded, for status; nil if nothing.
func prepared(h agent.Home) *journal.Package {
	m, err := h.Manifest()
	if err != nil {
		return nil
	}
	return &journal.Package{File: m.File, SHA256: m.SHA256, PreparedAt: m.PreparedAt}
}

// Status reads where this VM stands, and before its first boot what image time put in place.
func Status(o Options) (s journal.State, damaged, err error) {
	s, damaged, err = journal.Read(o.StateDir)
	if t, e := config.ForImage(o.ConfigFile, o.Set); s.Package == nil && e == nil {
		s.Package = prepared(agent.Home{Dir: t.Dir, User: t.User})
	}
	return s, damaged, err
}
