package join

import (
	"testing"
	"time"

	"azp-bootstrap/bootstrap/config"
	"azp-bootstrap/bootstrap/member"
	"azp-bootstrap/bootstrap/vm"
)

// The old session of an agent that was taken over while it showed online may have to end first: it is not given up before.
func TestHowLongAnAgentByRestMayTake(t *testing.T) {
	for _, c := range []struct {
		timeout time.Duration
		session bool
		want    time.Duration
	}{
		{2 * time.Minute, false, 2 * time.Minute},
		{2 * time.Minute, true, comesOnline},
		{10 * time.Minute, true, 10 * time.Minute},
	} {
		m := member.Member{VM: vm.VM{Config: &config.Config{Agent: config.Agent{OnlineTimeout: c.timeout}}}}
		if got := provesIn(m, &Try{session: c.session}); got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
}
