package sim

import (
	"encoding/json"
	"net/http"
	"time"
)

// A ScheduledEvent is one that a VM is told of, with what the VM answered.
type ScheduledEvent struct {
	ID        string    `json:"id"`
	VM        string    `json:"vm"` // the VM it concerns
	Type      string    `json:"type"`
	NotBefore time.Time `json:"notBefore"`
	Started   time.Time `json:"started,omitzero"` // when a VM acknowledged it
}

// underWay is how long an event that was acknowledged stays in the document. Azure takes minutes.
const underWay = 5 * time.Second

// scheduledEvents answers GET with the document and takes acknowledgements by POST. Every VM of a
// scale set sees the events of all; here all VMs of the scenario are one scale set.
func (s *Sim) scheduledEvents(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
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
			found := false
			for i := range s.events {
				if e := &s.events[i]; e.ID == q.EventID {
					if found = true; e.Started.IsZero() {
						e.Started = time.Now().UTC()
						s.incarnation++
					}
				}
			}
			if !found {
				reply(w, http.StatusBadRequest, object{"error": "Bad request. No such event: " + q.EventID})
				return
			}
		}
		w.WriteHeader(http.StatusOK)
		return
	}
	events := []object{}
	for _, e := range s.events {
		if !e.Started.IsZero() && time.Since(e.Started) > underWay {
			continue // done: it leaves the document
		}
		status, notBefore := "Scheduled", e.NotBefore.UTC().Format(http.TimeFormat)
		if !e.Started.IsZero() {
			status, notBefore = "Started", ""
		}
		events = append(events, object{"EventId": e.ID, "EventType": e.Type, "ResourceType": "VirtualMachine", "Resources": []string{e.VM},
			"EventStatus": status, "NotBefore": notBefore, "Description": "", "EventSource": "Platform", "DurationInSeconds": -1})
	}
	reply(w, http.StatusOK, object{"DocumentIncarnation": s.incarnation, "Events": events})
}

// schedule adds an event, as the platform would.
func (s *Sim) schedule(vm, kind string, in time.Duration) ScheduledEvent {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := ScheduledEvent{ID: guid(), VM: vm, Type: kind, NotBefore: time.Now().Add(in).UTC()}
	s.events = append(s.events, e)
	s.incarnation++
	return e
}
