package bootstrap

import (
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/sirupsen/logrus"

	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/health"
	"azp-bootstrap/bootstrap/whole"
)

// The journal is state.json while a boot writes it.
type journal struct {
	health.State
	dir     string
	log     *logrus.Logger
	live    *health.Live
	looks   bool                 // only looks: nothing is written
	later   *time.Timer          // begins a write
	pending chan error           // of that write
	start   map[string]time.Time // with the monotonic clock, which survives a jump of the other
}

func openJournal(dir string, log *logrus.Logger, live *health.Live) (*journal, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // status is for everyone; nothing in it is secret
		return nil, fault.New(fault.State, "the state folder %s", dir).Because(err).Hint("Name a folder that can be written (--state-dir), or run as root.")
	}
	j := &journal{dir: dir, log: log, live: live, start: map[string]time.Time{}}
	if err := j.reload(); err != nil {
		return nil, err
	}
	probe, err := os.CreateTemp(dir, whole.Scratch)
	if err != nil {
		return nil, fault.New(fault.State, "the state folder %s cannot be written", dir).Because(err).Hint("Check its rights and that the file system is not full or read-only; run as root.")
	}
	_ = probe.Close()
	_ = os.Remove(probe.Name())
	return j, nil
}

// reload reads the state. What is no state is set aside: the agent's folder and the server say the
// rest.
func (j *journal) reload() error {
	s, damaged, err := health.ReadState(j.dir)
	if err != nil {
		return err
	}
	if damaged != nil {
		to, err := health.SetAside(j.dir)
		if err != nil {
			return fault.New(fault.State, "damaged state cannot be set aside").Because(err).Hint("Delete %s.", health.StateFile(j.dir))
		}
		j.log.WithError(damaged).WithField("kept", to).Warn("state.json was damaged: set aside; the VM finds out anew where it stands")
	}
	j.State = s
	j.live.Set(s)
	return nil
}

// lock takes the VM for one run. The lock ends with the process, however that ends.
func (j *journal) lock() (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(j.dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fault.New(fault.State, "the lock").Because(err).Hint("Check the rights of %s; run as root.", j.dir)
	}
	if err := tryLock(f); err != nil {
		_ = f.Close()
		return nil, fault.New(fault.State, "another azp-bootstrap is at work on this VM").Passing().Retry(time.Second).Hint("Watch it: azp-bootstrap status --wait.")
	}
	whole.Clear(j.dir, filepath.Base(health.StateFile(j.dir)), recordName)
	return f, nil
}

func (j *journal) write() error {
	if err := j.settled(); err != nil {
		return err
	}
	err := j.Write(j.dir)
	j.live.Set(j.State) // after it: who was told by /healthz finds the same in the file
	return err
}

// dwell is how long a phase lasts before it is written by itself. What is over sooner is written with what comes next.
const dwell = 100 * time.Millisecond

// soon writes beside what comes next, for what nothing depends on: a write waits for the disk. How it ended, the next write
// says, which waits for it.
func (j *journal) soon() error {
	if err := j.settled(); err != nil {
		return err
	}
	j.live.Set(j.State)
	s := j.State
	s.Phases = slices.Clone(s.Phases)
	written := make(chan error, 1)
	j.later = time.AfterFunc(dwell, func() { written <- s.Write(j.dir) })
	j.pending = written
	return nil
}

// settled waits for a write that has begun; one that has not is left to what comes next.
func (j *journal) settled() (err error) {
	if j.pending != nil && !j.later.Stop() {
		err = <-j.pending
	}
	j.pending = nil
	return err
}

// newInstance begins the journal of another VM. It is written with what comes next; a boot that is cut off before finds
// out again.
func (j *journal) newInstance(id string) {
	at, attempt := j.StartedAt, j.Attempt
	phases := j.Phases
	if j.InstanceID != "" {
		at, attempt = now(), 1
	}
	j.State = health.State{InstanceID: id, Phase: health.Discover, Attempt: max(attempt, 1), StartedAt: at, Phases: phases}
}

// again begins an attempt on a VM that was ready, or had left.
func (j *journal) again() {
	j.Attempt++
	if j.Phase == health.Removed {
		j.Agent, j.Target = health.Agent{}, health.Target{}
	}
	j.ReadyAt, j.Phases = nil, []health.Phase{}
	j.Phase = health.Credential
}

func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }

func (j *journal) begin(phase string, verifying bool) error {
	j.start[phase] = time.Now()
	if verifying {
		return nil
	}
	if j.StartedAt.IsZero() {
		j.StartedAt = now()
	}
	if phase == health.Discover {
		j.Phases = []health.Phase{}
	}
	j.Phase = phase
	j.Phases = append(j.Phases, health.Phase{Name: phase, StartedAt: now()})
	if phase == health.Draining { // a daemon that is started anew must know
		return j.write()
	}
	return j.soon()
}

// end notes how long a phase took. It is written with what comes next, which is at once: a write waits for the disk.
func (j *journal) end(phase string, retries int, verifying bool) health.Phase {
	took := time.Since(j.start[phase]).Round(time.Millisecond).Seconds()
	for i := range j.Phases {
		if p := &j.Phases[i]; p.Name == phase && !verifying {
			p.Seconds, p.Retries = took, retries
			return *p
		}
	}
	return health.Phase{Name: phase, Seconds: took, Retries: retries}
}

func (j *journal) ready() error {
	t := now()
	j.Phase, j.ReadyAt = health.Ready, &t
	return j.write()
}

func failure(f *fault.Error, redact func(string) string) *health.Failure {
	return &health.Failure{Code: f.Class.Code, Message: redact(f.Error()), Hint: redact(f.Advice), At: now()}
}

// removed records that the VM has left its target.
func (j *journal) removed() error {
	j.Phase, j.ReadyAt, j.Registering, j.DrainUntil = health.Removed, nil, nil, nil
	return j.write()
}

// besides records an error that does not change where the VM stands.
func (j *journal) besides(f *fault.Error, redact func(string) string) error {
	j.LastError = failure(f, redact)
	return j.write()
}

// stumbled records a passing fault; the phase goes on.
func (j *journal) stumbled(f *fault.Error, redact func(string) string) error {
	if j.Phase == health.Ready || j.looks {
		return nil
	}
	now := failure(f, redact)
	if was := j.LastError; was != nil && was.Message == now.Message && now.At.Sub(was.At) < saidEvery {
		return nil
	}
	j.LastError = now
	return j.write()
}

// saidEvery is how often it is worth a write that the same is waited for.
const saidEvery = 30 * time.Second

func (j *journal) failed(f *fault.Error, redact func(string) string) error {
	if j.StartedAt.IsZero() {
		j.StartedAt = now()
	}
	j.Attempt = max(j.Attempt, 1)
	j.Phase, j.ReadyAt, j.LastError = health.Failed, nil, failure(f, redact)
	return j.write()
}

// stands reports whether the VM has joined or left, so that there may be nothing to do.
func (j *journal) stands() bool {
	return j.Phase == health.Ready || j.Phase == health.Draining || j.Phase == health.Removed
}

// at is the phase the boot is in, for messages.
func (j *journal) at() string {
	if j.Phase == health.Failed || j.Phase == "" {
		return health.Waiting
	}
	return j.Phase
}
