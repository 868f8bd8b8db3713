package journal

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"time"

	"github.com/gofrs/flock"
	"github.com/sirupsen/logrus"

	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/whole"
)

// A Journal is state.json as one process reads and writes it.
type Journal struct {
	dir     string
	log     *logrus.Logger
	publish func(State) // hears of each new state, after it is on disk
	looks   bool        // nothing is written

	mu    sync.Mutex
	state State
	turn  *flock.Flock // the VM's lock, while this process has its turn

	fails, spared bool // that is told, once
}

// Open opens the journal of a VM, and makes its folder. publish hears of each state; it gets a copy
// of its own. The error is of the class state.
func Open(dir string, log *logrus.Logger, publish func(State)) (*Journal, error) {
	if err := makeFolder(dir); err != nil {
		var own *fault.Error
		if errors.As(err, &own) {
			return nil, own
		}
		return nil, fault.New(fault.State, "the state folder %s", dir).Because(err).
			Hint("Name a folder that can be written (--state-dir), or run as root.")
	}
	j := &Journal{dir: dir, log: log, publish: publish}
	if err := j.Refresh(); err != nil {
		return nil, err
	}
	probe, err := os.CreateTemp(dir, whole.Scratch)
	if whole.Full(err) && whole.HasSpare(File(dir)) { // it can be written all the same
		return j, nil
	}
	if errors.Is(err, fs.ErrPermission) && os.Geteuid() > 0 {
		return nil, fault.New(fault.State, "the state folder %s is another account's", dir).
			Hint("Run it with sudo.")
	}
	if err != nil {
		return nil, fault.New(fault.State, "the state folder %s cannot be written", dir).Because(err).
			Hint("Check its rights and that the file system is not full or read-only; run as root.")
	}
	_ = probe.Close()
	_ = os.Remove(probe.Name())
	return j, nil
}

// Look is a journal that is only looked at: Update changes what State returns, and nothing on disk.
// A state that cannot be understood is none.
func Look(dir string) (*Journal, error) {
	s, _, err := Read(dir)
	return &Journal{dir: dir, publish: func(State) {}, looks: true, state: s}, err
}

// Nowhere is a journal that is nowhere on disk.
func Nowhere() *Journal { return &Journal{publish: func(State) {}, looks: true, state: New()} }

// Dir is the state folder.
func (j *Journal) Dir() string { return j.dir }

// Looks reports whether the journal is only looked at.
func (j *Journal) Looks() bool { return j.looks }

// State is a copy of the state, as it was read or written last.
func (j *Journal) State() State {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.state.copied()
}

// Refresh reads what another process may have written. What is no state is set aside: the agent's
// folder and the server say the rest.
func (j *Journal) Refresh() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.refresh()
}

func (j *Journal) refresh() error {
	s, damaged, err := Read(j.dir)
	if err != nil {
		return err
	}
	if damaged != nil {
		to, err := setAside(j.dir)
		if err != nil {
			return fault.New(fault.State, "damaged state cannot be set aside").
				Because(err).
				Hint("Delete %s.", File(j.dir))
		}
		j.log.WithError(damaged).WithField("kept", to).
			Warn("state.json was damaged: set aside; the VM finds out anew where it stands")
	}
	j.state = s
	j.publish(s.copied())
	return nil
}

// Take takes the VM for one run, and reads what the run before wrote. The lock ends with the
// process, however that ends. If another run works, the error is a passing one.
func (j *Journal) Take() (release func(), err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	turn, err := j.lock()
	if err != nil { // this process itself may have the turn, beside
		return nil, err
	}
	j.turn = turn
	release = func() {
		j.mu.Lock()
		defer j.mu.Unlock()
		_ = j.turn.Close()
		j.turn = nil
	}
	if err := j.refresh(); err != nil {
		_ = j.turn.Close()
		j.turn = nil
		return nil, err
	}
	clearHalfWritten(j.dir)
	return release, nil
}

// clearHalfWritten removes what a run that was killed while it wrote has left behind.
func clearHalfWritten(dir string) {
	name := filepath.Base(File(dir))
	whole.Clear(dir, append(whole.Spares(name), name)...)
}

func (j *Journal) lock() (*flock.Flock, error) {
	l := flock.New(filepath.Join(j.dir, "lock"), flock.SetPermissions(0o600))
	got, err := l.TryLock()
	switch {
	case err != nil:
		return nil, fault.New(fault.State, "the lock").Because(err).Hint("Check the rights of %s; run as root.", j.dir)
	case !got:
		_ = l.Close()
		return nil, fault.New(fault.State, "another azp-bootstrap is at work on this VM").Passing().Retry(time.Second).
			Hint("Watch it: azp-bootstrap status --wait.")
	}
	return l, nil
}

// AskName is the file by whose lock an operator asks for the VM.
const AskName = "lock.ask"

// Ask asks whoever works on this VM to leave off what may be begun again, until release. It ends with
// the process, as a turn does. On a disk without room for the file nobody is asked: whoever asks waits for its
// turn.
func (j *Journal) Ask() (release func(), err error) {
	l := flock.New(filepath.Join(j.dir, AskName), flock.SetPermissions(0o600))
	if err := l.RLock(); whole.Full(err) {
		return func() {}, nil
	} else if err != nil {
		return nil, fault.New(fault.State, "the lock").Because(err).Hint("Check the rights of %s; run as root.", j.dir)
	}
	return func() { _ = l.Close() }, nil
}

// Asked reports whether somebody asks.
func (j *Journal) Asked() bool {
	name := filepath.Join(j.dir, AskName)
	if _, err := os.Stat(name); err != nil {
		return false
	}
	l := flock.New(name, flock.SetPermissions(0o600))
	got, err := l.TryLock()
	_ = l.Close()
	return err == nil && !got
}

// Update is the one way to write: it changes the state as it is on disk by now, writes it and
// publishes a copy. A change that changes nothing writes nothing. Outside a turn it takes one for
// the moment: while another run works on the VM the state is that run's to write, and the error is
// a passing one.
func (j *Journal) Update(change func(*State)) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if !j.looks && j.turn == nil {
		l, err := j.lock()
		if err != nil {
			return err
		}
		defer l.Close() //nolint:errcheck // only a lock
		if err := j.refresh(); err != nil {
			return err
		}
	}
	s := j.state.copied()
	change(&s)
	if reflect.DeepEqual(s, j.state) {
		return nil
	}
	var err error
	if !j.looks {
		var spared bool
		spared, err = s.write(j.dir)
		j.tell(spared, err)
	}
	j.state = s           // of a full disk, too, others are shown what is so
	j.publish(s.copied()) // after it is written: who is told by /healthz finds the same in the file
	return err
}

// tell says once that the state cannot be written, or only in the room that is kept for it, and once that it can
// be again. Who writes may try again every few seconds.
func (j *Journal) tell(spared bool, err error) {
	if fails := err != nil; fails != j.fails {
		j.fails = fails
		if f := fault.From(err); fails {
			j.log.WithFields(logrus.Fields{"class": f.Class.Code, "hint": f.Advice}).
				Warn("what becomes of this VM cannot be recorded, and waits for that: " + f.Error())
		} else {
			j.log.Info("the state can be written again")
		}
	}
	if err == nil && spared != j.spared {
		j.spared = spared
		if spared {
			j.log.WithField("hint", "Free some: df -h and df -i say what is lacking.").
				Warn("the disk of the state folder " + j.dir + " is full: the state is written in the room that is kept for it")
		} else {
			j.log.Info("the disk of the state folder has room again")
		}
	}
}
