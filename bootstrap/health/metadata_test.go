package health

import (
	"bytes"
	"io"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"

	"azp-bootstrap/bootstrap/journal"
)

// How far jobs get to the metadata service is told when it is news, and loudly where they may get there.
func TestMetadataIsToldWhenItIsNews(t *testing.T) {
	var said bytes.Buffer
	log := logrus.New()
	log.SetOutput(&said)
	r := &Reporter{Log: log}
	for i, c := range []struct {
		access  string
		allowed bool
		want    string
	}{
		{"closed", false, "level=info msg=\"jobs do not reach"},
		{"closed", false, ""},
		{"open", false, "level=warning msg=\"jobs can ask"},
		{"unknown", false, "level=warning msg=\"nobody knows whether jobs can ask"},
		{"open", true, "level=info msg=\"jobs may ask"},
		{"open", true, ""},
		{"closed", false, "level=info msg=\"jobs do not reach"},
	} {
		said.Reset()
		r.Metadata(journal.Metadata{Access: c.access, Why: map[bool]string{true: "allowed"}[c.allowed]}, c.allowed, "hint")
		if got := said.String(); (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%d: %q", i, got)
		}
		if loud := strings.Contains(said.String(), "hint=hint"); loud != strings.Contains(c.want, "warning") {
			t.Errorf("%d: the next step: %q", i, said.String())
		}
	}
}

// As long as nobody has looked, nobody knows.
func TestMetricsOfTheMetadataService(t *testing.T) {
	l := NewLive()
	s := Server{Live: l, Version: "test"}
	for _, m := range []*journal.Metadata{nil, {Access: "closed"}, {Access: "open"}, {Access: "unknown"}} {
		state := journal.New()
		state.Metadata = m
		l.Set(state)
		w := httptest.NewRecorder()
		s.handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
		body, _ := io.ReadAll(w.Result().Body)
		want := "unknown"
		if m != nil {
			want = m.Access
		}
		for _, is := range []string{"closed", "open", "unknown"} {
			line := `azp_bootstrap_metadata_access{state="` + is + `"} ` + map[bool]string{true: "1", false: "0"}[is == want]
			if !strings.Contains(string(body), line+"\n") {
				t.Errorf("%+v: no %s", m, line)
			}
		}
	}
}
