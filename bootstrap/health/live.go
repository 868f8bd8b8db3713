package health

import (
	"sync"
	"time"

	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/journal"
)

// Verdict is a VM's health in the words of the Application Health extension's rich states
// (learn.microsoft.com, "Using Application Health extension with Virtual Machine Scale Sets").
type Verdict string

// The verdicts. Initializing is not one that an application may report: it says so by giving no
// valid answer, until the grace period ends.
const (
	Healthy      Verdict = "Healthy"
	Unhealthy    Verdict = "Unhealthy"
	Initializing Verdict = "Initializing"
)

// Live is where the daemon stands at this moment. A VM is unhealthy until success is asserted: what
// an earlier boot left in state.json asserts nothing.
type Live struct {
	mu       sync.Mutex
	state    journal.State
	asserted bool      // this daemon has seen the agent online, or found it so
	down     bool      // the agent does not run
	held     bool      // in a standby pool: it is as it should be
	lost     bool      // it runs, but says that it does not reach Azure DevOps
	since    time.Time // when the VM was last not on its way to ready
	retries  map[retryKey]int
	kills    kills
	hooks    map[hookKey]int
	jobRuns  func(service string) bool
	room     func() map[string]agent.Room
	asking   sync.Mutex // for room
}

type retryKey struct{ phase, class string }

type hookKey struct{ event, result string }

// NewLive begins with a VM of which nothing is known yet.
func NewLive() *Live {
	return &Live{state: journal.New(), since: time.Now(), retries: map[retryKey]int{}, hooks: map[hookKey]int{}}
}

// Set takes over what the journal says: a state that nobody changes any more.
func (l *Live) Set(s journal.State) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if was := l.state.Phase; was != s.Phase && s.Phase != journal.Ready && s.Phase != journal.Draining {
		l.asserted = false
		if was == journal.Ready {
			l.since = time.Now() // on its way again
		}
	}
	l.state = s
}

// Assert says that the VM has been seen to be ready, or that its job is waited for: until the VM
// gets further, it is not to be replaced.
func (l *Live) Assert() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asserted, l.down, l.lost = true, false, false
}

// Held says whether the VM is held in a standby pool, where it is as it should be: nothing must replace it. When
// it has left the pool it is on its way anew.
func (l *Live) Held(held bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held && !held {
		l.since = time.Now()
	}
	l.held = held
}

// AgentDown says whether the agent was found not running.
func (l *Live) AgentDown(down bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = down
}

// AgentLost says whether the agent has lost Azure DevOps. That is no verdict: an outage of Azure
// DevOps must not make automatic repair replace a whole scale set.
func (l *Live) AgentLost(lost bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lost = lost
}

// HasLost reports whether the agent has lost Azure DevOps.
func (l *Live) HasLost() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lost
}

// AskForJobs says how to see whether a job of a service's runs; it is asked when somebody wants to
// know.
func (l *Live) AskForJobs(ask func(service string) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.jobRuns = ask
}

// AskForRoom says how to see how much room the agent's folders have.
func (l *Live) AskForRoom(ask func() map[string]agent.Room) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.room = ask
}

// rooms asks how much room there is, for a second: a file system may not answer at all.
func (l *Live) rooms() map[string]agent.Room {
	l.mu.Lock()
	ask := l.room
	l.mu.Unlock()
	if ask == nil || !l.asking.TryLock() {
		return nil
	}
	said := make(chan map[string]agent.Room, 1)
	go func() {
		defer l.asking.Unlock()
		said <- ask()
	}()
	select {
	case all := <-said:
		return all
	case <-time.After(time.Second):
		return nil
	}
}

// works asks whether a job runs.
func (l *Live) works() bool {
	l.mu.Lock()
	ask, service := l.jobRuns, l.state.Agent.Service
	l.mu.Unlock()
	return ask != nil && ask(service)
}

// Retried counts a passing fault of a class in a phase.
func (l *Live) Retried(phase, class string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.retries[retryKey{phase, class}]++
}

// Hooked counts a run of an event's hooks.
func (l *Live) Hooked(event string, failed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	result := "ok"
	if failed {
		result = "failed"
	}
	l.hooks[hookKey{event, result}]++
}

// State is the journal's, as last written.
func (l *Live) State() journal.State {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state
}

// Verdict judges the VM. A VM on its way is Initializing for as long as grace lasts; one that
// failed for good is Unhealthy at once, so that automatic repair can replace it.
func (l *Live) Verdict(grace time.Duration) Verdict {
	l.mu.Lock()
	defer l.mu.Unlock()
	over := l.state.Phase == journal.Failed || l.state.Phase == journal.Removed
	if l.state.RemovedBy == journal.ByRetired && (l.state.Phase == journal.Draining || l.state.Phase == journal.Removed) {
		if l.state.Phase == journal.Removed && l.state.LastError != nil || l.state.LeftBehind() {
			return Unhealthy // it cannot go, and takes no job any more
		}
		return Healthy
	}
	switch {
	case l.held, l.asserted && !l.down && !over && !l.state.NoRoom():
		return Healthy
	case l.asserted || over || l.state.Phase == journal.Draining || time.Since(l.since) >= grace:
		return Unhealthy
	}
	return Initializing
}
