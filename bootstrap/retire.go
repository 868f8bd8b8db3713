package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/sirupsen/logrus"

	"azp-bootstrap/bootstrap/devops"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/journal"
	"azp-bootstrap/bootstrap/leave"
	"azp-bootstrap/bootstrap/member"
	"azp-bootstrap/bootstrap/retry"
)

const (
	lookOnce   = time.Second      // at an agent that runs one job: it is removed within seconds of its end
	lookRetire = 5 * time.Second  // whether a VM is due to leave
	askServer  = 2 * time.Second  // whether the job that ended here has ended there, too
	askAtOnce  = 3                // looks in which it is asked each time, as it mostly hears of the end a moment later
	askKept    = 2 * time.Minute  // how many agents are online, when there were too few
	holdsOff   = time.Minute      // after a departure that failed, before it is tried again
	spreadOver = 10               // a VM leaves up to a tenth of its age early
	patient    = 1000 * time.Hour // a job is waited for however long it takes
	askShut    = time.Minute      // whether an agent that could get no job can now
	askLeft    = time.Minute      // whether what runs here is a job for the server as well …
	leftAfter  = 15 * time.Minute // … and after so long without one it is what a job has left behind. An
	// agent whose connection is lost keeps its job for 10 minutes (JobDispatcher.cs: that is how long a
	// request stays locked for it)
)

// planRetirement notes when this VM leaves by itself. What was noted stays while the configuration does: a
// restart makes nobody younger.
func (a *attempt) planRetirement() error {
	r, id := a.member.VM.Config.Retire, a.member.VM.Instance.VMID
	return a.journal.Update(func(s *journal.State) {
		if s.Phase == journal.Draining || s.Phase == journal.Removed { // by what was planned then, but for what becomes of it
			s.Becomes(r.Outcome())
			return
		}
		if !r.Once() {
			s.Once = nil
		}
		was := s.Retire
		if s.Retire = nil; !r.Wanted() {
			return
		}
		plan := journal.Retire{Jobs: int(r.Jobs), Idle: r.Idle.Seconds(), Age: r.Age.Seconds(), Then: r.Then}
		if was != nil {
			plan.Why, plan.Since = was.Why, was.Since
		}
		switch early := spread(id, r.Age); {
		case r.Age == 0:
		case was != nil && was.Age == plan.Age:
			plan.Due = was.Due
		default:
			plan.Due = s.StartedAt.Add(r.Age - early)
			if now := journal.Now(); plan.Due.Before(now) { // it counts only since now: not all VMs at once
				plan.Due = now.Add(early)
			}
		}
		s.Retire = &plan
	})
}

// spread is a part of a tenth of an age, the same for a VM whenever it is asked.
func spread(instance string, age time.Duration) time.Duration {
	h := fnv.New64a()
	_, _ = h.Write([]byte(instance))
	return time.Duration(float64(age) / spreadOver * float64(h.Sum64()%1000) / 1000).Truncate(time.Millisecond)
}

// A retirer looks, beside the loop of a VM that is watched over, whether it is due to leave by itself.
type retirer struct {
	*attempt
	member  member.Member // with access of its own
	retires chan leave.Notice
	fell    chan struct{} // the agent that runs one job is down, and has begun none

	drain     member.Drain
	backoff   *backoff.ExponentialBackOff
	notBefore time.Time // the server is not asked
	said      string
	still     int // how often the server said that a job runs, which has ended here

	shut  bool      // when the server was asked last, the agent could get no job
	asked time.Time // when the server was asked last whether this VM has a job
	free  time.Time // since when it has said that there is none
	left  bool      // what runs here is no job
}

// awaitRetirement begins to look until ctx ends; done closes when nobody is at work on the VM any more.
func (a *attempt) awaitRetirement(ctx context.Context) (r *retirer, done chan struct{}) {
	r = &retirer{
		attempt: a, member: a.member, retires: make(chan leave.Notice), fell: make(chan struct{}),
		backoff: backoff.NewExponentialBackOff(),
	}
	r.backoff.InitialInterval, r.backoff.MaxInterval = time.Second, 30*time.Second
	r.member.Access = a.member.Access.Apart()
	done = make(chan struct{})
	go func() {
		defer close(done)
		if s := a.journal.State(); s.Phase == journal.Removed && s.RemovedBy == journal.ByRetired {
			a.takeAway(ctx)
			return
		}
		if !a.member.VM.Known() || !a.member.VM.Config.Retire.Wanted() {
			return
		}
		every := lookRetire
		if a.member.Once() {
			every = lookOnce
		}
		r.anew()
		for {
			r.look(ctx)
			if !retry.Pause(ctx, every) {
				return
			}
		}
	}()
	return r, done
}

// anew begins a departure from its beginning.
func (r *retirer) anew() {
	r.drain = member.Drain{Until: time.Now().Add(patient)}
	r.free, r.left = time.Time{}, false
}

// look notes that the only job has begun, and takes a VM that is due as far as it gets without waiting:
// its agent takes no new job, the running one has ended here and on the server, enough others stay.
func (r *retirer) look(ctx context.Context) {
	if err := r.journal.Refresh(); err != nil {
		return
	}
	s, m := r.journal.State(), r.member
	if s.Phase != journal.Ready {
		return
	}
	// That nobody can say what runs is no job: systemd is being updated, say. The server knows of one as well.
	workers, err := m.Agent.Workers(s.Agent.Service)
	if begun := err == nil && len(workers) > 0; begun && m.Once() && !s.Spent() {
		r.note(func(s *journal.State) { s.Spend(0) })
		s = r.journal.State()
	}
	down := false
	if m.Once() && !s.Spent() {
		down = !m.Runs()
	}
	why := r.due(s)
	if failed := s.LastError; why != "" && s.Retires() && failed != nil {
		if ago := time.Since(failed.At); ago >= 0 && ago < holdsOff { // not by a clock that was ahead then
			return
		}
	}
	switch {
	case ctx.Err() != nil, s.Paused != nil, s.Held(), why == "" && !down, time.Now().Before(r.notBefore):
		return
	case down:
		r.downWithoutJob(ctx)
		return
	case !s.Retires():
		if !r.mayBegin(ctx, why) {
			return
		}
		noted := r.note(func(s *journal.State) {
			if s.Retire != nil && s.Phase == journal.Ready && s.Paused == nil {
				plan := *s.Retire
				plan.Why, plan.Since = why, journal.Now()
				s.Retire = &plan
			}
		})
		if !noted || !r.journal.State().Retires() {
			return
		}
		r.Log.WithFields(logrus.Fields{"agent": s.Agent.Name, "why": why}).
			Warn("this VM is to leave by itself: its agent takes no new job")
	}
	if m.HeldUp(&r.drain) != nil && !r.leftover(ctx) {
		r.still = 0
		return
	}
	r.quiet(ctx, why)
}

// leftover reports whether what runs here is no job, but a program that one has left behind: the agent takes
// none any more, and the server shows none for so long that it would have given up one that it cannot hear
// of. Else a job could keep its VM for ever.
func (r *retirer) leftover(ctx context.Context) bool {
	if r.left || time.Since(r.asked) < askLeft {
		return r.left
	}
	r.asked = time.Now()
	busy := false
	err := r.onServer(ctx, func(m member.Member, at member.Listed) error {
		if at.Agent == nil {
			return nil
		}
		now, err := at.Client.ByID(ctx, at.Place, at.Agent.ID)
		if errors.Is(err, devops.ErrGone) {
			return nil
		}
		if err != nil {
			return err
		}
		busy = now.Busy || now.Enabled
		return nil
	})
	switch {
	case err != nil || busy:
		r.free = time.Time{}
	case r.free.IsZero():
		r.free = r.asked
	case r.asked.Sub(r.free) >= leftAfter:
		r.left, r.drain.Until = true, time.Now()
		r.Log.WithField("agent", r.member.State().Agent.Name).
			Warn("what runs here is no job of Azure DevOps' any more: a job has left it behind, and it is not waited for")
	}
	return r.left
}

// due says why this VM is to leave now; "" if it is not.
func (r *retirer) due(s journal.State) string {
	switch plan := s.Retire; {
	case plan == nil:
		return ""
	case plan.Why != "":
		return plan.Why
	case s.Spent() && r.member.Once():
		return "it had its job"
	}
	return dueAt(s, time.Now(), r.jobs.opened().Is(journal.Now()))
}

// dueAt is due for a VM whose agent has not begun an only job. open says that the agent can get one.
func dueAt(s journal.State, now time.Time, open bool) string {
	plan, begun := s.Retire, s.Agent.Jobs.Ended
	if !s.Agent.Jobs.Since.IsZero() {
		begun++
	}
	since, idles := s.Idle()
	switch {
	case plan.Jobs > 1 && begun >= plan.Jobs:
		return fmt.Sprintf("it had %d jobs", begun)
	case !plan.Due.IsZero() && !now.Before(plan.Due):
		return "it is " + seconds(plan.Age) + " old"
	case plan.Idle > 0 && idles && open && now.Sub(since).Seconds() >= plan.Idle: // last: it may have to wait
		return idleFor(plan)
	}
	return ""
}

func idleFor(plan *journal.Retire) string { return "it had no job for " + seconds(plan.Idle) }

func seconds(s float64) string { return (time.Duration(s) * time.Second).String() }

// quiet lets the agent take no job, and tells the loop when it has none and may go.
func (r *retirer) quiet(ctx context.Context, why string) {
	short, gone := "", false
	err := r.onServer(ctx, func(m member.Member, at member.Listed) error {
		if gone = at.Agent == nil; gone {
			return nil
		}
		if err := m.NoteGiven(at.Agent); err != nil {
			return err
		}
		if err := m.Quiet(ctx, at.Client, at.Place, at.Agent, &r.drain); err != nil {
			return err
		}
		var err error
		short, err = r.short(ctx, at)
		return err
	})
	s := r.journal.State()
	switch {
	case ctx.Err() != nil || s.Phase != journal.Ready || s.Paused != nil:
	case err != nil && fault.From(err).Subject == fault.OfJob:
		if r.still++; r.still > askAtOnce {
			r.notBefore = time.Now().Add(askServer)
		}
	case err != nil && !(s.Spent() && r.over(err)): // else the departure tells what it fails by, and goes on trying
		r.trouble(err)
	case gone && !s.Spent(): // the watch over it sees to that
	case short != "":
		r.stays(ctx, short)
	default:
		r.done()
		n := leave.Notice{Why: "retire: " + why, By: journal.ByRetired, Goes: s.Spent(), Wait: !r.left}
		select {
		case r.retires <- n:
		case <-ctx.Done():
		}
	}
}

// downWithoutJob finds out what has become of an agent that runs one job, and that is down although it is
// not known that it had it. Only the server says that it has had none: then it is started again.
func (r *retirer) downWithoutJob(ctx context.Context) {
	err := r.onServer(ctx, func(m member.Member, at member.Listed) error {
		if at.Agent == nil {
			return nil // who joins finds that out as well
		}
		return m.NoteGiven(at.Agent)
	})
	if err != nil && !r.over(err) { // else who brings it up tells what that fails by
		r.trouble(err)
		return
	}
	r.done()
	if r.journal.State().Spent() || r.member.Runs() {
		return
	}
	r.notBefore = time.Now().Add(lookService) // the loop may want to wait
	select {
	case r.fell <- struct{}{}:
	case <-ctx.Done():
	}
}

// over reports whether a VM of one job that fails by err serves nobody any more: neither its agent nor a job runs. Then it
// is not well. While another run is at work on it, that one says what becomes of it.
func (r *retirer) over(err error) bool {
	return r.member.Once() && fault.From(err).Class != fault.State && !r.member.Runs() && !r.member.Works()
}

// onServer does something to this VM's own agent on the server, in this VM's turn.
func (r *retirer) onServer(ctx context.Context, do func(m member.Member, at member.Listed) error) error {
	release, err := r.journal.Take()
	if err != nil {
		return err
	}
	defer release()
	m := r.member
	defer m.Access.Drop()
	if s := m.State(); s.Phase != journal.Ready || s.Paused != nil {
		return fault.New(fault.State, "this VM is not ready any more").Hint("Look at azp-bootstrap status.")
	}
	ctx, cancel := context.WithTimeout(ctx, serverTime)
	defer cancel()
	at, err := m.Find(ctx, &member.Drain{})
	if err != nil {
		return err
	}
	return do(m, at)
}

// short says if fewer agents stay online in the target than must, besides this VM's; "" if not. What counts
// is what it says when this VM's takes no job any more: of several VMs that leave at once, the last one
// counts none of the others. So all may find too few, and stay, but never too many enough.
func (r *retirer) short(ctx context.Context, at member.Listed) (string, error) {
	keep := int(r.member.VM.Config.Retire.Keep)
	if keep == 0 || r.journal.State().Spent() {
		return "", nil
	}
	all, err := at.Client.All(ctx, at.Place)
	if err != nil {
		return "", err
	}
	stay := 0
	for _, o := range all {
		if o.ID != at.Agent.ID && o.Online && o.Enabled {
			stay++
		}
	}
	if stay < keep {
		return fmt.Sprintf("%d agents would stay online, and retire.keep wants %d", stay, keep), nil
	}
	return "", nil
}

// mayBegin reports whether enough others stay, as far as that can be known while this VM's agent takes jobs,
// and for a VM that leaves because it is idle whether the server shows an agent that could get one: it does
// not in an outage, nor when somebody has disabled the agent to look at the VM. Then its idle time begins anew.
func (r *retirer) mayBegin(ctx context.Context, why string) bool {
	s := r.journal.State()
	idle := why == idleFor(s.Retire)
	if s.Spent() || !idle && r.member.VM.Config.Retire.Keep == 0 {
		return true
	}
	short, open := "", true
	err := r.onServer(ctx, func(_ member.Member, at member.Listed) (err error) {
		if at.Agent != nil {
			open = at.Agent.Enabled && at.Agent.Online
			short, err = r.short(ctx, at)
		}
		return err
	})
	switch {
	case err != nil:
		r.shut = idle
		r.trouble(err)
		return false
	case idle && !open:
		r.shut, r.notBefore = true, time.Now().Add(askShut)
		return false
	case idle && r.shut:
		r.shut = false
		r.note(func(s *journal.State) { s.Agent.Jobs.Rested(journal.Now()) })
		return false
	}
	r.waits(short)
	return short == ""
}

// waits notes what this VM waits for before it leaves. It is asked again later, not by all VMs in the same
// moment.
func (r *retirer) waits(what string) {
	if what != "" {
		r.notBefore = time.Now().Add(askKept + rand.N(askKept))
	}
	r.noteWaits(what)
}

func (r *retirer) noteWaits(what string) {
	r.note(func(s *journal.State) {
		if s.Retire != nil && s.Retire.Waits != what {
			plan := *s.Retire
			plan.Waits = what
			s.Retire = &plan
		}
	})
}

// stays takes back that this VM leaves: too few others would stay.
func (r *retirer) stays(ctx context.Context, short string) {
	r.waits(short)
	noted := r.note(func(s *journal.State) {
		if s.Retires() {
			plan := *s.Retire
			plan.Why, plan.Since = "", time.Time{}
			s.Retire = &plan
		}
	})
	if !noted || r.journal.State().Retires() {
		return
	}
	r.Log.WithField("agent", r.member.State().Agent.Name).Info("this VM does not leave yet: " + short)
	if err := r.onServer(ctx, func(m member.Member, at member.Listed) error {
		if at.Agent == nil {
			return nil
		}
		return m.NoteEnabled(ctx, at.Client, at.Place, at.Agent)
	}); err != nil {
		r.trouble(err)
	}
	r.anew()
}

// note writes to the journal. If it cannot, because another run has the VM's turn or the disk refuses it, it is
// done at a later look: what is not on disk does not count.
func (r *retirer) note(change func(*journal.State)) (noted bool) {
	err := r.journal.Update(change)
	if err != nil {
		r.Log.WithError(err).Debug("it is not recorded yet how far this VM is on its way out")
	}
	return err == nil
}

// trouble tells once what keeps the VM from leaving, which is tried again after a while.
func (r *retirer) trouble(err error) {
	r.notBefore = time.Now().Add(r.backoff.NextBackOff())
	if f := fault.From(err); f.Class.Code != r.said {
		r.said = f.Class.Code
		r.Log.WithFields(logrus.Fields{"class": f.Class.Code, "hint": f.Advice}).
			Warn("this VM is to leave by itself, and cannot yet: " + f.Error())
		r.noteWaits(r.Redactor.Redact(f.Error()))
	}
}

func (r *retirer) done() {
	if r.said != "" {
		r.noteWaits("")
	}
	r.said = ""
	r.backoff.Reset()
}
