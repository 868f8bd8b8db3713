package bootstrap

import (
	"context"
	"time"

	"github.com/sirupsen/logrus"

	"azp-bootstrap/bootstrap/azure"
)

// A notice says that this VM is about to go.
type notice struct {
	why         string
	goes        bool      // the VM goes, whether it can leave Azure DevOps or not
	wait        bool      // a running job is waited for
	local       bool      // Azure DevOps is not asked
	by          time.Time // when the VM goes whatever we do; zero = not known
	acknowledge func(context.Context) error
}

// A listener hears of a VM's end from one source. It sends at most one notice and returns; the first
// notice of all listeners wins.
type listener interface {
	listen(ctx context.Context, heard chan<- notice)
}

// events are where Azure announces what it is about to do: IMDS.
type events interface {
	Events(context.Context) (incarnation int, events []azure.Event, err error)
	Acknowledge(ctx context.Context, id string) error
}

// scheduledEvents hears of Terminate and Preempt from IMDS. Reboot, Redeploy and Freeze are no end:
// the VM comes back with its agent, so they are only logged.
type scheduledEvents struct {
	imds events
	vm   string // the VM's name: a scale set's VMs see their neighbours' events as well
	log  *logrus.Logger
}

const (
	pollEvents   = 5 * time.Second  // Preempt comes 30 s ahead; one poll per second would be allowed
	pollTroubled = 30 * time.Second // IMDS does not answer
)

func (s scheduledEvents) listen(ctx context.Context, heard chan<- notice) {
	logged := map[string]bool{}
	known := -1
	for wait := time.Duration(0); pause(ctx, wait); {
		incarnation, events, err := s.imds.Events(ctx)
		if err != nil {
			s.log.WithError(err).Debug("scheduled events could not be asked for")
			wait = pollTroubled
			continue
		}
		wait = pollEvents
		if incarnation == known { // nothing new
			continue
		}
		known = incarnation
		for _, e := range events {
			if !e.Concerns(s.vm) {
				continue
			}
			if e.Type == "Terminate" || e.Type == "Preempt" {
				n := notice{why: e.Type, goes: true, by: e.NotBefore}
				if !e.Started { // else it is under way: no time is left, and nothing to answer
					n.wait = e.Type == "Terminate"
					if len(e.Resources) == 1 { // else the platform would go on with the other VMs as well
						n.acknowledge = func(ctx context.Context) error { return s.imds.Acknowledge(ctx, e.ID) }
					} else {
						s.log.WithFields(logrus.Fields{"event": e.Type, "id": e.ID, "vms": e.Resources}).
							Info("the event concerns other VMs as well: it is not acknowledged, and comes at its time")
					}
				}
				heard <- n
				return
			}
			if !logged[e.ID] {
				logged[e.ID] = true
				s.log.WithFields(logrus.Fields{"event": e.Type, "notBefore": e.NotBefore, "id": e.ID}).Warn("Azure is about to interrupt this VM; it comes back, so its agent stays registered")
			}
		}
	}
}
