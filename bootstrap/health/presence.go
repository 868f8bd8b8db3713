package health

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/sirupsen/logrus"

	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/journal"
	"azp-bootstrap/bootstrap/whole"
)

// RecordName is the file where a daemon tells others that it runs. It is no part of state.json,
// which a restart that finds nothing to do leaves as it is.
const RecordName = "daemon.json"

// A record is what a daemon says of itself.
type record struct {
	PID       int        `json:"pid"`
	Start     string     `json:"start"` // of the process: its number alone may be another's by now
	Once      bool       `json:"once"`
	Since     time.Time  `json:"since"`
	SettledAt *time.Time `json:"settledAt,omitempty"` // an attempt of this process has ended
	EndedAt   *time.Time `json:"endedAt,omitempty"`   // the process has, as it should
	Unserved  string     `json:"unserved,omitempty"`  // why health is not served
}

// maxRecord bounds what is read: an honest record has some 200 bytes.
const maxRecord = 4 << 10

func readRecord(dir string) (r record, err error) {
	name := filepath.Join(dir, RecordName)
	fi, err := os.Lstat(name)
	if err == nil && (!fi.Mode().IsRegular() || fi.Size() > maxRecord) {
		err = errors.New("it is no record")
	}
	var data []byte
	if err == nil {
		data, err = whole.Read(name)
	}
	if err == nil {
		err = json.Unmarshal(data, &r)
	}
	if err == nil && (r.PID <= 0 || r.Start == "" || r.Since.IsZero()) {
		err = errors.New("it names no process")
	}
	return r, err
}

func (r record) life() Life {
	if r.EndedAt != nil {
		return Stopped
	}
	switch start, seen := agent.ProcessStart(r.PID); {
	case !seen:
		return Unknown
	case start == r.Start:
		return Running
	}
	return Stopped
}

// A Presence keeps the record of this process.
type Presence struct {
	record
	dir string
	log *logrus.Logger
}

// Attend says in the state folder that this process is there; once: as run --once.
func Attend(dir string, once bool, log *logrus.Logger) *Presence {
	pid := os.Getpid()
	start, _ := agent.ProcessStart(pid)
	p := &Presence{record{PID: pid, Start: start, Once: once, Since: journal.Now()}, dir, log}
	whole.Clear(dir, RecordName)
	p.write()
	return p
}

// AttemptEnded says that an attempt has ended: from now on state.json is of this process.
func (p *Presence) AttemptEnded() {
	if p.SettledAt == nil {
		t := journal.Now()
		p.SettledAt = &t
		p.write()
	}
}

// Serves says whether health is served: whoever asks the VM for its health gets no answer else, or another
// program's.
func (p *Presence) Serves(err error) {
	was := p.Unserved
	if p.Unserved = ""; err != nil {
		p.Unserved = err.Error()
	}
	if p.Unserved != was {
		p.write()
	}
}

// Mine reports whether the record in the state folder is this process's: no other daemon runs
// beside it.
func (p *Presence) Mine() bool {
	r, err := readRecord(p.dir)
	return err == nil && r.PID == p.PID && r.Start == p.Start
}

// Nudge tells the daemon of this VM, if one runs, to look anew where the VM stands.
func Nudge(dir string) error {
	r, err := readRecord(dir)
	if err != nil || r.Once || r.life() != Running {
		return nil //nolint:nilerr // nobody is there to be told
	}
	return reload(r.PID)
}

// Ended says that this process ends.
func (p *Presence) Ended() {
	t := journal.Now()
	p.EndedAt = &t
	p.write()
}

// write leaves the record to another process that runs, unless that is a run --once and this one
// the daemon. A record that cannot be written is no reason not to join.
func (p *Presence) write() {
	other, err := readRecord(p.dir)
	another := err == nil && other.PID != p.PID && other.life() == Running
	if another && (p.Once || !other.Once) {
		return
	}
	data, err := json.Marshal(p.record)
	name := filepath.Join(p.dir, RecordName)
	if err == nil {
		err = whole.Write(name, append(data, '\n'), 0o644)
	}
	if errors.Is(err, fs.ErrNotExist) { // another run has just begun, and removed what was half written
		err = whole.Write(name, append(data, '\n'), 0o644)
	}
	if whole.Full(err) { // over the record of before: half of one is none
		err = whole.Over(name, string(data), 0o644)
	}
	if err != nil {
		p.log.WithError(err).Warn("status cannot tell that the daemon runs: its record cannot be written")
	}
}

// Daemon looks whether a daemon runs on this VM.
func Daemon(dir string) (a Alive) {
	a.Daemon = Unknown
	r, err := readRecord(dir)
	if err != nil {
		a.Unseen = fmt.Sprintf("%s: %s", filepath.Join(dir, RecordName), err)
		if errors.Is(err, fs.ErrNotExist) {
			a.Unseen = "no daemon has left a record in " + dir
		}
		return a
	}
	a.Daemon = r.life()
	a.Pending = r.SettledAt == nil && a.Daemon != Stopped
	switch a.Daemon {
	case Unknown:
		a.Unseen = fault.Here("its process cannot be looked at; ask as root")
	case Running:
		a.DaemonSince, a.Unserved = &r.Since, r.Unserved
	case Stopped:
		a.DaemonSince = r.EndedAt
	}
	return a
}

// Look looks what runs on this VM; s is its state.
func Look(dir string, s journal.State) Alive {
	a := Daemon(dir)
	a.Agent = Stopped
	if s.Agent.ID == 0 {
		return a
	}
	runs, word, since := agent.Alive(dir, s.Agent.Service)
	switch {
	case runs:
		a.Agent = Running
	case word == "unknown":
		a.Agent = Unknown
	}
	a.AgentWord, a.AgentSince = word, since
	return a
}
