package doctor

import (
	"os/user"
	"strings"
	"testing"

	"azp-bootstrap/bootstrap/agent"
)

// The wall stands around the jobs' account: a group by which it becomes root is said with it, once.
func TestGroupsThatPassTheWallAreSaid(t *testing.T) {
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		groups []string
		want   int
	}{
		{nil, 0},
		{[]string{"builders", "adm", "systemd-journal"}, 0},
		{[]string{"docker", "builders", "docker"}, 1},
		{[]string{"docker", "disk"}, 2},
	} {
		own := 0 // whoever runs this test may be in some
		for _, g := range agent.GroupsOf(me.Username) {
			if agent.OpensRoot(g) && !strings.Contains(strings.Join(c.groups, ","), g) {
				own++
			}
		}
		said := asRoot(me.Username, c.groups)
		if got := strings.Count(said, "\nnote: but jobs are in the group "); got != c.want+own {
			t.Errorf("%v: %d notes, not %d: %s", c.groups, got, c.want+own, said)
		}
	}
}
