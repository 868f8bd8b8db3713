package bootstrap

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
	"github.com/sirupsen/logrus"

	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/journal"
	"azp-bootstrap/bootstrap/member"
	"azp-bootstrap/bootstrap/phase"
	"azp-bootstrap/bootstrap/retry"
)

const (
	lookDisk   = time.Minute     // at the disks of a VM that is watched over
	lookJob    = 5 * time.Second // at a job that has begun while its agent was disabled
	serverTime = time.Minute     // for disabling or enabling the agent
	hangs      = 5 * time.Second // a file system that does not answer holds nothing else up
)

// cleanLock is held while scripts make room: the file of their record, which is there on a full disk, too.
const cleanLock = agent.CleanKind + ".pid"

// cleanFolder holds root's scripts that make room, beside the configuration.
func (p *program) cleanFolder() string {
	file, err := filepath.Abs(p.ConfigFile)
	if err != nil {
		file = p.ConfigFile
	}
	return filepath.Join(filepath.Dir(file), "clean.d")
}

// furnish prepares the disk for an agent before it is started, or is asked about: its work folder is
// there, on the disk where it belongs. An agent whose disk is not mounted is not started; the disk is
// waited for. One that runs already is left alone.
func (a *attempt) furnish(ctx context.Context) error {
	if at := a.journal.State().Phase; at == journal.Draining || at == journal.Removed {
		return nil
	}
	if a.journal.State().Agent.Cleaning && !a.Once { // of a daemon that was killed
		if err := (agent.Runner{State: a.StateDir}).EndPrograms(ctx, agent.CleanKind); err != nil {
			return err
		}
		if err := a.journal.Update(func(s *journal.State) { s.Agent.Cleaning = false }); err != nil {
			return err
		}
	}
	if err := a.member.NoteSetup(); err != nil {
		return err
	}
	said := ""
	lay := func() error {
		err := a.member.Agent.WorkFolder(a.member.Setup.Work)
		f := fault.From(err)
		if err == nil || f.Error() == said {
			return err
		}
		said = f.Error()
		if a.journal.State().Phase == journal.Ready { // where a phase that waits says nothing
			a.runner().Record(f, phase.Beside)
		}
		return err
	}
	err := lay()
	if f := fault.From(err); err != nil && f.Wait && !a.member.Runs() {
		err = a.runner().Retry(ctx, journal.Discover, lay, nil)
		if err != nil {
			return err
		}
	} else if err != nil && a.journal.State().Agent.ID != 0 { // else registering says it
		a.Log.WithFields(logrus.Fields{"class": f.Class.Code, "hint": f.Advice}).Warn(f.Error())
	}
	full := a.journal.State().Agent.Full
	if full {
		short, unknown := a.short()
		full = short != "" || unknown != nil
	}
	return a.journal.Update(func(s *journal.State) {
		s.Agent.Full = full // if it is not, the agent is enabled in a moment
		if err == nil && !full {
			s.Mended(fault.Disk.Code)
		}
	})
}

// short says what the disk of the work folder lacks of what is configured; "" if nothing.
func (a *attempt) short() (string, error) {
	limits := a.member.VM.Config.Disk
	if !limits.Watched() {
		return "", nil
	}
	r, err := a.member.Agent.Room(a.member.Setup.Work)
	if err != nil {
		return "", err
	}
	return r.Short(uint64(limits.Min), int(limits.MinInodes)), nil
}

// roomOf tells metrics what is free in the agent's folder, and in the work folder.
func roomOf(m member.Member) func() map[string]agent.Room {
	return func() map[string]agent.Room {
		all := map[string]agent.Room{}
		for name, folder := range map[string]string{"agent": "", "work": m.Setup.Work} {
			if r, err := m.Agent.Room(folder); err == nil {
				all[name] = r
			}
		}
		return all
	}
}

// A keeper looks after the disks of a VM that is watched over, beside the loop that hears of its end.
type keeper struct {
	*attempt
	member   member.Member // with access of its own
	said     string        // the last trouble, which is told once
	lacks    bool          // room: that is told
	tried    bool          // to make room, since there was some
	failed   error         // what went wrong with the scripts
	disabled bool          // the agent, by this keeper
	regroups bool          // it is told that the agent is to be restarted with other groups
}

// keepDisk looks once a minute until ctx ends.
func (a *attempt) keepDisk(ctx context.Context) {
	k := &keeper{attempt: a, member: a.member}
	k.member.Access = a.member.Access.Apart()
	if a.member.VM.Config.Disk.Watched() {
		_ = agent.Runner{State: a.StateDir}.ReadyToClean() // if it fails, cleaning will, and says so
	}
	for {
		if a.member.VM.Known() && a.journal.State().Phase == journal.Ready { // else nobody knows whose agent it is
			k.look(ctx)
			k.regroup(ctx)
		}
		if !retry.Pause(ctx, lookDisk) {
			return
		}
	}
}

// look makes the work folder again if it is gone, and makes room if there is none, or says so. What a
// job is doing is not disturbed.
func (k *keeper) look(ctx context.Context) {
	m := k.member
	if work := m.Setup.Work; filepath.IsAbs(work) {
		if _, err := os.Lstat(work); errors.Is(err, fs.ErrNotExist) && ctx.Err() == nil && !m.Works() {
			k.trouble(m.Agent.WorkFolder(work), "the work folder is gone and could not be made again")
		}
	}
	short, err := k.short()
	full := k.journal.State().Agent.Full
	switch {
	case ctx.Err() != nil:
	case err != nil:
		k.trouble(err, "nobody knows how much room there is for jobs")
	case short == "" && (full || k.disabled || k.leftDisabled()):
		k.opens(ctx)
	case short == "":
		k.lacks, k.tried, k.said = false, false, ""
	case k.tried && !full:
		k.closes(short)
	case k.tried || m.Works():
	case k.quiet(ctx, short):
		k.clean(ctx)
	}
}

// leftDisabled reports whether an agent stands disabled that nobody keeps so: what disabled it was cut off.
func (k *keeper) leftDisabled() bool {
	s := k.journal.State()
	return s.Agent.Drained && s.Paused == nil && !s.Retires() && !s.Spent()
}

// trouble tells once what keeps the keeper from its work.
func (k *keeper) trouble(err error, what string) {
	if err == nil {
		return
	}
	if f := fault.From(err); what+f.Class.Code != k.said { // its own words may name a temporary file
		k.said = what + f.Class.Code
		k.Log.WithFields(logrus.Fields{"class": f.Class.Code, "hint": f.Advice}).Warn(what + ": " + f.Error())
	}
}

// quiet keeps new jobs from an agent whose disk is full, and waits for one that has begun meanwhile.
// If the server cannot be asked, nothing is done: a job could begin at any moment.
func (k *keeper) quiet(ctx context.Context, short string) bool {
	if !k.lacks {
		k.lacks = true
		k.Log.WithField("agent", k.member.State().Agent.Name).Warn("the agent is to take no jobs for a while: " + short)
	}
	return k.idle(ctx, "the agent could not be disabled, and so no room is made")
}

// idle lets the agent take no new job, and waits until it runs none. otherwise is what is told if the server
// cannot be asked.
func (k *keeper) idle(ctx context.Context, otherwise string) bool {
	d := member.Drain{Until: time.Now().Add(1000 * time.Hour)} // a job is waited for however long it takes
	for {
		err := k.member.HeldUp(&d)
		if err == nil {
			err = k.onServer(ctx, func(m member.Member, at member.Listed) error {
				return m.Quiet(ctx, at.Client, at.Place, at.Agent, &d)
			})
		}
		switch {
		case err == nil && !k.member.Works():
			k.disabled = k.journal.State().Agent.Drained // not if somebody else had disabled it
			return true
		case err != nil && fault.From(err).Subject != fault.OfJob:
			k.trouble(err, otherwise)
			return false
		case !retry.Pause(ctx, lookJob):
			return false
		}
	}
}

// onServer does something to this VM's own agent on the server, in this VM's turn.
func (k *keeper) onServer(ctx context.Context, do func(m member.Member, at member.Listed) error) error {
	release, err := k.journal.Take()
	if err != nil {
		return err
	}
	defer release()
	m := k.member
	defer m.Access.Drop()
	if at := m.State().Phase; at != journal.Ready {
		return fault.New(fault.State, "this VM is not ready any more (%s)", at).Hint("Look at azp-bootstrap status.")
	}
	ctx, cancel := context.WithTimeout(ctx, serverTime)
	defer cancel()
	at, err := m.Find(ctx, &member.Drain{})
	if err != nil {
		return err
	}
	if at.Agent == nil {
		return fault.New(fault.Target, "Azure DevOps has no agent of this VM any more").Hint("It is asked again by itself.")
	}
	return do(m, at)
}

// clean runs root's scripts, and lets the agent work again if there is room afterwards.
func (k *keeper) clean(ctx context.Context) {
	begun := time.Now()
	if err := k.journal.Update(func(s *journal.State) { s.Agent.Cleaning = true }); err != nil {
		k.trouble(err, "it could not be recorded that room is to be made, and so none is")
		return
	}
	if k.member.Works() { // begun in the instant before
		k.cleaned()
		return
	}
	turn := flock.New(filepath.Join(k.StateDir, cleanLock), flock.SetPermissions(0o600))
	if got, err := turn.TryLock(); !got { // ended by whoever holds it, who took this for a killed daemon's
		k.trouble(errors.Join(err, errors.New("what runs of it is ended by another run")), "room is not made yet")
		k.cleaned()
		return
	}
	defer turn.Close() //nolint:errcheck // it ends with the handle
	k.failed = k.member.Agent.Clean(ctx, k.cleanFolder(), k.member.Setup.Work, k.Redactor, func(script, line string) {
		k.Log.WithField("from", script).Info(line)
	})
	k.cleaned()
	short, err := k.short()
	if ctx.Err() != nil {
		return
	}
	if k.failed != nil {
		k.Log.WithError(k.failed).Warn("not all scripts of " + k.cleanFolder() + " did their work")
	}
	k.tried = true
	switch {
	case err != nil:
		k.trouble(err, "nobody knows how much room there is for jobs")
	case short != "":
		k.closes(short)
	default:
		k.Log.WithField("took", time.Since(begun).Round(time.Millisecond).String()).
			Info("the scripts of " + k.cleanFolder() + " made room")
		k.opens(ctx)
	}
}

// cleaned says that no script is at work any more. While another run has the VM's turn it is waited for.
func (k *keeper) cleaned() {
	ctx, cancel := context.WithTimeout(context.Background(), serverTime)
	defer cancel()
	for {
		err := k.journal.Update(func(s *journal.State) { s.Agent.Cleaning = false })
		if err == nil {
			return
		}
		if !retry.Pause(ctx, time.Second) {
			k.trouble(err, "it could not be recorded that no script is at work any more")
			return
		}
	}
}

// closes says that a VM has no room for jobs: its agent stays disabled.
func (k *keeper) closes(short string) {
	f := fault.New(fault.Disk, "there is no room for jobs: %s", short).
		Hint("Free some, or give the work folder a larger disk: the agent is enabled again by itself. Scripts in %s "+
			"can do it before it comes to this.", k.cleanFolder())
	if k.failed != nil {
		f = f.Because(k.failed)
	}
	why, was := journal.Why(f, k.Redactor.Redact), k.journal.State().Agent.Full
	if err := k.journal.Update(func(s *journal.State) {
		if s.Phase == journal.Ready {
			s.Agent.Full, s.LastError = true, why
		}
	}); err != nil {
		k.trouble(err, "it could not be recorded that there is no room for jobs")
		return
	}
	if !k.journal.State().NoRoom() { // it has left meanwhile
		return
	}
	k.report.NoRoom(k.journal.State(), f)
	if !was {
		k.failedNow(why)
	}
}

// opens lets the agent work again, now that there is room. The VM is healthy, also if Azure DevOps
// cannot be asked just now.
func (k *keeper) opens(ctx context.Context) {
	was := k.journal.State().Agent.Full
	if err := k.journal.Update(func(s *journal.State) {
		if s.Phase == journal.Ready {
			s.Agent.Full = false
			s.Mended(fault.Disk.Code)
		}
	}); err != nil {
		k.trouble(err, "it could not be recorded that there is room again")
		return
	}
	if k.journal.State().Phase != journal.Ready { // it has left meanwhile
		return
	}
	k.disabled, k.lacks, k.tried = k.leftDisabled(), false, false // a pause's own is resume's to end
	if was {
		k.report.Room(k.journal.State())
	}
	if !k.disabled {
		return
	}
	if err := k.onServer(ctx, func(m member.Member, at member.Listed) error {
		return m.NoteEnabled(ctx, at.Client, at.Place, at.Agent)
	}); err != nil {
		k.trouble(err, "there is room again, but the agent could not be enabled: it is tried again")
	}
	if k.disabled = k.leftDisabled(); !k.disabled {
		k.said = ""
	}
}
