package doctor

import "azp-bootstrap/bootstrap/agent"

// older adds to what is said of the package that Azure DevOps has a newer agent. That is no fault, and nobody
// knows whether a job will want it.
func (x *examination) older() {
	x.mu.Lock()
	defer x.mu.Unlock()
	c, checked := x.found["agent package"]
	if !checked || c.Outcome != OK || !agent.Newer(x.offered, x.inPlace) {
		return
	}
	c.Detail += "\nnote: Azure DevOps has the agent " + x.offered + ": a job that wants a newer one than " + x.inPlace +
		" waits until the agent has updated itself"
	x.found["agent package"] = c
}
