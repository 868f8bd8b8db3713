package agent

import "context"

// Log is where a person finds what the agent of a service says.
func Log(string) string { return "_diag of the agent's folder" }

// followService hears the agent's diagnostic logs: a service of Windows has no other output.
func (r Runner) followService(ctx context.Context, _ string, recent bool, hear func(line string)) error {
	return r.followDiag(ctx, recent, hear)
}
