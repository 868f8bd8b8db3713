package bootstrap

import (
	"context"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/gofrs/flock"

	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/config"
	"azp-bootstrap/bootstrap/gate"
	"azp-bootstrap/bootstrap/journal"
	"azp-bootstrap/bootstrap/leave"
	"azp-bootstrap/bootstrap/line"
	"azp-bootstrap/bootstrap/member"
	"azp-bootstrap/bootstrap/retry"
	"azp-bootstrap/bootstrap/vm"
)

// A hooker runs root's scripts at events of this VM. They run beside what happens, and whatever becomes of them changes
// nothing about it.
type hooker struct {
	ctx     context.Context // ends with the daemon, or with the command that makes the VM leave
	mu      sync.Mutex
	member  *member.Member // as far as it is known; nil = not at all
	waiting map[string]bool
	running sync.WaitGroup
	active  int  // events whose scripts run, or are about to
	left    bool // the scripts of leaving have run for this stay
}

// hooksOf says which VM it is of which hooks tell, and by which configuration they run.
func (p *program) hooksOf(m member.Member) {
	p.hooks.mu.Lock()
	defer p.hooks.mu.Unlock()
	p.hooks.member = &m
}

// hooksAnyway lets the hooks of a failure run where no configuration was accepted yet: those of the default folder, which
// is root's, as what a refused configuration says of hooks is not believed; m is nil if it was refused.
func (p *program) hooksAnyway(m *member.Member) {
	p.hooks.mu.Lock()
	defer p.hooks.mu.Unlock()
	switch {
	case p.hooks.member != nil: // by the last one that was accepted
	case m != nil:
		p.hooks.member = m
	default:
		p.hooks.member = &member.Member{
			VM: vm.VM{Config: &config.Config{Hooks: config.DefaultHooks()}}, Agent: p.agentOf(p.journal.State()), Journal: p.journal,
		}
	}
}

// beginHooks lets hooks run until end, which ends what they run.
func (p *program) beginHooks(ctx context.Context) (end func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	p.hooks.ctx = ctx
	return func() {
		cancel()
		p.hooks.running.Wait()
	}
}

// fires runs the scripts of an event, until their time is over, or by at the latest if that is not zero; wait returns when
// they have ended, or ctx. While the scripts of the same event run, they run once more afterwards, however often it comes.
func (p *program) fires(event string, by time.Time, facts ...string) (wait func(ctx context.Context)) {
	h := &p.hooks
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.member == nil || h.waiting[event] || !gate.Hooked(h.member.VM.Config.Hooks.Run, event) {
		return func(context.Context) {}
	}
	if h.waiting == nil {
		h.waiting = map[string]bool{}
	}
	h.waiting[event] = true
	m, ended := *h.member, make(chan struct{})
	h.running.Add(1)
	h.active++
	go func() {
		defer h.running.Done()
		defer func() {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.active--
		}()
		defer close(ended)
		p.runHooks(h.ctx, m, event, by, facts)
	}()
	return func(ctx context.Context) {
		select {
		case <-ended:
		case <-ctx.Done():
		}
	}
}

func (p *program) runHooks(ctx context.Context, m member.Member, event string, by time.Time, facts []string) {
	log := p.Log.WithField("event", event)
	most, v := m.VM.Config.Hooks.Timeout, m.VM
	if !by.IsZero() {
		most = min(most, time.Until(by))
		limited, cancel := context.WithDeadline(ctx, by)
		defer cancel()
		ctx = limited
	}
	turn := flock.New(filepath.Join(p.StateDir, gate.HookLock(event)), flock.SetPermissions(0o600))
	patient, cancel := context.WithTimeout(ctx, 2*most)
	defer cancel()
	got, err := turn.TryLockContext(patient, time.Second)
	p.hooks.mu.Lock()
	delete(p.hooks.waiting, event)
	p.hooks.mu.Unlock()
	if !got {
		log.WithError(err).Warn("the hooks were not run: those of the same event still do, or the time was over")
		return
	}
	defer turn.Close() //nolint:errcheck // it ends with the process
	limited, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	begun := time.Now()
	err = gate.Hooks(limited, v.Config.Hooks.Run, event, p.hookFacts(v, event, facts), most, gate.Run{
		Program: func(ctx context.Context, what agent.Program, said func(string)) (int, error) {
			return m.Agent.RunProgram(ctx, what, p.Redactor, said)
		},
		Says:  func(of, line string) { log.WithField("from", of).Info(line) },
		Warns: func(message, of string) { log.WithField("from", of).Warn(message) },
	})
	p.report.Live.Hooked(event, err != nil)
	var failed *journal.Hook
	if err != nil {
		failed = &journal.Hook{Event: event, Message: p.Redactor.Redact(err.Error()), At: journal.Now()}
		log.Warn("not all hooks did their work: " + failed.Message)
	} else {
		log.WithField("took", time.Since(begun).Round(time.Millisecond).String()).Info("the hooks have run")
	}
	if s := p.journal.State(); failed == nil && (s.HookFailed == nil || s.HookFailed.Event != event) {
		return
	}
	if err := p.journal.Update(func(s *journal.State) { s.HookFailed = failed }); err != nil {
		log.WithError(err).Debug("what became of the hooks could not be recorded")
	}
}

// hooksRest waits until no hook runs: that of a job which has just ended has been heard of by then.
func (p *program) hooksRest(ctx context.Context) {
	for end := time.Now().Add(2 * lookJobs); !p.journal.State().Agent.Jobs.Since.IsZero() && time.Now().Before(end); {
		if !retry.Pause(ctx, lookSoon) {
			return
		}
	}
	for retry.Pause(ctx, lookSoon) {
		p.hooks.mu.Lock()
		active := p.hooks.active
		p.hooks.mu.Unlock()
		if active == 0 {
			return
		}
	}
}

// hookFacts are all that a hook finds in its environment. No secret is among them.
func (p *program) hookFacts(v vm.VM, event string, facts []string) []string {
	s := p.journal.State()
	env := append(gate.Of(v, p.StateDir).Env, "AZP_BOOTSTRAP_EVENT="+event, "AZP_BOOTSTRAP_AGENT="+s.Agent.Name,
		"AZP_BOOTSTRAP_AGENT_FOLDER="+s.Agent.Setup.Dir, "AZP_BOOTSTRAP_WORK_FOLDER="+workFolder(s.Agent.Setup))
	for _, f := range facts {
		env = append(env, line.Shown(p.Redactor.Redact(f)))
	}
	return env
}

func workFolder(s journal.Setup) string {
	if s.Work == "" || filepath.IsAbs(s.Work) {
		return s.Work
	}
	return filepath.Join(s.Dir, s.Work)
}

// jobEnded runs the hooks of a job's end. The agent may have begun the next one.
func (p *program) jobEnded(j journal.Jobs) {
	p.fires(gate.AfterJob, time.Time{}, "AZP_BOOTSTRAP_JOBS="+strconv.Itoa(j.Ended),
		"AZP_BOOTSTRAP_JOB_RUNS="+strconv.FormatBool(!j.Since.IsZero()))
}

// pausedNow runs the hooks of a pause, once for each.
func (p *program) pausedNow(s journal.State) {
	p.hooks.mu.Lock()
	known := p.hooks.member
	p.hooks.mu.Unlock()
	told := s.Paused == nil || !s.Paused.Held || s.Paused.Told
	if told || known == nil || !gate.Hooked(known.VM.Config.Hooks.Run, gate.Paused) {
		return
	}
	began := false
	if err := p.journal.Update(func(s *journal.State) { // before: a power cut must not run them twice
		if began = s.Paused != nil && !s.Paused.Told; began {
			pause := *s.Paused
			pause.Told = true
			s.Paused = &pause
		}
	}); err != nil || !began {
		return // another run is at work: at the next look
	}
	p.fires(gate.Paused, time.Time{}, "AZP_BOOTSTRAP_BY="+s.Paused.By, "AZP_BOOTSTRAP_REASON="+s.Paused.Reason)
}

// failedNow runs the hooks of a VM that is Unhealthy from now on.
func (p *program) failedNow(why *journal.Failure) {
	if p.Once || why == nil {
		return
	}
	p.fires(gate.Failed, time.Time{}, "AZP_BOOTSTRAP_CLASS="+why.Code, "AZP_BOOTSTRAP_REASON="+why.Message,
		"AZP_BOOTSTRAP_HINT="+why.Hint)
}

const (
	hookMargin = 5 * time.Second  // kept free before the VM goes
	atShutdown = 30 * time.Second // for hooks when the system shuts down: the unit's time is a minute
)

// leavingNow runs the hooks of a departure beside it, once for each stay, and never for longer than the VM is there. What
// Azure waits for is answered when they have ended.
func (a *attempt) leavingNow(n *leave.Notice) (wait func(ctx context.Context)) {
	wait = func(context.Context) {}
	s := a.journal.State()
	a.hooksOf(a.member)
	if s.Agent.ID == 0 || s.Phase == journal.Draining || s.Phase == journal.Removed || a.hooks.left {
		return wait
	}
	by, until := time.Time{}, ""
	switch {
	case !n.Until.IsZero():
		by, until = n.Until.Add(-hookMargin), n.Until.UTC().Format(time.RFC3339)
	case n.By == journal.ByShutdown:
		by = time.Now().Add(atShutdown)
	}
	if !by.IsZero() && time.Now().After(by) {
		return wait
	}
	a.hooks.left = true
	wait = a.fires(gate.Leaving, by, "AZP_BOOTSTRAP_REASON="+n.By, "AZP_BOOTSTRAP_UNTIL="+until)
	if answer := n.Acknowledge; answer != nil {
		n.Acknowledge = func(ctx context.Context) error {
			wait(ctx)
			return answer(ctx)
		}
	}
	return wait
}
