//go:build unix

package health

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/journal"
)

// Whose record is it, of two that are there at once: the first one's; only a daemon takes it from a
// run --once. One that is gone holds nothing.
func TestRecordOfTwo(t *testing.T) {
	sleeper := exec.Command("sleep", "60")
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = sleeper.Process.Kill()
		_ = sleeper.Wait()
	}()
	start, _ := agent.ProcessStart(sleeper.Process.Pid)
	log := logrus.New()
	log.SetOutput(io.Discard)
	before := journal.Now().Add(-time.Hour)
	other := func(change func(*record)) record {
		r := record{PID: sleeper.Process.Pid, Start: start, Since: before}
		change(&r)
		return r
	}
	lives := other(func(*record) {})
	once := other(func(r *record) { r.Once = true })
	ended := other(func(r *record) { r.EndedAt = &before })
	reused := other(func(r *record) { r.Start = "1" })
	killed := other(func(r *record) { r.PID = 1 << 30 })
	for _, c := range []struct {
		name        string
		other       record
		once, takes bool
		atItsEnd    Life
	}{
		{"a daemon beside a daemon", lives, false, false, Running},
		{"run --once beside a daemon", lives, true, false, Running},
		{"run --once beside another", once, true, false, Running},
		{"a daemon beside run --once", once, false, true, Stopped},
		{"after one that has ended", ended, true, true, Stopped},
		{"after one whose number is another's", reused, true, true, Stopped},
		{"after one that was killed", killed, false, true, Stopped},
		{"after what is no record", record{}, true, true, Stopped},
	} {
		dir := t.TempDir()
		(&Presence{c.other, dir, log}).write()
		p := Attend(dir, c.once, log)
		a := Daemon(dir)
		took := a.DaemonSince != nil && !a.DaemonSince.Equal(before)
		if took != c.takes || a.Daemon != Running {
			t.Errorf("%s: %+v", c.name, a)
		}
		if c.takes && !a.Pending {
			t.Errorf("%s: its attempt is over before it began", c.name)
		}
		p.AttemptEnded()
		if a := Daemon(dir); c.takes && a.Pending {
			t.Errorf("%s: its attempt has ended, which the record does not say", c.name)
		}
		p.Ended()
		if a := Daemon(dir); a.Daemon != c.atItsEnd {
			t.Errorf("%s: at its end %+v", c.name, a)
		}
		fi, err := os.Stat(filepath.Join(dir, RecordName))
		if err != nil || fi.Mode().Perm() != 0o644 {
			t.Errorf("%s: the record: %v %v", c.name, fi, err)
		}
	}
}
