package bootstrap

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/azure"
	"azp-bootstrap/bootstrap/config"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/journal"
	"azp-bootstrap/bootstrap/leave"
	"azp-bootstrap/bootstrap/member"
	"azp-bootstrap/bootstrap/member/membertest"
	"azp-bootstrap/bootstrap/phase"
	"azp-bootstrap/bootstrap/retry"
	"azp-bootstrap/bootstrap/vm"
)

// A talker is an agent that runs, and says something of its connection now and then.
type talker struct {
	membertest.Worker
	says      map[time.Duration]agent.Word
	meanwhile agent.Word // since it was lost, and before anybody listens
}

func (s *talker) Follow(ctx context.Context, _ string, since time.Time, heard func(agent.Word, string)) error {
	if !since.IsZero() && s.meanwhile != "" {
		heard(s.meanwhile, string(s.meanwhile))
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

// An agent that somebody removed takes it for an outage: Azure DevOps is asked when it lasts, once,
// and not at each blink.
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
		"it was lost unheard":         {nil, false, agent.Lost, true},
		"it came back unheard":        {nil, true, agent.Connected, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := membertest.NewPool()
				m, r := membertest.Joined(t, p, config.Drain{})
				m.Agent = &talker{membertest.Worker{Runner: membertest.Runner(t, m)}, c.says, c.meanwhile}
				a := watching(m, r)
				if c.lost {
					a.report.Lost(m.State(), "before")
				}
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
				defer cancel()
				begin := time.Now()
				if asks, _ := a.watch(ctx, time.Time{}, nil); asks != c.asks {
					t.Errorf("asked: %v, after %s", asks, time.Since(begin))
				}
				if took := time.Since(begin); c.asks && took > time.Minute {
					t.Errorf("asked after %s", took)
				}
			})
		})
	}
}

// watching is a daemon that has brought m up.
func watching(m member.Member, r phase.Runner) *attempt {
	means := member.Means{StateDir: m.Journal.Dir(), Log: m.Log, Redactor: m.Redactor, Agent: m.Agent}
	p := &program{
		Options: Options{Means: means},
		journal: m.Journal,
		report:  r.Report,
		hears:   leave.NewEar(),
		reload:  make(chan os.Signal, 1),
	}
	return &attempt{program: p, member: m}
}

func TestAFailedAttemptLetsTheAgentWorkOn(t *testing.T) {
	away := func(time.Duration) int { return 503 }
	for name, c := range map[string]struct {
		trouble func(time.Duration) int
		paused  *journal.Pause
	}{"Azure DevOps answers": {nil, nil}, "it does not": {away, nil}, "the VM is paused": {nil, &journal.Pause{By: "alice"}}} {
		t.Run(name, func(t *testing.T) {
			p := &membertest.Pool{Begin: time.Now(), Deleted: -1, Disabled: -1, Trouble: c.trouble}
			m, r := membertest.Joined(t, p, config.Drain{Enabled: true, Timeout: 15 * time.Minute})
			m.Agent = &membertest.Worker{Runner: membertest.Runner(t, m)}
			a := watching(m, r)
			membertest.Wrote(t, m.Journal, func(s *journal.State) { s.Paused = c.paused })
			stood := m.State()
			membertest.Wrote(t, m.Journal, func(s *journal.State) { s.Agent.Drained = true })
			leave.LetWork(t.Context(), m)
			_ = a.failed(fault.New(fault.Network, "the other target cannot be left alone").Hint("Wait."), stood, false)
			if works := c.trouble == nil && c.paused == nil; p.Enabled != works || m.State().Agent.Drained == works ||
				(m.State().Paused != nil) != (c.paused != nil) || m.State().Phase != journal.Ready {
				t.Errorf("enabled %v, drained %v, phase %s", p.Enabled, m.State().Agent.Drained, m.State().Phase)
			}
		})
	}
}

// An agent that is down is brought up in a few seconds where it is the daemon's own process; a
// service manager has a minute for it.
func TestAnAgentThatIsDownIsBroughtUp(t *testing.T) {
	for service, within := range map[string][2]time.Duration{"process": {0, 10 * time.Second}, "systemd": {35 * time.Second, 70 * time.Second}} {
		t.Run(service, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, r := membertest.Joined(t, membertest.NewPool(), config.Drain{})
				m.VM.Config.Agent.Service = service
				w := &membertest.Worker{Runner: membertest.Runner(t, m)}
				m.Agent = &talker{Worker: *w}
				m.Agent.(*talker).Stopped = time.Now()
				if err := m.Access.Fetch(t.Context()); err != nil {
					t.Fatal(err)
				}
				begin := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				fell, _ := watching(m, r).watch(ctx, time.Time{}, nil)
				if took := time.Since(begin); !fell || took < within[0] || took > within[1] {
					t.Errorf("fell: %v, after %s", fell, took)
				}
				if m.Access.Holds() {
					t.Error("the PAT is held while the VM is watched over")
				}
			})
		})
	}
}

// drain.enabled: false means that nobody listens for the VM's end.
func TestNoticesAreHeardIfTheyAreWanted(t *testing.T) {
	imds := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "scheduledevents") {
			_, _ = io.WriteString(
				w,
				`{"DocumentIncarnation":2,"Events":[{"EventId":"1","EventType":"Terminate","Resources":["web_1"],"EventStatus":"Scheduled","NotBefore":"Mon, 19 Sep 2050 18:29:47 GMT"}]}`,
			)
			return
		}
		_, _ = io.WriteString(w, `{"compute":{"vmId":"`+membertest.ThisInstance+`","name":"web_1"}}`)
	})
	for _, wanted := range []bool{true, false} {
		s := httptest.NewServer(imds)
		defer s.Close()
		m, r := membertest.Joined(t, membertest.NewPool(), config.Drain{Enabled: wanted})
		m.VM.Config.IMDS.Endpoint = s.URL
		a := watching(m, r)
		a.sources = &vm.Sources{Config: m.VM.Config, IMDS: azure.NewIMDS(s.URL, nil)}
		ctx, cancel := context.WithCancel(t.Context())
		a.listen(ctx, a.sources)
		patience := 10 * time.Second
		if !wanted {
			patience = 300 * time.Millisecond
		}
		select {
		case n := <-a.hears.Heard:
			if !wanted || n.Why != "Terminate" {
				t.Errorf("wanted %v, heard %+v", wanted, n)
			}
		case <-time.After(patience):
			if wanted {
				t.Error("nothing was heard")
			}
		}
		cancel()
	}
}

// A daemon whose attempt failed holds no PAT while it waits for the next.
func TestNothingIsHeldBetweenAttempts(t *testing.T) {
	m, r := membertest.Joined(t, membertest.NewPool(), config.Drain{})
	m.VM.Config.Deadline = 100 * time.Millisecond
	a := watching(m, r)
	a.sources = &vm.Sources{Config: m.VM.Config, IMDS: azure.NewIMDS("http://127.0.0.1:1", nil)}
	if err := m.Access.Fetch(t.Context()); err != nil || !m.Access.Holds() {
		t.Fatal(err)
	}
	if err := a.bringUp(t.Context()); fault.From(err).Class != fault.IMDS || m.Access.Holds() {
		t.Errorf("%v; the PAT is held: %v", err, m.Access.Holds())
	}
}

// A layer is an agent whose work folder is counted when it is made.
type layer struct {
	talker
	made []string
}

func (l *layer) WorkFolder(work string) error {
	l.made = append(l.made, work)
	return os.Mkdir(work, 0o755)
}

// A work folder that is gone is made again, when no job runs.
func TestAWorkFolderThatIsGoneIsMadeAgain(t *testing.T) {
	for name, c := range map[string]struct {
		gone bool
		job  time.Duration
		made int
		not  time.Duration // before
	}{
		"it is there": {false, 0, 0, 0}, "it is gone": {true, 0, 1, 0}, "a job runs": {true, 10 * time.Minute, 1, 10 * time.Minute},
		"a job runs for long": {true, 10 * time.Hour, 0, 0},
	} {
		dir := t.TempDir()
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, r := membertest.Joined(t, membertest.NewPool(), config.Drain{})
				m.Setup.Work = filepath.Join(dir, "work")
				l := &layer{talker: talker{Worker: membertest.Worker{Runner: membertest.Runner(t, m), Until: time.Now().Add(c.job)}}}
				m.Agent = l
				if !c.gone {
					if err := os.Mkdir(m.Setup.Work, 0o755); err != nil {
						t.Fatal(err)
					}
				}
				begun := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), c.not+5*time.Minute)
				defer cancel()
				if c.not > 0 {
					early, stop := context.WithTimeout(t.Context(), c.not-time.Second)
					defer stop()
					watching(m, r).watch(early, time.Time{}, nil)
					if len(l.made) > 0 {
						t.Error("it was made under a job")
					}
				}
				watching(m, r).watch(ctx, time.Time{}, nil)
				if len(l.made) != c.made || c.made > 0 && l.made[0] != m.Setup.Work {
					t.Errorf("made %q, in %s", l.made, time.Since(begun))
				}
			})
		})
	}
}

// Time in which no job could come counts as no time without one: the agent had lost Azure DevOps, its work
// disk was full, the daemon was stopped in mid-sleep with its VM.
func TestTimeInWhichNoJobCouldComeIsNotIdle(t *testing.T) {
	for name, c := range map[string]struct {
		begin, end func(a *attempt)
		blind      bool // nobody looks meanwhile
		counts     bool
	}{
		"nothing happens": {counts: true},
		"the agent had lost Azure DevOps": {
			begin: func(a *attempt) { a.report.Lost(a.journal.State(), "lost") },
			end:   func(a *attempt) { a.report.Found(a.journal.State()) },
		},
		"there was no room": {
			begin: func(a *attempt) { _ = a.journal.Update(func(s *journal.State) { s.Agent.Full = true }) },
			end:   func(a *attempt) { _ = a.journal.Update(func(s *journal.State) { s.Agent.Full = false }) },
		},
		"the VM slept": {blind: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, r := membertest.Joined(t, membertest.NewPool(), config.Drain{})
				m.Agent = &membertest.Worker{Runner: membertest.Runner(t, m)}
				a := watching(m, r)
				a.Agent = m.Agent
				counts := &counter{program: a.program}
				looks := func(n int) {
					for range n {
						counts.look()
						time.Sleep(lookJobs)
					}
				}
				looks(10)
				if c.begin != nil {
					c.begin(a)
				}
				if c.blind {
					time.Sleep(9 * time.Hour)
				} else {
					looks(1000)
				}
				if c.end != nil {
					c.end(a)
				}
				since, _ := a.journal.State().Idle()
				if c.blind && counts.opened().Is(journal.Now()) {
					t.Error("what nobody has looked at counts")
				}
				looks(2)
				now, is := a.journal.State().Idle()
				if !is || now.Equal(since) != c.counts || !c.counts && time.Since(now) > 3*lookJobs {
					t.Errorf("idle %v since %s, and before since %s", is, now, since)
				}
			})
		})
	}
}
