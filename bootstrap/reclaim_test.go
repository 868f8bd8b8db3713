//go:build unix

package bootstrap

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/config"
	"azp-bootstrap/bootstrap/journal"
)

// A keyed is an agent on this VM that is registered, and whose key the server takes or refuses.
type keyed struct {
	worker
	server *pool
	ours   bool // the server knows its key
	starts int
}

func (k *keyed) Registered() (int, error) { return 7, nil }
func (k *keyed) LaidFor() string          { return thisInstance }

func (k *keyed) Start(_ context.Context, s agent.Service, _ string) (string, error) {
	k.starts++
	if k.stopped = (time.Time{}); k.ours { // its session brings its marks along
		k.server.standsOn, k.server.mark = s.Marks.InstanceID, s.Marks.Registered
	}
	return "", nil
}

// What an agent shows, a job may have written; who has its key, nobody can forge. Nothing is changed on the server to find out,
// and no job is cut.
func TestTheKeyTellsWhoseAnAgentIs(t *testing.T) {
	const registered, later = "2026-11-26T12:00:00.1Z", "2026-11-26T12:09:00Z"
	for name, c := range map[string]struct {
		standsOn, mark string
		ours, works    bool
		want           owner
		starts         int
	}{
		"all is well":                         {thisInstance, registered, true, false, thisVM, 0},
		"a job wrote another VM":              {otherInstance, registered, true, false, thisVM, 1},
		"a job wrote another registration":    {thisInstance, later, true, false, thisVM, 1},
		"a job wrote no VM":                   {"-", "", true, false, thisVM, 1},
		"another VM took it over":             {otherInstance, later, false, false, anotherVM, 1},
		"the same, and a job there wrote us":  {thisInstance, later, false, false, nobodyKnows, 1},
		"a job wrote another VM, and runs on": {otherInstance, registered, true, true, anotherVM, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &pool{begin: time.Now(), enabled: true, deleted: -1, disabled: -1, standsOn: c.standsOn, mark: c.mark}
				b := joined(t, p, config.Drain{Enabled: true, Timeout: time.Hour})
				wrote(t, b, func(s *journal.State) { s.Agent.Registered = registered })
				k := &keyed{worker: worker{Runner: b.Runner.(agent.Runner)}, server: p, ours: c.ours}
				if c.works {
					k.until = p.begin.Add(time.Hour)
				}
				b.Runner = k
				client, err := b.access.DevOps(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				place := placeOf(b.state().Target)
				a, err := client.ByID(t.Context(), place, 7)
				if err == nil {
					a, err = b.reclaim(t.Context(), client, place, a)
				}
				if err != nil {
					t.Fatal(err)
				}
				if is := b.whose(a); is != c.want || k.starts != c.starts || p.disabled >= 0 || p.deleted >= 0 || c.works && !k.stopped.IsZero() {
					t.Errorf("%d, want %d; started %d times, disabled %s, deleted %s", is, c.want, k.starts, p.disabled, p.deleted)
				}
			})
		})
	}
}
