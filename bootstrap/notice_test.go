package bootstrap

import (
	"context"
	"testing"
	"time"

	"azp-bootstrap/bootstrap/journal"
)

// Of two notices the earlier end counts, in whatever order they come; both are answered, and an operator's word lasts.
func TestNoticesThatMeet(t *testing.T) {
	soon, late := time.Now().Add(30*time.Second), time.Now().Add(5*time.Minute)
	for name, c := range map[string]struct {
		first, second notice
		until         time.Time
		wait, local   bool
		by            string
	}{
		"Preempt, then Terminate": {notice{until: soon, by: journal.ByPreempt}, notice{until: late, wait: true, by: journal.ByTerminate}, soon, false, false, journal.ByTerminate},
		"Terminate, then Preempt": {notice{until: late, wait: true, by: journal.ByTerminate}, notice{until: soon, by: journal.ByPreempt}, soon, false, false, journal.ByPreempt},
		"deregister, then Preempt": {notice{wait: true, by: journal.ByOperator}, notice{until: soon, goes: true, by: journal.ByPreempt},
			soon, false, false, journal.ByOperator},
		"deregister, then Terminate": {notice{wait: true, local: true, by: journal.ByOperator}, notice{until: late, wait: true, goes: true, by: journal.ByTerminate},
			late, true, true, journal.ByOperator},
	} {
		answered := 0
		answer := func(context.Context) error { answered++; return nil }
		c.first.acknowledge, c.second.acknowledge = answer, answer
		both := c.first.with(c.second)
		if !both.until.Equal(c.until) || both.wait != c.wait || both.local != c.local || both.by != c.by || both.goes != c.second.goes {
			t.Errorf("%s: %+v", name, both)
		}
		if err := both.acknowledge(t.Context()); err != nil || answered != 2 {
			t.Errorf("%s: %d answered, %v", name, answered, err)
		}
		c.second.acknowledge = nil
		answered = 0
		if err := c.first.with(c.second).acknowledge(t.Context()); err != nil || answered != 1 {
			t.Errorf("%s: %d answered, %v", name, answered, err)
		}
	}
}
