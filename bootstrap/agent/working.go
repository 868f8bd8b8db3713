package agent

// worker is the program in which the listener runs a job, each in a process of its own
// (JobDispatcher.cs).
const worker = "Agent.Worker"

// Working reports whether a job runs. In doubt one does: what waits for it has an end of its own.
func (r Runner) Working(service string) bool {
	workers, err := r.Workers(service)
	return err != nil || len(workers) > 0
}
