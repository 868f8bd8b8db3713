package bootstrap

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/sirupsen/logrus"

	"azp-bootstrap/bootstrap/azure"
	"azp-bootstrap/bootstrap/journal"
	"azp-bootstrap/bootstrap/retry"
)

// A notice says that this VM is about to go, or that it shall leave Azure DevOps.
type notice struct {
	why         string
	by          string    // who asks: the journal's word for it
	goes        bool      // the VM goes, whether it can leave Azure DevOps or not
	wait        bool      // a running job is waited for
	local       bool      // Azure DevOps is not asked
	until       time.Time // when the VM goes whatever we do; zero = not known
	acknowledge func(context.Context) error
}

// with is what two notices come to: the earlier end counts, a job is waited for only if both let it, and both are answered.
func (n notice) with(later notice) notice {
	both := later
	if !n.until.IsZero() && (later.until.IsZero() || n.until.Before(later.until)) {
		both.until = n.until
	}
	both.wait, both.local = n.wait && later.wait, n.local || later.local
	if n.by == journal.ByOperator {
		both.by = n.by
	}
	if first, second := n.acknowledge, later.acknowledge; first != nil && second != nil {
		both.acknowledge = func(ctx context.Context) error { return errors.Join(first(ctx), second(ctx)) }
	} else if second == nil {
		both.acknowledge = first
	}
	return both
}

// A listener hears of a VM's end from one source, until ctx ends.
type listener interface {
	listen(ctx context.Context, heard chan<- notice)
}

// events are where Azure announces what it is about to do: IMDS.
type events interface {
	Instance(context.Context) (azure.Instance, error)
	Events(context.Context) (incarnation int, events []azure.Event, err error)
	Acknowledge(ctx context.Context, id string) error
}

// scheduledEvents hears of Terminate and Preempt from IMDS. Reboot, Redeploy and Freeze are no end:
// the VM comes back with its agent, so they are only logged.
type scheduledEvents struct {
	imds events
	log  *logrus.Logger
}

const (
	pollEvents   = 5 * time.Second  // Preempt comes 30 s ahead; one poll per second would be allowed
	pollTroubled = 30 * time.Second // IMDS does not answer
	vanished     = 15 * time.Second // an event that was announced is no more: the VM stays
)

// ends is what azp-bootstrap does about the types of event that end a VM; by the journal's word for each.
var ends = map[string]string{"Terminate": journal.ByTerminate, "Preempt": journal.ByPreempt}

// itself asks which VM this is: a scale set's VMs see their neighbours' events as well.
func (s scheduledEvents) itself(ctx context.Context) (name string, ok bool) {
	for {
		vm, err := s.imds.Instance(ctx)
		if err == nil {
			return vm.Name, true
		}
		s.log.WithError(err).Debug("scheduled events are not listened for yet: IMDS does not tell which VM this is")
		if !retry.Pause(ctx, pollEvents) {
			return "", false
		}
	}
}

// listen tells of each event once.
func (s scheduledEvents) listen(ctx context.Context, heard chan<- notice) {
	vm, ok := s.itself(ctx)
	if !ok {
		return
	}
	told := map[string]bool{}
	known := -1
	for wait := time.Duration(0); retry.Pause(ctx, wait); {
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
			if told[e.ID] || !e.Concerns(vm) {
				continue
			}
			told[e.ID] = true
			if ends[e.Type] == "" {
				s.log.WithFields(logrus.Fields{"event": e.Type, "notBefore": e.NotBefore, "id": e.ID}).
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

func (s scheduledEvents) notice(e azure.Event) notice {
	n := notice{why: e.Type, by: ends[e.Type], goes: true, until: e.NotBefore}
	if e.Started { // it is under way: no time is left, and nothing to answer
		return n
	}
	n.wait = e.Type == "Terminate"
	if len(e.Resources) == 1 { // else the platform would go on with the other VMs as well
		n.acknowledge = func(ctx context.Context) error { return s.imds.Acknowledge(ctx, e.ID) }
	} else {
		s.log.WithFields(logrus.Fields{"event": e.Type, "id": e.ID, "vms": e.Resources}).
			Info("the event concerns other VMs as well: it is not acknowledged, and comes at its time")
	}
	return n
}

// announced asks whether IMDS announces the end of the VM of this name. In doubt it does.
func announced(ctx context.Context, imds events, vm string) bool {
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

// An ear listens for notices for as long as the daemon lives, whatever else the daemon does.
type ear struct {
	heard    chan notice
	endpoint string // of the IMDS that is listened to; "" = none
	stop     context.CancelFunc
}

func newEar() *ear { return &ear{heard: make(chan notice), stop: func() {}} }

// to listens to listeners from now on, and no more to those of before. Those at the same endpoint are listened to already.
func (e *ear) to(ctx context.Context, endpoint string, listeners ...listener) {
	if e.endpoint == endpoint {
		return
	}
	e.stop()
	e.endpoint = endpoint
	ctx, e.stop = context.WithCancel(ctx)
	for _, l := range listeners {
		go l.listen(ctx, e.heard)
	}
}

// during does something that a notice cuts off; n is that notice, nil if none came. A reload cuts it off as well, if the
// configuration has changed; otherwise it is put back, for whoever asks for it next.
func (e *ear) during(ctx context.Context, reload chan os.Signal, changed func() bool, do func(context.Context) error) (n *notice, anew bool, err error) {
	cut, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	over, ended := make(chan struct{}), make(chan struct{})
	var again os.Signal
	go func() {
		defer close(ended)
		for {
			select {
			case heard := <-e.heard:
				n = &heard
				cancel(errNotice)
				return
			case s := <-reload:
				if anew = changed(); anew {
					cancel(errReload)
					return
				}
				again = s
			case <-over:
				return
			}
		}
	}()
	err = do(cut)
	close(over)
	if <-ended; again != nil && !anew {
		select {
		case reload <- again:
		default: // another one came meanwhile
		}
	}
	return n, anew, err
}
