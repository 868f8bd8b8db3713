package agent

// The kinds of programs besides those of hooks: what the agent's start waits for, and what makes room.
const (
	StartKind = "start"
	CleanKind = "clean"
)

// ProgramFiles are the files of the state folder that programs of a kind need, or did in earlier versions.
func ProgramFiles(kind string) []string { return []string{kind + ".pid", kind + ".sh"} }
