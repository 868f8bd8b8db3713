package leave

import (
	"context"
	"time"

	"github.com/sirupsen/logrus"

	"azp-bootstrap/bootstrap/azure"
	"azp-bootstrap/bootstrap/journal"
	"azp-bootstrap/bootstrap/retry"
)

// Events are where Azure announces what it is about to do: IMDS.
type Events interface {
	Instance(context.Context) (azure.Instance, error)
	Events(context.Context) (incarnation int, events []azure.Event, err error)
	Acknowledge(ctx context.Context, id string) error
}

// ScheduledEvents hears of Terminate and Preempt from IMDS. Reboot, Redeploy and Freeze are no end:
// the VM comes back with its agent, so they are only logged.
type ScheduledEvents struct {
	IMDS Events
	Log  *logrus.Logger
}

// PollEvents is how often IMDS is asked: Preempt comes 30 s ahead; one poll per second would be
// allowed.
const PollEvents = 5 * time.Second

const (
	pollTroubled = 30 * time.Second // IMDS does not answer
	vanished     = 15 * time.Second // an event that was announced is no more: the VM stays
)

// ends is what azp-bootstrap does about the types of event that end a VM; by the journal's word for
// each.
var ends = map[string]string{"Terminate": journal.ByTerminate, "Preempt": journal.ByPreempt}

// itself asks which VM this is: a scale set's VMs see their neighbours' events as well.
func (s ScheduledEvents) itself(ctx context.Context) (name string, ok bool) {
	for {
		vm, err := s.IMDS.Instance(ctx)
		if err == nil {
			return vm.Name, true
		}
		s.Log.WithError(err).Debug("scheduled events are not listened for yet: IMDS does not tell which VM this is")
		if !retry.Pause(ctx, PollEvents) {
			return "", false
		}
	}
}

// Listen tells of each event once.
func (s ScheduledEvents) Listen(ctx context.Context, heard chan<- Notice) {
	vm, ok := s.itself(ctx)
	if !ok {
		return
	}
	told := map[string]bool{}
	known := -1
	for wait := time.Duration(0); retry.Pause(ctx, wait); {
		incarnation, events, err := s.IMDS.Events(ctx)
		if err != nil {
			s.Log.WithError(err).Debug("scheduled events could not be asked for")
			wait = pollTroubled
			continue
		}
		wait = PollEvents
		if incarnation == known { // nothing new
			continue
		}
		known = incarnation
		for _, e := range events {
			if told[e.ID] || !e.Concerns(vm) {
				continue
			}
			told[e.ID] = true
			if ends[e.Type] == "" {
				s.Log.WithFields(logrus.Fields{"event": e.Type, "notBefore": e.NotBefore, "id": e.ID}).
					Warn("Azure is about to interrupt this VM; it comes back, so its agent stays registered")
				continue
			}
			select {
			case heard <- s.notice(e):
			case <-ctx.Done():
				return
			}
		}
	}
}

func (s ScheduledEvents) notice(e azure.Event) Notice {
	n := Notice{Why: e.Type, By: ends[e.Type], Goes: true, Until: e.NotBefore}
	if e.Started { // it is under way: no time is left, and nothing to answer
		return n
	}
	n.Wait = e.Type == "Terminate"
	if len(e.Resources) == 1 { // else the platform would go on with the other VMs as well
		n.Acknowledge = func(ctx context.Context) error { return s.IMDS.Acknowledge(ctx, e.ID) }
	} else {
		s.Log.WithFields(logrus.Fields{"event": e.Type, "id": e.ID, "vms": e.Resources}).
			Info("the event concerns other VMs as well: it is not acknowledged, and comes at its time")
	}
	return n
}

// Announced asks whether IMDS announces the end of the VM of this name. In doubt it does.
func Announced(ctx context.Context, imds Events, vm string) bool {
	ctx, cancel := context.WithTimeout(ctx, pollTroubled)
	defer cancel()
	_, all, err := imds.Events(ctx)
	if err != nil {
		return true
	}
	for _, e := range all {
		if ends[e.Type] != "" && e.Concerns(vm) {
			return true
		}
	}
	return false
}

// AwaitReturn closes back when the end of the VM of this name has been announced no more for a
// while.
func AwaitReturn(ctx context.Context, imds Events, vm string, back chan<- struct{}) {
	quiet := time.Duration(0)
	for retry.Pause(ctx, PollEvents) {
		if quiet += PollEvents; Announced(ctx, imds, vm) {
			quiet = 0
		}
		if quiet >= vanished {
			close(back)
			return
		}
	}
}
