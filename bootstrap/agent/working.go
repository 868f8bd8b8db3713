package agent

// worker is the program in which the listener runs a job, each in a process of its own
// (JobDispatcher.cs).
const worker = "Agent.Worker"
