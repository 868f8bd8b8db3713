package bootstrap

import (
	"testing"
	"testing/synctest"
	"time"

	"azp-bootstrap/bootstrap/leave"
	"azp-bootstrap/bootstrap/retry"
)

// An agent that falls over and over is brought up ever more slowly; one that stood for long is new
// to it.
func TestBrakeSlowsDownAnAgentThatFalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := brake{backoff: retry.Slowly()}
		var waits []time.Duration
		for _, stood := range []time.Duration{time.Second, time.Second, time.Second, time.Second, time.Hour, time.Second} {
			f.watched(func(notBefore time.Time) (bool, *leave.Notice) {
				begin := time.Now()
				time.Sleep(max(stood, time.Until(notBefore)))
				waits = append(waits, time.Since(begin))
				return true, nil
			})
		}
		if waits[0] != time.Second || waits[1] < 40*time.Second || waits[3] < waits[1] || waits[5] > 90*time.Second {
			t.Errorf("brought up after %v", waits)
		}
		before := f.notBefore
		f.watched(func(time.Time) (bool, *leave.Notice) { return false, nil })
		if f.notBefore != before {
			t.Error("a reload counts as a fall")
		}
	})
}
