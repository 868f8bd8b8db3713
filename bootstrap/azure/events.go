package azure

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	"azp-bootstrap/bootstrap/fault"
)

const eventsPath = "/metadata/scheduledevents?api-version=2020-07-01"

// An Event is something that Azure is about to do with a VM
// (learn.microsoft.com/azure/virtual-machines/linux/scheduled-events).
type Event struct {
	ID        string
	Type      string    // Terminate, Preempt, Reboot, Redeploy, Freeze
	Started   bool      // it is under way: nothing is left to answer
	NotBefore time.Time // zero once it is under way
	Resources []string  // names of the VMs it concerns; a scale set's VMs see their neighbours', too
}

// Concerns reports whether the event is about the VM of this name.
func (e Event) Concerns(vm string) bool {
	return slices.ContainsFunc(e.Resources, func(r string) bool { return strings.EqualFold(r, vm) })
}

// Events asks which events are scheduled. The first call of a VM's life switches the feature on and
// may take two minutes. incarnation changes with the document.
func (i *IMDS) Events(ctx context.Context) (incarnation int, events []Event, err error) {
	var body struct {
		DocumentIncarnation int
		Events              []struct {
			EventID, EventType, EventStatus, NotBefore string
			Resources                                  []string
		}
	}
	if err := i.get(ctx, i.patient, eventsPath, &body); err != nil {
		return 0, nil, err
	}
	for _, e := range body.Events {
		at, _ := http.ParseTime(e.NotBefore) // empty once it has started
		events = append(
			events,
			Event{
				ID:        e.EventID,
				Type:      e.EventType,
				Started:   strings.EqualFold(e.EventStatus, "Started"),
				NotBefore: at,
				Resources: e.Resources,
			},
		)
	}
	return body.DocumentIncarnation, events, nil
}

// Acknowledge tells the platform that it need not wait for the event's time any more.
func (i *IMDS) Acknowledge(ctx context.Context, id string) error {
	data, err := json.Marshal(map[string]any{"StartRequests": []any{map[string]string{"EventId": id}}})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+imdsHost+eventsPath, bytes.NewReader(data))
	if err != nil {
		return err
	}
	req.Header.Set("Metadata", "true")
	req.Header.Set("Content-Type", "application/json")
	res, err := i.client.Do(req)
	if err != nil {
		return fault.Connection(fault.IMDS, "the scheduled event "+id, i.host, err)
	}
	defer res.Body.Close() //nolint:errcheck // nothing to read
	if res.StatusCode != http.StatusOK {
		return fault.New(fault.IMDS, "the scheduled event %s could not be acknowledged (IMDS "+
			"answered %s)", id, res.Status).
			Hint("The platform goes on by itself at the event's time.")
	}
	return nil
}
