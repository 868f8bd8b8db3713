//go:build !windows

package image

import "azp-bootstrap/bootstrap/fault"

// trust has nothing to do here: the agent and its jobs are told of network.caFile.
func (p Preparation) trust() error {
	if !p.Trust {
		return nil
	}
	return fault.New(fault.Usage, "--trust is for Windows").
		Hint("Leave it out: the agent is told of network.caFile here.")
}
