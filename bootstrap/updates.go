package bootstrap

import "github.com/sirupsen/logrus"

// sayUpdates says once that Azure DevOps lets the agent update itself: a job waits meanwhile, on each new VM of an
// image with an older one. line is the agent's.
func (a *attempt) sayUpdates(line string) {
	if a.updates == line {
		return
	}
	a.updates = line
	a.Log.WithFields(logrus.Fields{
		"agent": a.journal.State().Agent.Name, "from": "agent",
		"hint": "Put that version into the image (azp-bootstrap prepare --pin VERSION): then no new VM's first job waits for it.",
	}).Warn("Azure DevOps lets the agent update itself, and a job waits for it: " + line)
}
