package agent

// onceInput lets the listener run one job and end (Agent.Listener, CommandSettings.cs: each flag can be an
// input in the environment, which the listener takes out of it before it starts a job).
const onceInput = "VSTS_AGENT_INPUT_ONCE=true"

// listener is the program that takes jobs.
const listener = "bin/Agent.Listener"
