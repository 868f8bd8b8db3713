package leave

import (
	"context"
	"testing"
	"time"

	"azp-bootstrap/bootstrap/journal"
)

// Of two notices the earlier end counts, in whatever order they come; both are answered, and an
// operator's word lasts.
func TestNoticesThatMeet(t *testing.T) {
	soon, late := time.Now().Add(30*time.Second), time.Now().Add(5*time.Minute)
	for name, c := range map[string]struct {
		first, second Notice
		until         time.Time
		wait, local   bool
		by            string
	}{
		"Preempt, then Terminate": {Notice{Until: soon, By: journal.ByPreempt}, Notice{Until: late, Wait: true, By: journal.ByTerminate}, soon, false, false, journal.ByTerminate},
		"Terminate, then Preempt": {Notice{Until: late, Wait: true, By: journal.ByTerminate}, Notice{Until: soon, By: journal.ByPreempt}, soon, false, false, journal.ByPreempt},
		"deregister, then Preempt": {Notice{Wait: true, By: journal.ByOperator}, Notice{Until: soon, Goes: true, By: journal.ByPreempt},
			soon, false, false, journal.ByOperator},
		"deregister, then Terminate": {Notice{Wait: true, Local: true, By: journal.ByOperator}, Notice{Until: late, Wait: true, Goes: true, By: journal.ByTerminate},
			late, true, true, journal.ByOperator},
	} {
		answered := 0
		answer := func(context.Context) error { answered++; return nil }
		c.first.Acknowledge, c.second.Acknowledge = answer, answer
		both := c.first.With(c.second)
		if !both.Until.Equal(c.until) || both.Wait != c.wait || both.Local != c.local || both.By != c.by ||
			both.Goes != c.second.Goes {
			t.Errorf("%s: %+v", name, both)
		}
		if err := both.Acknowledge(t.Context()); err != nil || answered != 2 {
			t.Errorf("%s: %d answered, %v", name, answered, err)
		}
		c.second.Acknowledge = nil
		answered = 0
		if err := c.first.With(c.second).Acknowledge(t.Context()); err != nil || answered != 1 {
			t.Errorf("%s: %d answered, %v", name, answered, err)
		}
	}
}
