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
	// IdleSince is since when none runs: the last one's end, or in a later boot its begin.
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

// Idle reports since when the agent of a VM that is ready could have run a job and ran none: the last
// job's end, when the VM joined, or when the daemon looked first in this boot. is is false while a job
// runs, or if nobody has looked yet.
func (s State) Idle() (since time.Time, is bool) {
	since = s.Agent.Jobs.IdleSince
	if s.Phase != Ready || since.IsZero() {
		return time.Time{}, false
	}
	if s.ReadyAt != nil && s.ReadyAt.After(since) {
		since = *s.ReadyAt
	}
	return since, true
}
