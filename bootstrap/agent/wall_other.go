//go:build !linux

package agent

import (
	"context"

	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/tree"
)

// NFT is nowhere here.
func NFT(tree.Tree) string { return "" }

// NoNFT is the next step where there can be no wall.
const NoNFT = "Keep jobs from 169.254.169.254 by this system's own firewall, or by Azure's Metadata Security Protocol."

// RaiseWall is refused: the wall is Linux's.
func (r Runner) RaiseWall(context.Context, string) error {
	return fault.New(fault.Service, "jobs cannot be kept from the metadata service: there is no wall on this system").
		Hint(NoNFT)
}

// LowerWall has nothing to do.
func (r Runner) LowerWall(context.Context) error { return nil }

// Reaches is not known.
func (h Home) Reaches(context.Context, string) (reach Reach, why string) {
	return Unknown, "nobody looks on this system"
}
