package bootstrap

import (
	"github.com/sirupsen/logrus"

	"azp-bootstrap/bootstrap/agent"
)

// lookForKills says it if the kernel killed steps of a job for want of memory. The agent goes on, and
// the job's own log says no more than that a step ended with 137.
func (b *Boot) lookForKills() {
	known := b.state().Agent
	count, ok := agent.OOMKills(known.Service)
	if !ok {
		return
	}
	if more := b.report.Live.OOMKills(count); more > 0 {
		b.Log.WithFields(logrus.Fields{"agent": known.Name, "killed": more,
			"hint": "Give the VM more memory (a larger size), or its jobs less to do at once."}).
			Warn("the kernel killed processes of the agent's jobs: the VM is out of memory")
	}
}
