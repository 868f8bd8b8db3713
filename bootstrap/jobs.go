package bootstrap

import (
	"context"
	"sync"
	"time"

	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/gate"
	"azp-bootstrap/bootstrap/journal"
	"azp-bootstrap/bootstrap/member"
)

const (
	lookJobs = 3 * time.Second        // at what the agent runs
	lookSoon = 250 * time.Millisecond // when the agent says that a job begins or has ended …
	soonFor  = 10 * time.Second       // … which is so within this time
)

// A counter looks at the agent's processes for as long as the daemon lives, and notes in the journal
// when jobs begin and end, whatever else the daemon does. What the agent says of its jobs, which a job
// can say as well, makes it look sooner, and no more.
type counter struct {
	*program
	hint   chan struct{}
	looked time.Time // when last, with an answer
	of     int       // the agent's ID then

	mu      sync.Mutex
	opening journal.Opening
}

// countJobs begins to count; end ends it. A daemon that was told to end counts until it does.
func (p *program) countJobs(ctx context.Context) (end func()) {
	p.jobs = &counter{program: p, hint: make(chan struct{}, 1)}
	if p.Once {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		p.jobs.count(ctx)
	}()
	return func() {
		cancel()
		<-ended
	}
}

// lookNow makes the counter look without delay, and closely for a while.
func (c *counter) lookNow() {
	select {
	case c.hint <- struct{}{}:
	default: // it is about to
	}
}

func (c *counter) count(ctx context.Context) {
	look := time.NewTimer(0)
	defer look.Stop()
	var closely time.Time // until then
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.hint:
			closely = time.Now().Add(soonFor)
		case <-look.C:
		}
		c.look()
		if time.Now().Before(closely) {
			look.Reset(lookSoon)
		} else {
			look.Reset(lookJobs)
		}
	}
}

// look notes what has changed. What cannot be found out, or not be written because another run works on
// the VM, is noted at a later look.
func (c *counter) look() {
	s := c.journal.State()
	if s.Agent.ID == 0 || s.Phase == journal.Removed && s.Agent.Jobs.Since.IsZero() {
		return
	}
	workers, err := c.agentOf(s).Workers(s.Agent.Service)
	if err != nil {
		c.Log.WithError(err).Debug("whether a job runs cannot be seen")
		return
	}
	now, boot := journal.Now(), gate.ThisBoot()
	watched := c.of == s.Agent.ID && time.Since(c.looked) < journal.Unseen // else nobody knows when a job ended
	c.looked, c.of = time.Now(), s.Agent.ID
	open := s.Phase == journal.Ready && s.Paused == nil && !s.Held() && !s.NoRoom() && !c.report.Live.HasLost()
	rested := open && c.opened().Anew(now)
	saw := func(j *journal.Jobs) (ended bool) {
		ended = j.Saw(workers, boot, watched, now)
		if rested {
			j.Rested(now)
		}
		return ended
	}
	after := s.Agent.Jobs
	if saw(&after); after == s.Agent.Jobs {
		c.notes(open, now)
		return
	}
	ended := false
	if err := c.journal.Update(func(is *journal.State) {
		if is.Agent.ID == s.Agent.ID && is.Agent.Registered == s.Agent.Registered {
			ended = saw(&is.Agent.Jobs)
			after = is.Agent.Jobs
		}
	}); err != nil {
		c.Log.WithError(err).Debug("that a job has begun or ended could not be recorded")
		return
	}
	c.notes(open, now)
	if ended {
		c.jobEnded(after)
	}
}

// notes what was seen of whether the agent can get a job.
func (c *counter) notes(open bool, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.opening.Saw(open, now)
}

// opened is what was last seen of that.
func (c *counter) opened() journal.Opening {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.opening
}

// agentOf is the agent that the journal knows, whatever has become of the configuration.
func (p *program) agentOf(s journal.State) member.Agent {
	if p.Agent != nil {
		return p.Agent
	}
	home := agent.Home{Dir: s.Agent.Setup.Dir, User: s.Agent.Setup.User}
	return agent.Runner{Home: home, Process: s.Agent.Service == "", State: p.StateDir}
}
