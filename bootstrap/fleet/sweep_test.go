package fleet

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/secret"
)

const tokenOfATest = "opaque-token-of-a-test"

// A server has one agent, of a VM that went long ago. A refusal of its removal repeats what it was
// shown.
type server struct {
	ahead   time.Duration // its clock's
	refuses bool
	deleted int
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Date", time.Now().Add(s.ahead).UTC().Format(http.TimeFormat))
	w.Header().Set("Content-Type", "application/json")
	const agent = `{"id":7,"name":"web-1","status":"offline",` +
		`"statusChangedOn":"2020-01-01T00:00:00Z","createdOn":"2020-01-01T00:00:00Z",` +
		`"systemCapabilities":{"AZP_BOOTSTRAP_INSTANCE_ID":"gone"}}`
	switch path := r.URL.Path; {
	case r.Method == http.MethodDelete && s.refuses:
		w.WriteHeader(http.StatusTeapot)
		_, _ = io.WriteString(w, `{"message":"not with `+tokenOfATest+`"}`)
	case r.Method == http.MethodDelete:
		s.deleted++
		w.WriteHeader(http.StatusNoContent)
	case strings.HasSuffix(path, "/pools"):
		_, _ = io.WriteString(w, `{"value":[{"id":1,"name":"Default"}]}`)
	case strings.HasSuffix(path, "/agents"):
		_, _ = io.WriteString(w, `{"count":1,"value":[`+agent+`]}`)
	default:
		_, _ = io.WriteString(w, agent)
	}
}

func (s *server) sweep(t *testing.T, yes bool) ([]Verdict, error) {
	t.Helper()
	web := httptest.NewServer(s)
	defer web.Close()
	pat, err := secret.NewPAT(tokenOfATest)
	if err != nil {
		t.Fatal(err)
	}
	log := logrus.New()
	log.SetOutput(io.Discard)
	return Sweep(
		t.Context(),
		Sweeping{
			ConfigFile: filepath.Join(t.TempDir(), "none.yaml"),
			Set:        []string{"url=" + web.URL + "/C", "target.pool.name=Default", "deadline=20s"},
			Yes:        yes,
			PAT:        pat,
			Progress:   quietly,
			Log:        log,
			Redactor:   &secret.Redactor{},
		},
	)
}

// Only on a person's word is an agent removed.
func TestSweepRemovesOnTheWordAlone(t *testing.T) {
	for _, yes := range []bool{false, true} {
		s := &server{}
		verdicts, err := s.sweep(t, yes)
		if err != nil || len(verdicts) != 1 || verdicts[0].Fate != map[bool]string{false: Doomed, true: Gone}[yes] ||
			(s.deleted == 1) != yes {
			t.Errorf("yes %v: %+v, %d deleted, %v", yes, verdicts, s.deleted, err)
		}
	}
}

// Ages are made of the server's times and this machine's clock.
func TestAClockThatIsWrongRemovesNothing(t *testing.T) {
	for _, ahead := range []time.Duration{10 * time.Minute, -10 * time.Minute} {
		s := &server{ahead: ahead}
		if _, err := s.sweep(
			t,
			true,
		); err == nil || fault.From(err).Class != fault.Usage || !strings.Contains(err.Error(), "clock differs") ||
			s.deleted > 0 {
			t.Errorf("%s: %v, %d deleted", ahead, err, s.deleted)
		}
	}
}

// What the server says is shown to people, and it may repeat what it was shown.
func TestVerdictsAreRedacted(t *testing.T) {
	verdicts, err := (&server{refuses: true}).sweep(t, true)
	if err != nil || len(verdicts) != 1 || !strings.Contains(verdicts[0].Why, "not with ") ||
		strings.Contains(fmt.Sprintf("%+v", verdicts), tokenOfATest) {
		t.Errorf("%+v, %v", verdicts, err)
	}
}
