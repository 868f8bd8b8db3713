package health

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/journal"
)

func TestRenderSaysWhatRuns(t *testing.T) {
	at := time.Date(2026, 11, 24, 3, 10, 0, 0, time.UTC)
	fresh := journal.State{Phase: journal.Waiting}
	removed := sample()
	removed.Phase = journal.Removed
	for name, c := range map[string]struct {
		state journal.State
		alive Alive
		says  []string
		never string
	}{
		"both run": {sample(), Alive{Daemon: Running, DaemonSince: &at, Agent: Running}, []string{
			"● ready", "  daemon    running since 2026-11-24T03:10:00Z\n",
		}, "does not run"},
		"the first attempt": {sample(), Alive{Daemon: Running, DaemonSince: &at, Agent: Running, Pending: true}, []string{
			"● ready", "  daemon    running since 2026-11-24T03:10:00Z, its first attempt has not ended yet\n",
		}, ""},
		"the agent's unit failed": {sample(), Alive{Daemon: Running, Agent: Stopped, AgentWord: "failed", AgentSince: at}, []string{
			"\x1b[1;31m✗ agent down\x1b[0m\n",
			"the agent web-000001 does not run (failed since 2026-11-24T03:10:00Z)\n",
			"The daemon brings it up again", agent.Log("vsts.agent.contoso.production.web-000001.service"),
		}, "● ready"},
		"neither runs": {sample(), Alive{Daemon: Stopped, DaemonSince: &at, Agent: Stopped, AgentWord: "inactive"}, []string{
			"✗ agent down", "does not run (inactive)\n",
			"not running since 2026-11-24T03:10:00Z: nobody watches over this VM; systemctl start azp-bootstrap\n",
			"\x1b[1mNext:\x1b[0m systemctl start azp-bootstrap: the daemon brings it up again.",
		}, "● ready"},
		"nobody may look": {sample(), Alive{Daemon: Unknown, Agent: Unknown, Unseen: "why"}, []string{
			"● ready", "  runs      unknown: ", "  daemon    unknown: why\n",
		}, "does not run"},
		"not begun": {fresh, Alive{Daemon: Unknown, Agent: Stopped, Unseen: "why"}, []string{"○ not started\n"}, "daemon"},
		"just begun": {fresh, Alive{Daemon: Running, DaemonSince: &at, Agent: Stopped, Pending: true}, []string{
			"○ not started\n", "daemon    running",
		}, ""},
		"left": {removed, Alive{Daemon: Stopped, Agent: Stopped}, []string{"… removed", "daemon    not running\n"}, "agent down"},
	} {
		var out bytes.Buffer
		Render(&out, c.state, true, c.alive)
		for _, text := range c.says {
			if !strings.Contains(out.String(), fault.Here(text)) {
				t.Errorf("%s: no %q in\n%s", name, text, &out)
			}
		}
		if c.never != "" && strings.Contains(out.String(), c.never) {
			t.Errorf("%s: %q in\n%s", name, c.never, &out)
		}
	}
}

// A VM that was ready waits in another boot for what its agent's start waits for: that is no agent
// that is down.
func TestAVMWaitsAtItsGate(t *testing.T) {
	s := sample()
	s.Gate = &journal.Gate{WaitsFor: "the start script 10-a", Since: s.StartedAt}
	a := Alive{Daemon: Running, DaemonSince: &s.StartedAt, Agent: Stopped}
	var out strings.Builder
	Render(&out, s, false, a)
	want := "  waits     for the start script 10-a, since 2026-11-24T03:00:00Z: the agent does not start before\n"
	if text := out.String(); !strings.HasPrefix(text, "… starts\n") || !strings.Contains(text, want) || a.Down(s) != nil {
		t.Errorf("%s%v", text, a.Down(s))
	}
	f := a.TimedOut(s, time.Second)
	if f.Class != fault.Start || !strings.Contains(f.Error(), "still waits for the start script 10-a") || f.Advice == "" {
		t.Error(f, f.Advice)
	}
	a.Agent = Running
	if a.Joined(s) {
		t.Error("it has joined")
	}
}

// A wait succeeds only on a VM that is ready, with an agent that runs as far as can be seen or by
// the word of a daemon; else it says what it waited for, and who was at work.
func TestWait(t *testing.T) {
	for _, phase := range []string{journal.Waiting, journal.Discover, journal.Credential, journal.Online, journal.Ready, journal.Draining, journal.Removed, journal.Failed} {
		for _, daemon := range []Life{Running, Stopped, Unknown} {
			for _, agent := range []Life{Running, Stopped, Unknown} {
				for _, pending := range []bool{false, true} {
					s := sample()
					s.Phase = phase
					a := Alive{Daemon: daemon, DaemonSince: &s.StartedAt, Agent: agent, Pending: pending}
					want := phase == journal.Ready && !pending &&
						(agent == Running || agent == Unknown && daemon == Running)
					if got := a.Joined(s); got != want {
						t.Errorf("%s %+v: joined %v", phase, a, got)
					}
					f := a.TimedOut(s, time.Second)
					if f.Class.Exit == 0 || f.Class == fault.Internal || f.Advice == "" {
						t.Errorf("%s %+v: %v", phase, a, f)
					}
					saysStopped := strings.Contains(f.Error(), "no daemon runs")
					saysStart := strings.Contains(f.Advice, startDaemon)
					if saysStopped != (daemon == Stopped) || saysStart != (daemon == Stopped) && daemon != Unknown {
						t.Errorf("%s %+v: says of the daemon: %v %s", phase, a, f, f.Advice)
					}
					if phase == journal.Ready && agent == Stopped && !pending && f.Class != fault.Service {
						t.Errorf("%s %+v: %v", phase, a, f)
					}
				}
			}
		}
	}
}
