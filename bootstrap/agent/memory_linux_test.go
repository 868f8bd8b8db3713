package agent

import "testing"

func TestOOMKills(t *testing.T) {
	for text, want := range map[string]int{
		"low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n": 2,
		"oom_kill 0\n":                     0,
		"oom_kill 7":                       7,
		"":                                 -1,
		"oom 3\noom_group_kill 1\n":        -1,
		"oom_kill many\n":                  -1,
		"oom_kill -1\n":                    -1,
		"oom_kill 99999999999999999999\n":  -1,
		"total_oom_kill 4\noom_kill_x 5\n": -1,
	} {
		got, ok := oomKills(text)
		if !ok {
			got = -1
		}
		if got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
	for _, service := range []string{"", "no such unit.service", "../../../etc", "/"} {
		if n, ok := OOMKills(service); ok {
			t.Errorf("%q: %d", service, n)
		}
	}
}
