package sim

import (
	"encoding/json"
	"net/http"
	"slices"
	"time"
)

// A ScheduledEvent is one that VMs are told of, with what they answered.
type ScheduledEvent struct {
	ID        string    `json:"id"`
	Resources []string  `json:"resources"` // the VMs it concerns
	Type      string    `json:"type"`
	NotBefore time.Time `json:"notBefore"`
	Started   time.Time `json:"started,omitzero"` // when the first VM acknowledged it: for all of its resources
	// AcknowledgedBy are the VMs that did so, whether it concerns them or not.
	AcknowledgedBy []string `json:"acknowledgedBy,omitempty"`

	done bool // it has left the document
}

// underWay is how long an event that was acknowledged stays in the document. Azure takes minutes.
const underWay = 5 * time.Second

// begin starts the events whose time has come: the platform waits no longer for an answer.
func (s *Sim) begin() {
	for i := range s.events {
		if e := &s.events[i]; e.Started.IsZero() && time.Now().After(e.NotBefore) {
			e.Started = e.NotBefore
			s.incarnation++
		}
	}
}

// scheduledEvents answers GET with the document and takes acknowledgements by POST. Every VM of a
// scale set sees the events of all, and what one acknowledges proceeds for all of the event's
// resources (learn.microsoft.com/azure/virtual-machines/linux/scheduled-events); here all VMs of
// the scenario are one scale set.
func (s *Sim) scheduledEvents(vm VM, w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.begin()
	if r.Method == http.MethodPost {
		var b struct {
			StartRequests []struct {
				EventID string `json:"EventId"`
			}
		}
		if json.NewDecoder(r.Body).Decode(&b) != nil || len(b.StartRequests) == 0 {
			reply(w, http.StatusBadRequest, object{"error": "Bad request. StartRequests are missing"})
			return
		}
		for _, q := range b.StartRequests {
			e := s.event(q.EventID)
			if e == nil {
				reply(w, http.StatusBadRequest, object{"error": "Bad request. No such event: " + q.EventID})
				return
			}
			if e.Started.IsZero() {
				e.Started = time.Now().UTC()
				s.incarnation++
			}
			if !slices.Contains(e.AcknowledgedBy, vm.Name) {
				e.AcknowledgedBy = append(e.AcknowledgedBy, vm.Name)
			}
		}
		w.WriteHeader(http.StatusOK)
		return
	}
	events := []object{}
	for i := range s.events {
		e := &s.events[i]
		if !e.Started.IsZero() && time.Since(e.Started) > underWay { // done: it leaves the document
			if !e.done {
				e.done = true
				s.incarnation++
			}
			continue
		}
		status, notBefore := "Scheduled", e.NotBefore.UTC().Format(http.TimeFormat)
		if !e.Started.IsZero() {
			status, notBefore = "Started", ""
		}
		events = append(events, object{
			"EventId":           e.ID,
			"EventType":         e.Type,
			"ResourceType":      "VirtualMachine",
			"Resources":         e.Resources,
			"EventStatus":       status,
			"NotBefore":         notBefore,
			"Description":       "",
			"EventSource":       "Platform",
			"DurationInSeconds": -1,
		})
	}
	reply(w, http.StatusOK, object{"DocumentIncarnation": s.incarnation, "Events": events})
}

func (s *Sim) event(id string) *ScheduledEvent {
	for i := range s.events {
		if s.events[i].ID == id {
			return &s.events[i]
		}
	}
	return nil
}

// Schedule adds an event, as the platform would.
func (s *Sim) Schedule(vms []string, kind string, in time.Duration) ScheduledEvent {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := ScheduledEvent{ID: guid(), Resources: vms, Type: kind, NotBefore: time.Now().Add(in).UTC()}
	s.events = append(s.events, e)
	s.incarnation++
	return e
}

// Cancel takes an event that has not started back: it vanishes from the document, and the VMs stay.
func (s *Sim) Cancel(id string) (done bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.event(id); e == nil || !e.Started.IsZero() {
		return false
	}
	s.events = slices.DeleteFunc(s.events, func(e ScheduledEvent) bool { return e.ID == id })
	s.incarnation++
	return true
}
