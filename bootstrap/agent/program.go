package agent

// startKind is the kind of programs that the agent's start waits for.
const startKind = "start"

// ProgramFile is the file of the state folder by which a program runs in a unit of its own.
const ProgramFile = startKind + ".sh"
