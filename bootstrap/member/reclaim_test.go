//go:build unix

package member_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/config"
	"azp-bootstrap/bootstrap/journal"
	"azp-bootstrap/bootstrap/member"
	"azp-bootstrap/bootstrap/member/membertest"
)

// A keyed is an agent on this VM that is registered, and whose key the server takes or refuses.
type keyed struct {
	membertest.Worker
	server *membertest.Pool
	ours   bool // the server knows its key
	starts int
}

func (k *keyed) Registered() (int, error) { return 7, nil }
func (k *keyed) LaidFor() string          { return membertest.ThisInstance }

func (k *keyed) Start(_ context.Context, s agent.Service, _ string) (string, error) {
	k.starts++
	if k.Stopped = (time.Time{}); k.ours { // its session brings its marks along
		k.server.StandsOn, k.server.Mark = s.Marks.InstanceID, s.Marks.Registered
	}
	return "", nil
}

// What an agent shows, a job may have written; who has its key, nobody can forge. Nothing is
// changed on the server to find out, and no job is cut.
func TestTheKeyTellsWhoseAnAgentIs(t *testing.T) {
	const registered, later = "2026-11-26T12:00:00.1Z", "2026-11-26T12:09:00Z"
	for name, c := range map[string]struct {
		standsOn, mark string
		ours, works    bool
		want           member.Owner
		starts         int
	}{
		"all is well":                         {membertest.ThisInstance, registered, true, false, member.ThisVM, 0},
		"a job wrote another VM":              {membertest.OtherInstance, registered, true, false, member.ThisVM, 1},
		"a job wrote another registration":    {membertest.ThisInstance, later, true, false, member.ThisVM, 1},
		"a job wrote no VM":                   {"-", "", true, false, member.ThisVM, 1},
		"another VM took it over":             {membertest.OtherInstance, later, false, false, member.AnotherVM, 1},
		"the same, and a job there wrote us":  {membertest.ThisInstance, later, false, false, member.NobodyKnows, 1},
		"a job wrote another VM, and runs on": {membertest.OtherInstance, registered, true, true, member.AnotherVM, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &membertest.Pool{
					Begin:    time.Now(),
					Enabled:  true,
					Deleted:  -1,
					Disabled: -1,
					StandsOn: c.standsOn,
					Mark:     c.mark,
				}
				m, _ := membertest.Joined(t, p, config.Drain{Enabled: true, Timeout: time.Hour})
				membertest.Wrote(t, m.Journal, func(s *journal.State) { s.Agent.Registered = registered })
				k := &keyed{Worker: membertest.Worker{Runner: membertest.Runner(t, m)}, server: p, ours: c.ours}
				if c.works {
					k.Until = p.Begin.Add(time.Hour)
				}
				m.Agent = k
				client, err := m.Access.DevOps(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				place := member.PlaceOf(m.State().Target)
				a, err := client.ByID(t.Context(), place, 7)
				if err == nil {
					a, err = m.Reclaim(t.Context(), client, place, a, &member.Drain{})
				}
				if err != nil {
					t.Fatal(err)
				}
				if is := m.Whose(
					a,
				); is != c.want || k.starts != c.starts || p.Disabled >= 0 || p.Deleted >= 0 ||
					c.works && !k.Stopped.IsZero() {
					t.Errorf(
						"%d, want %d; started %d times, disabled %s, deleted %s",
						is,
						c.want,
						k.starts,
						p.Disabled,
						p.Deleted,
					)
				}
			})
		})
	}
}
