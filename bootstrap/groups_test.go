//go:build linux

package bootstrap_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"azp-bootstrap/bootstrap"
	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/journal"
)

// A grouped is a VM that notes when its agent is started, and with which groups.
type grouped struct {
	*machine
	mu     sync.Mutex
	begun  time.Time
	starts []time.Duration
	with   [][]string
}

func (g *grouped) Start(ctx context.Context, s agent.Service, caFile string) (string, error) {
	g.mu.Lock()
	g.starts, g.with = append(g.starts, time.Since(g.begun)), append(g.with, s.Groups)
	g.mu.Unlock()
	return g.machine.Start(ctx, s, caFile)
}

// lives runs the daemon for a while.
func (g *grouped) lives(ctx context.Context, t *testing.T, long time.Duration, groups string) journal.State {
	t.Helper()
	o := g.options(5 * time.Minute)
	o.Agent, o.Once = g, false
	o.Set = append(o.Set, "health.listen=", "agent.user=nobody", "agent.groups="+groups)
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() { defer close(ended); _ = bootstrap.Run(ctx, o) }()
	time.Sleep(10 * time.Minute)
	if is, _ := disabled(g.machine); is != g.Working("") {
		t.Errorf("%s: a job runs: %v; the agent is disabled: %v", groups, g.Working(""), is)
	}
	time.Sleep(long - 10*time.Minute)
	g.machine.mu.Lock()
	runs := g.runs
	g.machine.mu.Unlock()
	cancel()
	<-ended
	s, _, err := journal.Read(g.state)
	if err != nil || !runs {
		t.Errorf("the agent runs: %v; %v", runs, err)
	}
	g.disk.service = true
	return s
}

// An agent is restarted when its groups have changed, between two jobs; and never for groups that do not exist.
func TestGroupsThatChange(t *testing.T) {
	t.Parallel()
	fewVMs(t, 1, nil, func(ctx context.Context, t *testing.T, all []*machine) {
		g := &grouped{machine: all[0], begun: time.Now()}
		for _, c := range []struct {
			groups string
			works  time.Duration // how long the agent's job runs on
			again  bool          // the agent is restarted
			want   []string
			says   string
		}{
			{groups: "games", again: true, want: []string{"games"}},
			{groups: "games", want: []string{"games"}},
			{groups: "audio,games", works: 20 * time.Minute, again: true, want: []string{"audio", "games"}},
			{groups: "games,audio", want: []string{"audio", "games"}},
			{groups: "nobody-has-this", want: []string{"audio", "games"}, says: "the group nobody-has-this of agent.groups does not exist"},
			{groups: "", again: true},
		} {
			g.start() // the daemon's own process, which ended with it
			g.starts, g.with, g.begun = nil, nil, time.Now()
			g.said.Reset()
			g.works(g.begun.Add(c.works))
			s := g.lives(ctx, t, 40*time.Minute, c.groups)
			if s.Phase != journal.Ready || s.Agent.Groups != journal.JoinedGroups(c.want) || s.Agent.Drained {
				t.Errorf("%q: %s, %v", c.groups, s.Phase, s.Agent)
			}
			if is, gone := disabled(g.machine); is || gone {
				t.Errorf("%q: the agent is disabled or gone", c.groups)
			}
			if len(g.starts) != map[bool]int{true: 1}[c.again] || c.again && (g.starts[0] < c.works || !slices.Equal(g.with[0], c.want)) {
				t.Errorf("%q: started %v with %v", c.groups, g.starts, g.with)
			}
			if !strings.Contains(g.said.String(), c.says) || strings.Contains(g.said.String(), "the agent is down") {
				t.Errorf("%q: it said %s", c.groups, g.said.String())
			}
		}
	})
}
