package bootstrap

import (
	"testing"
	"time"

	"azp-bootstrap/bootstrap/devops"
)

func TestOnlyAgentsOfVMsThatAreGoneAreSwept(t *testing.T) {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	list := map[string]bool{"there": true}
	for _, c := range []struct {
		name      string
		agent     devops.Agent
		list      map[string]bool
		olderThan time.Duration
		want      bool
	}{
		{"another's", devops.Agent{Since: now.Add(-1000 * time.Hour)}, list, 0, false},
		{"online, not in the list", devops.Agent{InstanceID: "gone", Online: true}, list, 0, false},
		{"not in the list", devops.Agent{InstanceID: "gone"}, list, -1, true},
		{"in the list", devops.Agent{InstanceID: "there", Since: now.Add(-1000 * time.Hour)}, list, -1, false},
		{"in the list, too long offline", devops.Agent{InstanceID: "there", Since: now.Add(-2 * time.Hour)}, list, time.Hour, true},
		{"just offline", devops.Agent{InstanceID: "gone", Since: now.Add(-time.Minute)}, nil, time.Hour, false},
		{"exactly so long offline", devops.Agent{InstanceID: "gone", Since: now.Add(-time.Hour)}, nil, time.Hour, false},
		{"too long offline", devops.Agent{InstanceID: "gone", Since: now.Add(-time.Hour - time.Second)}, nil, time.Hour, true},
		{"the server does not tell", devops.Agent{InstanceID: "gone"}, nil, time.Hour, false},
		{"a clock ahead of ours", devops.Agent{InstanceID: "gone", Since: now.Add(time.Hour)}, nil, 0, false},
	} {
		got, why := Sweeping{Existing: c.list, OlderThan: c.olderThan}.gone(&c.agent, now)
		if got != c.want || why == "" {
			t.Errorf("%s: gone is %v (%s)", c.name, got, why)
		}
	}
}
