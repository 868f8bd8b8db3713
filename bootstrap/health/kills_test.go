package health

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestOOMKillsAreCountedOnce(t *testing.T) {
	l := NewLive()
	registry := prometheus.NewRegistry()
	registry.MustRegister(&metrics{l, "test"})
	if n, err := testutil.GatherAndCount(registry, "azp_bootstrap_oom_kills_total"); n != 0 || err != nil {
		t.Errorf("before anybody counted: %d %v", n, err)
	}
	for i, step := range []struct{ count, more int }{
		{3, 0}, // of before this daemon
		{3, 0}, {5, 2}, {5, 0},
		{1, 1}, // the service was started anew
		{0, 0}, {4, 4},
	} {
		if more := l.OOMKills(step.count); more != step.more {
			t.Errorf("look %d, at %d: %d more, want %d", i, step.count, more, step.more)
		}
	}
	want := "# HELP azp_bootstrap_oom_kills_total Processes of the agent's service that were killed for want of memory since the daemon started.\n" +
		"# TYPE azp_bootstrap_oom_kills_total counter\nazp_bootstrap_oom_kills_total 7\n"
	if err := testutil.GatherAndCompare(
		registry,
		strings.NewReader(want),
		"azp_bootstrap_oom_kills_total",
	); err != nil {
		t.Error(err)
	}
}
