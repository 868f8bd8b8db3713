package sim

import (
	"encoding/json"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
)

type document struct {
	DocumentIncarnation int
	Events              []struct {
		EventID     string `json:"EventId"`
		EventStatus string
		Resources   []string
	}
}

// heard is the document that a VM gets; acknowledge, if not "", is the event that it acknowledges
// first.
func (w world) heard(vm, acknowledge string) (d document) {
	w.Helper()
	if acknowledge != "" {
		q := httptest.NewRequest(
			"POST",
			"/metadata/scheduledevents?api-version=2020-07-01",
			strings.NewReader(`{"StartRequests": [{"EventId": "`+acknowledge+`"}]}`),
		)
		q.Header.Set("Metadata", "true")
		rec := httptest.NewRecorder()
		if w.sim.imds(vm).ServeHTTP(rec, q); rec.Code != 200 {
			w.Fatalf("acknowledging: %d %s", rec.Code, rec.Body)
		}
	}
	q := httptest.NewRequest("GET", "/metadata/scheduledevents?api-version=2020-07-01", nil)
	q.Header.Set("Metadata", "true")
	rec := httptest.NewRecorder()
	w.sim.imds(vm).ServeHTTP(rec, q)
	if err := json.Unmarshal(rec.Body.Bytes(), &d); err != nil {
		w.Fatal(err)
	}
	return d
}

func TestEventForTwo(t *testing.T) {
	w := newWorld(t)
	w.apply(`vms: [{id: a, name: web_1}, {id: b, name: web_2}, {id: c, name: web_3}]`)
	e := w.sim.Schedule([]string{"web_1", "web_2"}, "Terminate", time.Minute)
	for _, vm := range []string{"web_1", "web_2", "web_3"} { // all of a scale set hear of it
		d := w.heard(vm, "")
		if len(d.Events) != 1 || !slices.Equal(d.Events[0].Resources, []string{"web_1", "web_2"}) ||
			d.Events[0].EventStatus != "Scheduled" {
			t.Errorf("%s hears %+v", vm, d)
		}
	}
	before := w.heard("web_1", "").DocumentIncarnation
	w.heard("web_2", e.ID)
	if d := w.heard("web_1", ""); d.Events[0].EventStatus != "Started" || d.DocumentIncarnation == before {
		t.Errorf("acknowledged by one, it has not started for the other: %+v", d)
	}
	w.heard("web_3", e.ID)
	w.heard("web_2", e.ID)
	if got := w.sim.events[0].AcknowledgedBy; !slices.Equal(got, []string{"web_2", "web_3"}) {
		t.Errorf("acknowledged by %q", got)
	}
	if w.sim.Cancel(e.ID) {
		t.Error("an event that started was cancelled")
	}
}

func TestCancelledEventVanishes(t *testing.T) {
	w := newWorld(t)
	e := w.sim.Schedule([]string{"web_1"}, "Preempt", time.Minute)
	before := w.heard("web_1", "")
	if w.sim.Cancel("x") || !w.sim.Cancel(e.ID) || w.sim.Cancel(e.ID) {
		t.Error("cancel-event")
	}
	if d := w.heard("web_1", ""); len(d.Events) != 0 || d.DocumentIncarnation <= before.DocumentIncarnation {
		t.Errorf("%+v became %+v", before, d)
	}
}
