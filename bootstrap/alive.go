package bootstrap

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/health"
	"azp-bootstrap/bootstrap/journal"
	"azp-bootstrap/bootstrap/whole"
)

// recordName is where a daemon tells others that it runs. It is no part of state.json, which a
// restart that finds nothing to do leaves as it is.
const recordName = "daemon.json"

// A record is what a daemon says of itself.
type record struct {
	PID       int        `json:"pid"`
	Start     string     `json:"start"` // of the process: its number alone may be another's by now
	Once      bool       `json:"once"`
	Since     time.Time  `json:"since"`
	SettledAt *time.Time `json:"settledAt,omitempty"` // an attempt of this process has ended
	EndedAt   *time.Time `json:"endedAt,omitempty"`   // the process has, as it should
}

// maxRecord bounds what is read: an honest record has some 200 bytes.
const maxRecord = 4 << 10

func readRecord(dir string) (r record, err error) {
	name := filepath.Join(dir, recordName)
	fi, err := os.Lstat(name)
	if err == nil && (!fi.Mode().IsRegular() || fi.Size() > maxRecord) {
		err = errors.New("it is no record")
	}
	var data []byte
	if err == nil {
		data, err = os.ReadFile(name) //nolint:gosec // the state folder's
	}
	if err == nil {
		err = json.Unmarshal(data, &r)
	}
	if err == nil && (r.PID <= 0 || r.Start == "" || r.Since.IsZero()) {
		err = errors.New("it names no process")
	}
	return r, err
}

func (r record) life() health.Life {
	if r.EndedAt != nil {
		return health.Stopped
	}
	switch start, seen := agent.ProcessStart(r.PID); {
	case !seen:
		return health.Unknown
	case start == r.Start:
		return health.Running
	}
	return health.Stopped
}

// A presence keeps the record of this process.
type presence struct {
	record
	b *Boot
}

// attend says that this process is there.
func (b *Boot) attend() *presence {
	pid := os.Getpid()
	start, _ := agent.ProcessStart(pid)
	p := &presence{record{PID: pid, Start: start, Once: b.Once, Since: journal.Now()}, b}
	whole.Clear(b.StateDir, recordName)
	p.write()
	return p
}

// settled says that an attempt has ended: from now on state.json is of this process.
func (p *presence) settled() {
	if p.SettledAt == nil {
		t := journal.Now()
		p.SettledAt = &t
		p.write()
	}
}

func (p *presence) ended() {
	t := journal.Now()
	p.EndedAt = &t
	p.write()
}

// write leaves the record to another process that runs, unless that is a run --once and this one the
// daemon. A record that cannot be written is no reason not to join.
func (p *presence) write() {
	other, err := readRecord(p.b.StateDir)
	another := err == nil && other.PID != p.PID && other.life() == health.Running
	if another && (p.Once || !other.Once) {
		return
	}
	data, err := json.Marshal(p.record)
	name := filepath.Join(p.b.StateDir, recordName)
	if err == nil {
		err = whole.Write(name, append(data, '\n'), 0o644)
	}
	if errors.Is(err, fs.ErrNotExist) { // another run has just begun, and removed what was half written
		err = whole.Write(name, append(data, '\n'), 0o644)
	}
	if err != nil {
		p.b.Log.WithError(err).Warn("status cannot tell that the daemon runs: its record cannot be written")
	}
}

// Daemon looks whether a daemon runs on this VM.
func Daemon(o Options) (a health.Alive) {
	a.Daemon = health.Unknown
	r, err := readRecord(o.StateDir)
	if err != nil {
		a.Unseen = fmt.Sprintf("%s: %s", filepath.Join(o.StateDir, recordName), err)
		if errors.Is(err, fs.ErrNotExist) {
			a.Unseen = "no daemon has left a record in " + o.StateDir
		}
		return a
	}
	a.Daemon = r.life()
	a.Pending = r.SettledAt == nil && a.Daemon != health.Stopped
	switch a.Daemon {
	case health.Unknown:
		a.Unseen = "its process cannot be looked at; ask as root"
	case health.Running:
		a.DaemonSince = &r.Since
	case health.Stopped:
		a.DaemonSince = r.EndedAt
	}
	return a
}

// Alive looks what runs on this VM; s is its state.
func Alive(o Options, s journal.State) health.Alive {
	a := Daemon(o)
	a.Agent = health.Stopped
	if s.Agent.ID == 0 {
		return a
	}
	runs, word, since := agent.Alive(o.StateDir, s.Agent.Service)
	switch {
	case runs:
		a.Agent = health.Running
	case word == "unknown":
		a.Agent = health.Unknown
	}
	a.AgentWord, a.AgentSince = word, since
	return a
}
