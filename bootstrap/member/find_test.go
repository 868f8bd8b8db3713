package member_test

import (
	"testing"

	"azp-bootstrap/bootstrap/config"
	"azp-bootstrap/bootstrap/devops"
	"azp-bootstrap/bootstrap/journal"
	"azp-bootstrap/bootstrap/member/membertest"
)

// A target is known by its IDs; where the journal has none, of an earlier version, by its name.
func TestStandsAt(t *testing.T) {
	place := func(project string, id int) devops.Place {
		return devops.Place{Target: devops.Target{Kind: devops.Pool, Name: "Default"}, ProjectID: project, ID: id}
	}
	for name, c := range map[string]struct {
		journal func(*journal.Target)
		at      devops.Place
		stands  bool
	}{
		"the same":                        {func(*journal.Target) {}, place("", 1), true},
		"the same ID, under another name": {func(t *journal.Target) { t.Name = "Old" }, place("", 1), true},
		"another ID, under the same name": {func(*journal.Target) {}, place("", 2), false},
		"the same ID of another project":  {func(t *journal.Target) { t.ProjectID = "a" }, place("b", 1), false},
		"a project that was not known":    {func(t *journal.Target) { t.ProjectID = "a" }, place("", 1), true},
		"the same ID on another server":   {func(t *journal.Target) { t.URL = "https://dev.azure.com/fabrikam" }, place("", 1), false},
		"the same ID of another kind":     {func(t *journal.Target) { t.Kind = devops.Environment }, place("", 1), false},
		"no ID, the same name":            {func(t *journal.Target) { t.ID = 0 }, place("", 1), true},
		"no ID, another name":             {func(t *journal.Target) { t.ID, t.Name = 0, "Old" }, place("", 1), false},
	} {
		m, _ := membertest.Joined(t, membertest.NewPool(), config.Drain{})
		membertest.Wrote(t, m.Journal, func(s *journal.State) { c.journal(&s.Target) })
		if m.StandsAt(c.at) != c.stands {
			t.Errorf("%s: %v", name, !c.stands)
		}
	}
}
