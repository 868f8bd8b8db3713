package main

import (
	"fmt"
	"os"
	"sort"
	"strings"

	"github.com/sirupsen/logrus"
	"golang.org/x/term"

	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/line"
	"azp-bootstrap/bootstrap/secret"
)

// logger makes the log: every entry passes the redactor.
func (a *app) logger() (*logrus.Logger, error) {
	level, err := logrus.ParseLevel(a.logLevel)
	if err != nil {
		return nil, fault.New(fault.Usage, "--log-level %q is unknown", a.logLevel).
			Hint("Use one of: error, warn, info, debug, trace.")
	}
	log := logrus.New()
	log.SetLevel(level)
	log.SetOutput(os.Stderr)
	log.AddHook(secret.Hook{Redactor: &a.redactor})
	log.AddHook(plainHook{})
	format := a.logFormat
	if format == "auto" && os.Getenv("JOURNAL_STREAM") != "" {
		format = "journal"
	}
	switch format {
	case "json":
		log.SetFormatter(&logrus.JSONFormatter{})
	case "journal":
		log.SetFormatter(journalFormat{})
	default:
		f := &logrus.TextFormatter{
			FullTimestamp:   true,
			TimestampFormat: "2006-01-02T15:04:05.000Z07:00",
			DisableColors:   true,
		}
		if colour(os.Stderr) {
			f = &logrus.TextFormatter{
				FullTimestamp:   true,
				TimestampFormat: "15:04:05.000",
				ForceColors:     true,
				PadLevelText:    true,
			}
		}
		log.SetFormatter(f)
	}
	return log, a.logAsService(log)
}

// plainHook keeps words of others from moving a terminal's cursor; fields are quoted by the
// formats.
type plainHook struct{}

func (plainHook) Levels() []logrus.Level { return logrus.AllLevels }

func (plainHook) Fire(e *logrus.Entry) error {
	e.Message = line.Lines(e.Message)
	return nil
}

// journalFormat leaves the time to journald and gives it the priority (sd-daemon(3)).
type journalFormat struct{}

var priorities = map[logrus.Level]int{
	logrus.PanicLevel: 2,
	logrus.FatalLevel: 2,
	logrus.ErrorLevel: 3,
	logrus.WarnLevel:  4,
	logrus.InfoLevel:  6,
	logrus.DebugLevel: 7,
	logrus.TraceLevel: 7,
}

func (journalFormat) Format(e *logrus.Entry) ([]byte, error) {
	return fmt.Appendf(nil, "<%d>%s\n", priorities[e.Level], plainEntry(e)), nil
}

// plainEntry is an entry without time and level: on one line.
func plainEntry(e *logrus.Entry) string {
	keys := make([]string, 0, len(e.Data))
	for k := range e.Data {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	var b strings.Builder
	b.WriteString(strings.ReplaceAll(e.Message, "\n", " "))
	for _, k := range keys {
		v := fmt.Sprint(e.Data[k])
		if strings.ContainsAny(v, " \"=\n\t") {
			v = fmt.Sprintf("%q", v)
		}
		fmt.Fprintf(&b, " %s=%s", k, v)
	}
	return b.String()
}

func terminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) } //nolint:gosec // a descriptor

// colour follows the terminal and the NO_COLOR convention (no-color.org).
func colour(f *os.File) bool {
	return terminal(f) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}
