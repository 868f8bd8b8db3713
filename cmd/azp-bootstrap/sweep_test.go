package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"azp-bootstrap/bootstrap/fleet"
)

// For how long an agent must be offline, without --older-than a sweep itself says: a VM that is
// off for the night comes back.
func TestSweepWaitsForADay(t *testing.T) {
	ago := func(d time.Duration) string { return time.Now().Add(-d).UTC().Format(time.RFC3339) }
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if strings.HasSuffix(r.URL.Path, "/pools") {
			_, _ = io.WriteString(w, `{"value":[{"id":1,"name":"Default"}]}`)
			return
		}
		const agent = `{"id":%d,"name":"web-%d","status":"offline","statusChangedOn":"%s","createdOn":"%s",` +
			`"systemCapabilities":{"AZP_BOOTSTRAP_INSTANCE_ID":"vm-%d"}}`
		_, _ = fmt.Fprintf(w, `{"value":[`+agent+`,`+agent+`]}`, 1, 1, ago(12*time.Hour), ago(48*time.Hour), 1, 2, 2,
			ago(25*time.Hour), ago(48*time.Hour), 2)
	}))
	defer s.Close()
	for _, c := range []struct {
		flags []string
		fates string
	}{
		{nil, fleet.Kept + ", " + fleet.Doomed},
		{[]string{"--older-than", "11h"}, fleet.Doomed + ", " + fleet.Doomed},
		{[]string{"--older-than", "26h"}, fleet.Kept + ", " + fleet.Kept},
	} {
		var out strings.Builder
		root := (&app{}).root()
		root.SetOut(&out)
		root.SetIn(strings.NewReader("opaque-token-of-a-test\n"))
		root.SetArgs(append([]string{"sweep", "--json", "--pat-stdin", "--config", filepath.Join(t.TempDir(),
			"none.yaml"), "--set", "url=" + s.URL + "/C", "--set", "target.pool.name=Default"}, c.flags...))
		var report []fleet.Verdict
		if err := root.ExecuteContext(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(out.String()), &report); err != nil || len(report) != 2 {
			t.Fatal(out.String(), err)
		}
		if got := report[0].Fate + ", " + report[1].Fate; got != c.fates {
			t.Errorf("%q: %s, want %s", c.flags, got, c.fates)
		}
	}
}
