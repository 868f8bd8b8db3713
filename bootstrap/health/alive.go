package health

import (
	"strings"
	"time"

	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/journal"
)

// Life says whether something runs, as far as the one who asks may see.
type Life string

// The lives.
const (
	Running Life = "running"
	Stopped Life = "stopped"
	Unknown Life = "unknown"
)

// Alive is what runs on this VM now. state.json says where the VM stood when somebody last worked
// on it.
type Alive struct {
	Daemon      Life       `json:"daemon"`                // run, and run --once for as long as it lasts
	DaemonSince *time.Time `json:"daemonSince,omitempty"` // it runs, or does not
	Agent       Life       `json:"agent"`
	Unserved    string     `json:"healthNotServed,omitempty"` // why nobody learns this VM's health

	Pending    bool      `json:"-"` // the daemon's first attempt has not ended: state.json may be of one before
	Unseen     string    `json:"-"` // why it is unknown whether a daemon runs
	AgentWord  string    `json:"-"` // the service manager's
	AgentSince time.Time `json:"-"` // zero: nobody knows
}

// Down is what is wrong with a VM that is ready although its agent does not run; nil if it runs or
// that cannot be seen.
func (a Alive) Down(s journal.State) *fault.Error {
	if s.Phase != journal.Ready || a.Agent != Stopped || s.Gate != nil || s.Held() {
		return nil
	}
	word, log := "", "agent.log in the state folder"
	if s.Agent.Service != "" {
		word, log = " ("+a.AgentWord, agent.Log(s.Agent.Service)
		if !a.AgentSince.IsZero() {
			word += " since " + a.AgentSince.Format(time.RFC3339)
		}
		word += ")"
	}
	f := fault.New(fault.Service, "the agent %s does not run%s", s.Agent.Name, word)
	if a.Daemon == Running {
		return f.Hint("The daemon brings it up again within two minutes; if not, look at the agent's log: %s.", log)
	}
	return f.Hint("%s: the daemon brings it up again. The agent's log: %s.", startDaemon, log)
}

var startDaemon = fault.Here("systemctl start azp-bootstrap")

// daemon is the line of status about the daemon; "" if nothing is known that is worth one.
func (a Alive) daemon(s journal.State) string {
	since := ""
	if a.DaemonSince != nil {
		since = " since " + a.DaemonSince.Format(time.RFC3339)
	}
	switch {
	case a.Daemon == Running && a.Pending:
		return "running" + since + ", its first attempt has not ended yet"
	case a.Daemon == Running:
		return "running" + since
	case a.Daemon == Stopped && s.Phase == journal.Removed:
		return "not running" + since
	case a.Daemon == Stopped:
		return "not running" + since + ": nobody watches over this VM; " + startDaemon
	case a.Daemon == Unknown && s.Attempt > 0:
		return "unknown: " + a.Unseen
	}
	return ""
}

// Joined reports whether the VM is ready and its agent runs. Where that cannot be seen, the word of
// a daemon that runs counts.
func (a Alive) Joined(s journal.State) bool {
	started := s.Phase == journal.Ready && s.Gate == nil && !s.Held()
	return started && !a.Pending && (a.Agent == Running || a.Agent == Unknown && a.Daemon == Running)
}

// TimedOut is what a wait for a VM to be ready ends with that took too long.
func (a Alive) TimedOut(s journal.State, after time.Duration) *fault.Error {
	class, what := ClassOfPhase(s.Phase), "still in the phase "+s.Phase
	hint := fault.Here("Watch it: azp-bootstrap status; journalctl -u azp-bootstrap.")
	switch down := a.Down(s); {
	case s.Held():
		class, what = fault.Start.Code, "this VM stands in a standby pool"
		hint = "Its agent starts when the VM leaves the pool."
	case s.Gate != nil:
		class, what = fault.Start.Code, "the agent's start still waits for "+s.Gate.WaitsFor
	case a.Pending && (s.Phase == journal.Ready || s.Phase == journal.Failed): // of an earlier attempt, with its error
		what = "the daemon's first attempt has not ended"
	case down != nil:
		class, what, hint = down.Class.Code, down.Error(), down.Advice
	case s.Phase == journal.Ready:
		class, what, hint = fault.Service.Code, "whether the agent runs cannot be seen", fault.Here("Ask as root.")
	case s.LastError != nil && (a.Daemon != Running || s.LastError.At.After(*a.DaemonSince)):
		class, hint = s.LastError.Code, s.LastError.Hint
	}
	if class == "" {
		class = fault.State.Code
	}
	switch a.Daemon {
	case Stopped:
		what += "; no daemon runs"
		if !strings.HasPrefix(hint, startDaemon) {
			hint = startDaemon + ". " + hint
		}
	case Unknown:
		what += "; whether a daemon runs is unknown"
	}
	return fault.New(fault.ByCode(class), "not ready after %s: %s", after, what).Hint("%s", hint)
}
