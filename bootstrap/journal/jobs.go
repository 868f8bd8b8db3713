package journal

import (
	"slices"
	"time"
)

// Jobs are the jobs that an agent has run since it was registered, as the daemon saw them: by the
// processes that run them, and by nobody's word.
type Jobs struct {
	Ended   int     `json:"ended"`
	Timed   int     `json:"timed"`   // those of them whose begin and end were seen
	Seconds float64 `json:"seconds"` // that these took
	// Since is when the job began that runs; zero: none runs.
	Since time.Time `json:"since,omitzero"`
	// IdleSince is since when none runs: the last one's end, or since the agent can get one again.
	IdleSince time.Time `json:"idleSince,omitzero"`
	// Worker is the process that runs the job, Boot the one of the VM in which that was seen.
	Worker string `json:"worker,omitempty"`
	Boot   string `json:"boot,omitempty"`
}

// Saw takes over what was seen: the workers that run by now, the oldest first, in this boot of the VM.
// watched says that somebody has looked all the while, so that the job that ended did so just now.
// ended is true if a job has ended. An agent runs one job at a time: what else calls itself a worker
// while the first one runs, such as a process that it is about to start, is no other job.
func (j *Jobs) Saw(workers []string, boot string, watched bool, now time.Time) (ended bool) {
	same := j.Boot == boot
	j.Boot = boot
	if !j.Since.IsZero() && !(same && slices.Contains(workers, j.Worker)) {
		ended = true
		j.Ended++
		if watched && same {
			j.Timed++
			j.Seconds += max(now.Sub(j.Since), 0).Seconds()
		}
		j.Since, j.Worker, j.IdleSince = time.Time{}, "", now
	}
	switch {
	case j.Since.IsZero() && len(workers) > 0:
		j.Since, j.Worker, j.IdleSince = now, workers[0], time.Time{}
	case j.Since.IsZero() && (!same || j.IdleSince.IsZero()):
		j.IdleSince = now
	}
	return ended
}

// Rested begins the time without a job anew: until now the agent could get none.
func (j *Jobs) Rested(now time.Time) {
	if j.Since.IsZero() {
		j.IdleSince = now
	}
}

// An Opening is what was last seen of whether the agent can get a job: time without one counts as idle only
// while it can.
type Opening struct {
	shut bool
	open time.Time // when it was last seen that it can
}

// Unseen is how long nobody may have looked for the time between to count.
const Unseen = 30 * time.Second

// Anew reports whether an agent that can get a job now could get none just before, or whether nobody knows:
// the VM slept, or its clock was set.
func (o Opening) Anew(now time.Time) bool {
	return o.shut || !o.open.IsZero() && (now.Sub(o.open) >= Unseen || now.Before(o.open))
}

// Saw notes whether the agent can get a job.
func (o *Opening) Saw(open bool, now time.Time) {
	if o.shut = !open; open {
		o.open = now
	}
}

// Is reports whether the agent can get a job, as was just seen.
func (o Opening) Is(now time.Time) bool {
	return !o.shut && !o.open.IsZero() && !now.Before(o.open) && now.Sub(o.open) < Unseen
}

// Idle reports since when the agent of a VM that is ready could have run a job and ran none: the last
// job's end, when the VM joined, or when the daemon looked first in this boot. is is false while a job
// runs or none can come, or if nobody has looked yet.
func (s State) Idle() (since time.Time, is bool) {
	since = s.Agent.Jobs.IdleSince
	if s.Phase != Ready || since.IsZero() || s.Paused != nil || s.Held() || s.NoRoom() {
		return time.Time{}, false
	}
	if s.ReadyAt != nil && s.ReadyAt.After(since) {
		since = *s.ReadyAt
	}
	return since, true
}
