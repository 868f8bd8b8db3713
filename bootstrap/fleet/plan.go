// Package fleet removes from Azure DevOps the agents of deleted VMs, and no others.
//
//	verdicts, err := fleet.Plan(agents, list, policy, time.Now())
//	err = fleet.Carry(ctx, pool, verdicts, shown)
//
// Plan decides and asks nobody. Carry looks at each agent again before it removes it. Whatever a VM
// that exists may look like from outside (it reboots, is deallocated, joins just now), its agent
// stays: that needs a list that is true, and Plan refuses one that cannot be.
package fleet

import (
	"strings"
	"time"

	"azp-bootstrap/bootstrap/devops"
)

// Joining is how long an agent counts as one whose VM is joining, from its registration on: between
// config.sh and the first session it is offline, and a list may be older than its VM.
const Joining = time.Hour

// clocksApart is what two clocks, each of which may differ from the server's by five minutes, can be apart: the VM of
// an agent that is online is older than its agent, and stands in each list that was made after that.
const clocksApart = 10 * time.Minute

// For how long an agent must have been offline if the policy does not say: a VM reboots in minutes,
// and one that is switched off for the night comes back.
const (
	offlineListed   = time.Hour
	offlineUnlisted = 24 * time.Hour
)

// A Policy says which agents may be removed at all. The zero value is the most careful one.
type Policy struct {
	OlderThan *time.Duration // offline for longer than this; nil: an hour with a list, a day without
	Scope     Scope
}

func (p Policy) olderThan(l *List) time.Duration {
	switch {
	case p.OlderThan != nil:
		return *p.OlderThan
	case l != nil:
		return offlineListed
	}
	return offlineUnlisted
}

// The fates of an agent in a sweep.
const (
	Kept    = "kept"
	Doomed  = "would be removed"
	Gone    = "removed"
	Refused = "failed"
)

// A Verdict is what is done with one agent, and why.
type Verdict struct {
	Agent      string     `json:"agent"`
	ID         int        `json:"id"`
	InstanceID string     `json:"instanceId,omitempty"` // empty: not one of ours
	ScaleSet   string     `json:"scaleSet,omitempty"`
	InScope    bool       `json:"inScope"`
	Online     bool       `json:"online"`
	Since      *time.Time `json:"since,omitempty"` // of being online or offline, if the server tells
	Fate       string     `json:"fate"`
	Why        string     `json:"why"`
	Class      string     `json:"class,omitempty"` // of a failure
	Hint       string     `json:"hint,omitempty"`

	seen *devops.Agent
}

// Plan decides about each agent of a pool: Kept or Doomed. A nil list says nothing of any VM. The
// error, a *fault.Error of class usage, says why the list or the scope cannot be meant for this
// pool: then there is no plan.
func Plan(agents []*devops.Agent, l *List, p Policy, now time.Time) ([]Verdict, error) {
	ours := make([]*devops.Agent, 0, len(agents))
	for _, a := range agents {
		if a.InstanceID != "" && p.Scope.covers(a) {
			ours = append(ours, a)
		}
	}
	if err := p.Scope.check(ours); err != nil {
		return nil, err
	}
	proven, err := l.prove(ours, p.Scope, now)
	if err != nil {
		return nil, err
	}
	verdicts := make([]Verdict, 0, len(agents))
	for _, a := range agents {
		v := Verdict{Agent: a.Name, ID: a.ID, InstanceID: a.InstanceID, ScaleSet: a.ScaleSet, Online: a.Online,
			InScope: a.InstanceID != "" && p.Scope.covers(a), Fate: Kept, seen: a}
		if !a.Since.IsZero() {
			v.Since = &a.Since
		}
		switch v.Why = spared(a, l, p, proven, now); v.Why {
		case placeless:
			v.Hint = "If its VM is deleted, delete the agent in Azure DevOps, or sweep without a list: then its " +
				"age alone decides. " +
				"If the VM exists, its agent tells where it is as soon as it registers anew."
		case "":
			v.Fate, v.Why = Doomed, "offline for longer than "+brief(p.olderThan(l))
			if l != nil {
				v.Why = "its VM is not in the list, and it is " + v.Why
			}
		}
		verdicts = append(verdicts, v)
	}
	return verdicts, nil
}

// placeless: other VMs of the list say nothing about it, since nobody knows whether they are its
// neighbours.
const placeless = "it does not tell where in Azure its VM is (an earlier version registered it): a list proves " +
	"nothing about it"

// spared says why an agent is kept; empty: nothing speaks for it.
func spared(a *devops.Agent, l *List, p Policy, proven map[place]bool, now time.Time) string {
	asOf := l.asOf(now)
	switch {
	case a.InstanceID == "":
		return "not registered by azp-bootstrap"
	case !p.Scope.covers(a):
		return p.Scope.outside(a)
	case a.Online:
		return "online"
	case !a.Offline:
		return "the server does not show its status"
	case l.has(a):
		return "its VM exists"
	case a.Since.IsZero(): // null until an agent's status changes for the first time
		return "the server does not tell since when it is offline"
	case a.Created.IsZero():
		return "the server does not tell when it was registered"
	case a.Since.After(now) || a.Created.After(now):
		return "its times lie in the future: a clock is wrong"
	case joining(a, asOf):
		return "registered less than " + brief(Joining) + " ago: its VM may be joining"
	case asOf.Sub(a.Since) <= p.olderThan(l):
		return "not offline for long enough"
	case l != nil && placeOf(a) == place{}:
		return placeless
	case l != nil && !proven[placeOf(a)]:
		return "the list names no VM of " + placeOf(a).String()
	}
	return ""
}

// joining reports whether an agent's VM may be younger than asOf, with an hour for clocks that
// differ and for a boot that takes long.
func joining(a *devops.Agent, asOf time.Time) bool { return asOf.Sub(a.Created) < Joining }

// brief writes a duration without its zeros: 24h, not 24h0m0s.
func brief(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
