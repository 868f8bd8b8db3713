package member

import (
	"strings"

	"azp-bootstrap/bootstrap/devops"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/journal"
)

// An Owner is whose an agent on the server is.
type Owner int

// The owners. What nobody knows is left alone.
const (
	NobodyKnows Owner = iota // the server does not show it
	ThisVM
	AnotherVM
)

// Whose decides whose an agent on the server is, for the VM with this instance ID ("" = IMDS has
// not told) and journal. Whatever is done to an agent (enabling, disabling, tagging, taking over,
// removing) asks it first. An equal name proves nothing, nor does an equal ID: a takeover keeps it.
// What counts is the instance ID that the agent shows, and then what the journal says this VM was
// about to do when it was cut off.
//
// What an agent shows are lines of its .env, and a job can write those: into that of its own agent,
// and no other's. So an agent that shows this VM must also show the registration that the journal
// knows under its ID, if it knows one: else a VM that took the agent over could be made to show our
// ID. And one of the journal that shows another VM may be ours: Reclaim tells.
func Whose(a *devops.Agent, instanceID string, s journal.State) Owner {
	made, known := s.Registering, s.Agent
	showsUs := strings.EqualFold(a.InstanceID, instanceID)
	ofTheJournal := made == nil && a.ID == known.ID && known.Registered != ""
	switch {
	case instanceID == "":
		return NobodyKnows
	case showsUs && ofTheJournal && a.Registered != known.Registered:
		return NobodyKnows
	case showsUs:
		return ThisVM
	case a.InstanceID != "":
		return AnotherVM
	case made != nil && made.Existing == 0 && strings.EqualFold(made.Name, a.Name) && a.Offline:
		return ThisVM
	}
	return NobodyKnows
}

// Whose is Whose for this VM.
func (m Member) Whose(a *devops.Agent) Owner { return Whose(a, m.VM.Instance.VMID, m.State()) }

// Unclear is the fault of an agent of which nobody knows whose it is.
func Unclear(p devops.Place, a *devops.Agent) *fault.Error {
	return fault.New(fault.Target, "the agent %s (ID %d) in the %s does not show on which VM it stands, so nothing "+
		"is done to it", a.Name, a.ID, p).
		Hint("Another machine has taken its name over by other means, or its .env lost the line %s. If it is this "+
			"VM's, "+
			"remove it in Azure DevOps by hand; azp-bootstrap deregister --local forgets it on "+
			"this VM.", devops.InstanceIDCapability)
}
