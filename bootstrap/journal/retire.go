package journal

import "time"

// Retire is when a VM leaves by itself, as its configuration says, and how far it is.
type Retire struct {
	Jobs int       `json:"jobs,omitempty"`        // after so many
	Idle float64   `json:"idleSeconds,omitempty"` // without a job for so long
	Age  float64   `json:"ageSeconds,omitempty"`
	Due  time.Time `json:"due,omitzero"` // by its age
	Then string    `json:"then"`         // what becomes of it

	// Why is set once the VM is to leave: from then on its agent takes no new job. Waits is what it
	// waits for, besides its running job.
	Why   string    `json:"why,omitempty"`
	Since time.Time `json:"since,omitzero"`
	Waits string    `json:"waits,omitempty"`
	// Taken is when the platform was asked to take the VM.
	Taken time.Time `json:"taken,omitzero"`
}

// Requests are the server's numbers of the job that an agent is at, and of the last that it finished.
type Requests struct {
	Assigned  int64 `json:"assigned,omitempty"`
	Completed int64 `json:"completed,omitempty"`
}

// Once is what is known of the one job of this VM's agent. It is root's alone: what a job can write
// is never asked.
type Once struct {
	Before Requests `json:"before,omitzero"` // which the server showed before the agent was this VM's
	// Began is when this VM knew that its job had begun; zero: as far as is known it has not.
	Began   time.Time `json:"began,omitzero"`
	Request int64     `json:"request,omitempty"` // the server's number of it; 0 = it was seen on the VM
}

// Retires reports whether the VM is on its way out by itself, so that its agent takes no job.
func (s State) Retires() bool { return s.Retire != nil && s.Retire.Why != "" }

// Becomes records what is to become of a VM that has left, or leaves, by itself: the configuration may be another one by
// now. One that is to stay is not ill because it could not go.
func (s *State) Becomes(then string) {
	if s.Retire == nil || s.RemovedBy != ByRetired {
		return
	}
	plan := *s.Retire
	plan.Then = then
	if s.Retire = &plan; s.Phase == Removed && then == "none" {
		s.LastError = nil
	}
}

// Spent reports whether the agent has begun the only job that it may.
func (s State) Spent() bool { return s.Once != nil && !s.Once.Began.IsZero() }

// Shut reports whether the agent is kept from jobs for other reasons than a pause: room is lacking
// or being made, or the VM is to leave.
func (s State) Shut() bool { return s.Agent.Shut() || s.Retires() || s.Spent() }

// Spend records that the only job of the agent has begun.
func (s *State) Spend(request int64) {
	once := Once{}
	if s.Once != nil {
		once = *s.Once
	}
	if once.Began.IsZero() {
		once.Began, once.Request = Now(), request
	}
	s.Once = &once
}
