package bootstrap

import (
	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/config"
	"azp-bootstrap/bootstrap/journal"
	"azp-bootstrap/bootstrap/member"
)

// prepared is what image time recorded in the agent's folder, for status; nil if nothing.
func prepared(dir, user string) *journal.Package {
	m, err := agent.Home{Dir: dir, User: user}.Manifest()
	if err != nil {
		return nil
	}
	return &journal.Package{File: m.File, SHA256: m.SHA256, PreparedAt: m.PreparedAt}
}

// Status reads where this VM stands, and before its first boot what image time put in place.
func Status(w member.Means) (s journal.State, damaged, err error) {
	s, damaged, err = journal.Read(w.StateDir)
	if t, e := config.ForImage(w.ConfigFile, w.Set); s.Package == nil && e == nil {
		s.Package = prepared(t.Dir, t.User)
	}
	return s, damaged, err
}
