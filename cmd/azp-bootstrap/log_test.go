package main

import (
	"bytes"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"

	"azp-bootstrap/bootstrap/secret"
)

// Whatever is logged, in whichever format, shows no PAT and moves no cursor.
func TestTheLogIsRedacted(t *testing.T) {
	const token = "opaque-token-of-a-test"
	for _, format := range []string{"text", "json", "journal", "auto"} {
		a := &app{logLevel: "info", logFormat: format}
		log, err := a.logger()
		if err != nil {
			t.Fatal(err)
		}
		pat, err := secret.NewPAT(token)
		if err != nil {
			t.Fatal(err)
		}
		a.redactor.Add(pat)
		var out bytes.Buffer
		log.SetOutput(&out)
		log.WithError(errors.New("no "+token)).WithField("said", token).Warn("with " + token + "\x1b[2J\u202e")
		if said := out.String(); !strings.Contains(said, "with [redacted]") || strings.Contains(said, token) ||
			strings.ContainsAny(said, "\x1b\u202e") ||
			strings.Contains(said, `\u001b`) {
			t.Errorf("%s: %q", format, said)
		}
	}
}

// journald sorts by the number that begins a line (sd-daemon(3)), and takes each line for an entry
// of its own.
func TestJournalPriorities(t *testing.T) {
	for level, begins := range map[logrus.Level]string{
		logrus.FatalLevel: "<2>", logrus.ErrorLevel: "<3>", logrus.WarnLevel: "<4>", logrus.InfoLevel: "<6>",
		logrus.DebugLevel: "<7>", logrus.TraceLevel: "<7>",
	} {
		line, err := journalFormat{}.Format(
			&logrus.Entry{Level: level, Message: "a\n<0>b", Data: logrus.Fields{"k": "c\nd"}},
		)
		if err != nil || string(line) != begins+`a <0>b k="c\nd"`+"\n" {
			t.Errorf("%s: %q, %v", level, line, err)
		}
	}
}

// A service runs in another folder than the one where it was installed.
func TestGivenFlags(t *testing.T) {
	c, _, err := (&app{}).root().Find([]string{"install"})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.ParseFlags([]string{"--config", "own.yaml", "--log-level", "debug"}); err != nil {
		t.Fatal(err)
	}
	file, err := filepath.Abs("own.yaml")
	if got := givenFlags(c); err != nil || !slices.Equal(got, []string{"--config", file, "--log-level", "debug"}) {
		t.Errorf("%q, %v", got, err)
	}
}
