package bootstrap

import (
	"context"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/config"
	"azp-bootstrap/bootstrap/retry"
)

// A talker is an agent that runs, and says something of its connection now and then.
type talker struct {
	worker
	says      map[time.Duration]agent.Word
	meanwhile agent.Word // since it was lost, and before anybody listens
}

func (s *talker) Follow(ctx context.Context, _ string, since time.Time, heard func(agent.Word, string)) error {
	if !since.IsZero() {
		if s.meanwhile != "" {
			heard(s.meanwhile, string(s.meanwhile))
		}
		<-ctx.Done()
		return nil
	}
	begin := time.Now()
	for at := time.Duration(0); at < time.Hour; at += time.Second {
		if w, says := s.says[at]; says {
			heard(w, string(w))
		}
		if !retry.Pause(ctx, time.Until(begin.Add(at+time.Second))) {
			return nil
		}
	}
	return nil
}

// An agent that somebody removed takes it for an outage: Azure DevOps is asked when it lasts, once, and not at each blink.
func TestAnAgentThatHasLostAzureDevOpsIsAskedAbout(t *testing.T) {
	for name, c := range map[string]struct {
		says      map[time.Duration]agent.Word
		lost      bool // before
		meanwhile agent.Word
		asks      bool
	}{
		"it stays lost":               {map[time.Duration]agent.Word{time.Second: agent.Lost}, false, "", true},
		"it is back soon":             {map[time.Duration]agent.Word{time.Second: agent.Lost, 20 * time.Second: agent.Connected}, false, "", false},
		"nothing happens":             {nil, false, "", false},
		"the server knows it no more": {map[time.Duration]agent.Word{time.Second: agent.Missing}, false, "", true},
		"it was lost and is":          {nil, true, "", true},
		"it came back unheard":        {nil, true, agent.Connected, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &pool{begin: time.Now(), enabled: true, deleted: -1, disabled: -1}
				b := joined(t, p, config.Drain{})
				b.StateDir = b.journal.Dir()
				b.Runner = &talker{worker{Runner: b.Runner.(agent.Runner)}, c.says, c.meanwhile}
				if c.lost {
					b.report.Lost(b.state(), "before")
				}
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
				defer cancel()
				begin := time.Now()
				if asks, _ := b.watch(ctx, make(chan os.Signal), nil, time.Time{}, nil); asks != c.asks {
					t.Errorf("asked: %v, after %s", asks, time.Since(begin))
				}
				if took := time.Since(begin); c.asks && took > time.Minute {
					t.Errorf("asked after %s", took)
				}
			})
		})
	}
}
