package health

import (
	"fmt"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/sirupsen/logrus"

	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/journal"
	"azp-bootstrap/bootstrap/line"
)

// A Reporter tells what happens to everyone who looks: the log, the service manager's status line
// (systemctl status) and the serial console, which is what people see of a VM that does not join.
type Reporter struct {
	Log     *logrus.Logger
	Console *Console
	Live    *Live
	Words   LastWords

	reach journal.Metadata // as it was said last

	lostAt time.Time // since when the agent has lost Azure DevOps, or when that was asked about last; zero: it has not

	said   string // the last waiting message, so that a long wait is one line, not a thousand
	saidAt time.Time
}

// Begun says that the daemon is up. A boot waits for this, and for nothing that comes later.
func (r *Reporter) Begun() { _, _ = daemon.SdNotify(false, daemon.SdNotifyReady) }

// Stopping says that the daemon goes.
func (r *Reporter) Stopping() { _, _ = daemon.SdNotify(false, daemon.SdNotifyStopping) }

func (r *Reporter) status(format string, args ...any) {
	_, _ = daemon.SdNotify(
		false,
		"STATUS="+line.Shown(fmt.Sprintf(format, args...)),
	) // a line break would begin another field
}

// PhaseBegun says that a phase begins.
func (r *Reporter) PhaseBegun(name string) {
	r.said = ""
	r.Log.WithField("phase", name).Debug("begins")
	r.status("%s", name)
}

// PhaseDone says that a phase is through, with what an operator would tell a colleague.
func (r *Reporter) PhaseDone(p journal.Phase, fields logrus.Fields) {
	f := logrus.Fields{"phase": p.Name, "seconds": fmt.Sprintf("%.3f", p.Seconds)}
	if p.Retries > 0 {
		f["retries"] = p.Retries
	}
	r.Log.WithFields(f).WithFields(fields).Info(done(p.Name, fields))
	r.Console.Line("%-10s ok %7.3f s%s", p.Name, p.Seconds, text(fields))
}

// done says in words what a phase has done.
func done(phase string, fields logrus.Fields) string {
	is := func(key string) string {
		if v, ok := fields[key]; ok {
			return fmt.Sprint(v)
		}
		return ""
	}
	agent := "agent " + is("agent")
	if id := is("id"); id != "" {
		agent += " (ID " + id + ")"
	}
	switch {
	case phase == journal.Discover && is("location") != "":
		return "discovered VM " + is("vm") + " in " + is("location")
	case phase == journal.Discover:
		return "discovered VM " + is("vm")
	case phase == journal.Credential && is("identity") != "":
		return "took a token of " + is("identity")
	case phase == journal.Credential:
		return "fetched the secret " + is("secret") + " from " + is("vault")
	case phase == journal.Preflight:
		return "found the " + is("target")
	case phase == journal.Register && is("id") == "":
		return "the place of " + agent + " is free"
	case phase == journal.Register:
		return agent + " is registered"
	case phase == journal.Service && is("service") != "":
		return "started the service " + is("service")
	case phase == journal.Service:
		return "started the agent " + is("runs")
	case phase == journal.Online:
		return agent + " is online"
	case phase == journal.Draining:
		return agent + " has left"
	}
	return phase + " done"
}

func text(fields logrus.Fields) string {
	s := ""
	for _, k := range []string{"vm", "location", "vault", "secret", "target", "agent", "id", "service", "version"} {
		if v, ok := fields[k]; ok && fmt.Sprint(v) != "" {
			s += fmt.Sprintf("  %s=%v", k, v)
		}
	}
	return s
}

// Gate says what the agent's start waits for from now on.
func (r *Reporter) Gate(what string) {
	r.Log.WithField("gate", what).Info("the agent's start waits for " + what)
	r.Console.Line("%-10s the agent's start waits for %s", "gate", what)
	r.status("the agent's start waits for %s", what)
}

// Metadata says how far jobs get to the metadata service, if that is news.
func (r *Reporter) Metadata(m journal.Metadata, allowed bool, hint string) {
	if r.reach == m {
		return
	}
	r.reach = m
	log := r.Log.WithFields(logrus.Fields{"metadata": m.Access, "why": m.Why})
	switch {
	case m.Access == "closed":
		log.Info("jobs do not reach Azure's metadata service")
	case allowed:
		log.Info("jobs may ask Azure's metadata service for tokens of the VM's identity: agent.metadata is allow")
	default:
		text := "jobs can ask Azure's metadata service for tokens of the VM's identity"
		if m.Access != "open" {
			text = "nobody knows whether jobs can ask Azure's metadata service for tokens of the VM's identity"
		}
		log.WithField("hint", hint).Warn(text)
		r.Console.Line("%-10s %s: %s (%s)", "metadata", strings.ToUpper(m.Access), text, m.Why)
	}
}

// GatePassed says that the agent may start.
func (r *Reporter) GatePassed(took time.Duration) {
	r.Log.WithField("seconds", fmt.Sprintf("%.3f", took.Seconds())).
		Info("all that the agent's start waits for has ended well")
	r.Console.Line("%-10s ok %7.3f s", "gate", took.Seconds())
}

// Waits says that a passing fault is waited out.
func (r *Reporter) Waits(phase string, f *fault.Error, retries int, wait time.Duration) {
	level := logrus.WarnLevel
	if f.Error() == r.said && time.Since(r.saidAt) < 30*time.Second {
		level = logrus.DebugLevel
	} else {
		r.said, r.saidAt = f.Error(), time.Now()
		r.Console.Line("%-10s waits: %s", phase, f)
		if f.Advice != "" {
			r.Console.Line("%-10s next: %s", phase, f.Advice)
		}
		r.status("%s waits: %s", phase, f)
	}
	r.Live.Retried(phase, f.Class.Code)
	r.Log.WithFields(logrus.Fields{
		"phase": phase, "class": f.Class.Code, "retries": retries,
		"wait": wait.Round(time.Millisecond).String(),
	}).
		Log(level, f.Error())
}

// Polls says that a phase looks again soon, as it should: no news.
func (r *Reporter) Polls(phase string, f *fault.Error) {
	r.Log.WithField("phase", phase).Debug(f.Error())
}

// Failed says that a boot failed, with the next step.
func (r *Reporter) Failed(phase string, f *fault.Error) {
	r.Log.WithFields(logrus.Fields{"phase": phase, "class": f.Class.Code, "hint": f.Advice}).Error(f.Error())
	r.Console.Line("%-10s FAILED (%s): %s", phase, f.Class.Code, f)
	if f.Advice != "" {
		r.Console.Line("%-10s next: %s", phase, f.Advice)
	}
	r.status("failed (%s): %s", f.Class.Code, f)
}

// FellBack says that config.sh registers this VM's agent, because the daemon's own registration did
// not do.
func (r *Reporter) FellBack(s journal.State, f *fault.Error) {
	r.Live.Set(s)
	r.Log.WithFields(logrus.Fields{"phase": s.Phase, "class": f.Class.Code, "hint": notByRest}).
		Error("REGISTRATION BY REST FAILED, config.sh registers this VM from now on: " + f.Error())
	r.Console.Line("%-10s BY REST FAILED (%s), config.sh registers: %s", s.Phase, f.Class.Code, f)
	r.status("%s: registered by config.sh, by rest it failed (%s): %s", s.Phase, f.Class.Code, f)
}

// notByRest is the next step.
const notByRest = "Please report it, with the log and the agent's _diag. agent.registration: script spares the next VMs the try."

// Over says that the VM has failed and stands where s says.
func (r *Reporter) Over(version string, s journal.State) {
	if err := r.Words.Say(version, s); err != nil {
		r.Log.WithError(err).Warn("why this VM failed could not be left in " + r.Words.Dir)
	}
}

// StaysReady says that an attempt failed on a VM that is ready, and whose agent runs on.
func (r *Reporter) StaysReady(s journal.State, f *fault.Error) {
	r.Live.Set(s)
	r.Live.Assert()
	r.status("ready: agent %s (ID %d) runs, but (%s): %s", s.Agent.Name, s.Agent.ID, f.Class.Code, f)
}

// LeftBehind says that an agent stays in Azure DevOps although its VM goes.
func (r *Reporter) LeftBehind(s journal.State, f *fault.Error) {
	r.Log.WithFields(logrus.Fields{
		"phase": journal.Draining, "class": f.Class.Code, "hint": f.Advice, "agent": s.Agent.Name,
		"id": s.Agent.ID, "target": s.Target.Name,
	}).
		Error("LEFT BEHIND in Azure DevOps: " + f.Error())
	r.Console.Line(
		"%-10s LEFT BEHIND (%s): agent %s (ID %d) in %s: %s",
		journal.Draining,
		f.Class.Code,
		s.Agent.Name,
		s.Agent.ID,
		s.Target.Name,
		f,
	)
	r.status("left behind (%s): %s", f.Class.Code, f)
}

// Removed says that the VM has left.
func (r *Reporter) Removed(s journal.State) {
	how := "azp-bootstrap rejoin joins it again"
	switch {
	case s.ByAzure():
		how = "if it is there again, it joins again"
	case s.RemovedBy == journal.ByRetired && s.Retire != nil && s.Retire.Then != "none":
		how = "it goes: " + s.Retire.Then
	}
	r.Log.WithFields(logrus.Fields{"phase": journal.Removed, "removedBy": s.RemovedBy}).
		Info("this VM has left Azure DevOps; " + how)
	r.status("removed: agent %s", s.Agent.Name)
}

// Goes says that a VM that has retired is to go.
func (r *Reporter) Goes(then string) {
	r.Log.WithFields(logrus.Fields{"phase": journal.Removed, "then": then}).Warn("this VM goes: " + then)
	r.Console.Line("%-10s this VM goes: %s", journal.Removed, then)
	r.status("removed: this VM goes: %s", then)
}

// Lost says that the agent has lost Azure DevOps, in its own words.
func (r *Reporter) Lost(s journal.State, line string) {
	r.lostAt = time.Now()
	r.Live.AgentLost(true)
	r.Log.WithFields(logrus.Fields{"agent": s.Agent.Name, "from": "agent"}).
		Warn("the agent has lost Azure DevOps and tries again by itself: " + line)
	r.status("ready: agent %s (ID %d), which has lost Azure DevOps and tries again", s.Agent.Name, s.Agent.ID)
}

// LostSince is since when the agent has lost Azure DevOps, or since Azure DevOps was asked about
// it; zero: it has not.
func (r *Reporter) LostSince() time.Time { return r.lostAt }

// Asks notes that Azure DevOps is asked about an agent that has lost it.
func (r *Reporter) Asks() { r.lostAt = time.Now() }

// Found says that it has Azure DevOps back.
func (r *Reporter) Found(s journal.State) {
	r.lostAt = time.Time{}
	r.Live.AgentLost(false)
	r.Log.WithFields(logrus.Fields{"agent": s.Agent.Name, "from": "agent"}).
		Info("the agent is connected to Azure DevOps again")
	r.ready(s)
}

// NoRoom says that a VM that is ready has no room for jobs, so that its agent takes none.
func (r *Reporter) NoRoom(s journal.State, f *fault.Error) {
	r.Log.WithFields(logrus.Fields{"phase": journal.Ready, "class": f.Class.Code, "hint": f.Advice}).Error(f.Error())
	r.Console.Line("%-10s NO ROOM (%s): %s", journal.Ready, f.Class.Code, f)
	r.status("agent %s (ID %d) takes no jobs (%s): %s", s.Agent.Name, s.Agent.ID, f.Class.Code, f)
}

// Room says that there is room again.
func (r *Reporter) Room(s journal.State) {
	r.Log.WithField("phase", journal.Ready).Info("there is room for jobs again")
	r.Console.Line("%-10s there is room for jobs again", journal.Ready)
	r.ready(s)
}

// Ready says that the VM has joined.
func (r *Reporter) Ready(s journal.State, verified bool) {
	if err := r.Words.Unsay(); err != nil {
		r.Log.WithError(err).Warn("what was left there of an earlier failure could not be removed: " + r.Words.Dir)
	}
	r.Live.Set(s)
	r.Live.Assert()
	how := "joined"
	if verified {
		how = "still joined: nothing to do"
		r.Live.AgentLost(!r.lostAt.IsZero())
	} else {
		r.lostAt = time.Time{}
	}
	r.Log.WithFields(logrus.Fields{
		"phase": journal.Ready, "agent": s.Agent.Name, "id": s.Agent.ID, "target": s.Target.Name,
	}).
		Info(how)
	r.Console.Line("%-10s agent %s (ID %d) is online in %s", journal.Ready, s.Agent.Name, s.Agent.ID, s.Target.Name)
	if s.Paused != nil {
		r.Paused(s)
		return
	}
	r.ready(s)
}

// Paused says that an operator has paused the VM, or ended its pause.
func (r *Reporter) Paused(s journal.State) {
	if p := s.Paused; p != nil {
		r.Log.WithField("agent", s.Agent.Name).
			Warn("this VM is paused, its agent takes no job until azp-bootstrap resume: " + Pause(*p))
		r.Console.Line("%-10s paused %s", s.Phase, Pause(*p))
	} else {
		r.Log.WithField("agent", s.Agent.Name).Info("this VM is paused no more")
	}
	r.ready(s)
}

func (r *Reporter) ready(s journal.State) {
	paused := ""
	if s.Paused != nil {
		paused = ", paused " + Pause(*s.Paused)
	}
	r.status("ready: agent %s (ID %d) in %s%s", s.Agent.Name, s.Agent.ID, s.Target.Name, paused)
}

// Held says that the VM is held in a standby pool.
func (r *Reporter) Held(s journal.State) {
	r.Live.Set(s)
	r.Live.Held(true)
	r.Log.WithField("agent", s.Agent.Name).
		Info("this VM stands in a standby pool: its agent is registered, and starts when the VM leaves the pool")
	r.Console.Line("%-10s in a standby pool: agent %s starts when the VM leaves it", "held", s.Agent.Name)
	r.status("held: in a standby pool; agent %s (ID %d) starts when the VM leaves it", s.Agent.Name, s.Agent.ID)
}

// LeftPool says that the VM is in a standby pool no more.
func (r *Reporter) LeftPool() {
	r.Log.Info("this VM has left the standby pool: its agent may start")
	r.Console.Line("%-10s the VM has left the standby pool", "held")
}
