package journal

import (
	"testing"
	"time"
)

// A look is what is seen of the agent's workers at an instant.
type look struct {
	at        int // seconds
	boot      string
	unwatched bool
	workers   []string
}

// Each job counts once, whatever cuts the daemon or the VM off, and however short the pause between two.
func TestJobsAreCounted(t *testing.T) {
	begin := time.Date(2026, 11, 28, 0, 0, 0, 0, time.UTC)
	at := func(seconds int) time.Time { return begin.Add(time.Duration(seconds) * time.Second) }
	one, two := []string{"7 100"}, []string{"9 200"}
	for name, c := range map[string]struct {
		looks []look
		want  Jobs
	}{
		"none": {[]look{{at: 1}, {at: 4}}, Jobs{IdleSince: at(1)}},
		"one that runs": {
			[]look{{at: 1}, {at: 4, workers: one}, {at: 7, workers: one}}, Jobs{Since: at(4), Worker: "7 100"},
		},
		"one that has ended": {
			[]look{{at: 1}, {at: 4, workers: one}, {at: 10}, {at: 13}},
			Jobs{Ended: 1, Timed: 1, Seconds: 6, IdleSince: at(10)},
		},
		"two in a row, with no look between them": {
			[]look{{at: 1, workers: one}, {at: 4, workers: two}, {at: 7}},
			Jobs{Ended: 2, Timed: 2, Seconds: 6, IdleSince: at(7)},
		},
		"one that starts processes of its name": {
			[]look{{at: 1, workers: one}, {at: 4, workers: append(one[:1:1], two...)}, {at: 7, workers: one}, {at: 10}},
			Jobs{Ended: 1, Timed: 1, Seconds: 9, IdleSince: at(10)},
		},
		"one that spans a restart of the daemon": {
			[]look{{at: 1, workers: one}, {at: 100, unwatched: true, workers: one}, {at: 103}},
			Jobs{Ended: 1, Timed: 1, Seconds: 102, IdleSince: at(103)},
		},
		"one that ended while no daemon ran": {
			[]look{{at: 1, workers: one}, {at: 100, unwatched: true}, {at: 103}}, Jobs{Ended: 1, IdleSince: at(100)},
		},
		"another one runs when the daemon is back": {
			[]look{{at: 1, workers: one}, {at: 100, unwatched: true, workers: two}, {at: 103}},
			Jobs{Ended: 2, Timed: 1, Seconds: 3, IdleSince: at(103)},
		},
		"one that a power loss cut": {
			[]look{{at: 1, workers: one}, {at: 5000, boot: "b", unwatched: true}, {at: 5003, boot: "b"}},
			Jobs{Ended: 1, IdleSince: at(5000), Boot: "b"},
		},
		"one of the same number and time in another boot": {
			[]look{{at: 1, workers: one}, {at: 5000, boot: "b", unwatched: true, workers: one}},
			Jobs{Ended: 1, Since: at(5000), Worker: "7 100", Boot: "b"},
		},
		"the time that the VM was off does not count": {
			[]look{{at: 1}, {at: 5000, boot: "b", unwatched: true}, {at: 5003, boot: "b"}}, Jobs{IdleSince: at(5000), Boot: "b"},
		},
		"a restart of the daemon is no end of being idle": {
			[]look{{at: 1}, {at: 100, unwatched: true}, {at: 103}}, Jobs{IdleSince: at(1)},
		},
		"a clock that was set back": {
			[]look{{at: 100, workers: one}, {at: 50}}, Jobs{Ended: 1, Timed: 1, IdleSince: at(50)},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var j Jobs
			ended := 0
			for _, l := range c.looks {
				boot := l.boot
				if boot == "" {
					boot = "a"
				}
				if j.Saw(l.workers, boot, !l.unwatched, at(l.at)) {
					ended++
				}
			}
			if c.want.Boot == "" {
				c.want.Boot = "a"
			}
			if j != c.want || ended != c.want.Ended {
				t.Errorf("%d times: %+v\nwant %+v", ended, j, c.want)
			}
		})
	}
}

func TestIdle(t *testing.T) {
	joined := time.Date(2026, 11, 28, 0, 0, 0, 0, time.UTC)
	later, before := joined.Add(time.Hour), joined.Add(-time.Hour)
	for name, c := range map[string]struct {
		s    State
		want time.Time
	}{
		"since the last job":     {State{Phase: Ready, ReadyAt: &joined, Agent: Agent{Jobs: Jobs{IdleSince: later}}}, later},
		"since it joined":        {State{Phase: Ready, ReadyAt: &joined, Agent: Agent{Jobs: Jobs{IdleSince: before}}}, joined},
		"nobody has looked":      {State{Phase: Ready, ReadyAt: &joined}, time.Time{}},
		"it leaves":              {State{Phase: Draining, ReadyAt: &joined, Agent: Agent{Jobs: Jobs{IdleSince: later}}}, time.Time{}},
		"a job runs":             {State{Phase: Ready, ReadyAt: &joined, Agent: Agent{Jobs: Jobs{Since: later}}}, time.Time{}},
		"a state of no ready at": {State{Phase: Ready, Agent: Agent{Jobs: Jobs{IdleSince: later}}}, later},
	} {
		if got, is := c.s.Idle(); !got.Equal(c.want) || is == c.want.IsZero() {
			t.Errorf("%s: %s, %v", name, got, is)
		}
	}
}

// Time in which the agent could get no job is no idle time, and neither is a time that nobody knows.
func TestOpening(t *testing.T) {
	begin := time.Date(2026, 11, 28, 0, 0, 0, 0, time.UTC)
	at := func(seconds int) time.Time { return begin.Add(time.Duration(seconds) * time.Second) }
	type seen struct {
		at   int
		shut bool
	}
	for name, c := range map[string]struct {
		seen     []seen
		now      int
		is, anew bool
	}{
		"nobody has looked":        {nil, 0, false, false},
		"it can":                   {[]seen{{at: 0}, {at: 3}}, 6, true, false},
		"it could not":             {[]seen{{at: 0}, {3, true}}, 6, false, true},
		"it can again":             {[]seen{{0, true}, {at: 3}}, 6, true, false},
		"the VM slept":             {[]seen{{at: 0}}, 9 * 3600, false, true},
		"the clock was set back":   {[]seen{{at: 100}}, 50, false, true},
		"somebody was late":        {[]seen{{at: 0}}, 29, true, false},
		"it was shut all the time": {[]seen{{0, true}}, 3, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			var o Opening
			for _, s := range c.seen {
				o.Saw(!s.shut, at(s.at))
			}
			if is, anew := o.Is(at(c.now)), o.Anew(at(c.now)); is != c.is || anew != c.anew {
				t.Errorf("is %v, anew %v", is, anew)
			}
		})
	}
}
