package agent

// ProgramFile is the file of the state folder by which a program runs in a unit of its own.
const ProgramFile = "start.sh"
