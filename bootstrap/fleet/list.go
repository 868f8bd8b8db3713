package fleet

import (
	"bufio"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"

	"azp-bootstrap/bootstrap/devops"
	"azp-bootstrap/bootstrap/fault"
)

// A List names the VMs that existed when it was made.
type List struct {
	made time.Time
	vms  map[string]bool // instance IDs (vmId), in lower case
}

var instanceID = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// MakeList is how a list is made, for hints.
const makeList = "Make it so: az vmss list-instances -g GROUP -n NAME --query '[].vmId' -o tsv " +
	"(single VMs: az vm list --query '[].vmId' -o tsv)."

// ReadList reads a list of instance IDs, one per line, made at a time. One that is empty or holds
// something else is refused: it is what a failed command leaves, and would make every VM count as
// deleted.
func ReadList(in io.Reader, name string, made time.Time) (*List, error) {
	l := &List{made, map[string]bool{}}
	lines := bufio.NewScanner(in)
	for n := 1; lines.Scan(); n++ {
		id := strings.ToLower(strings.TrimSpace(lines.Text()))
		if id == "" {
			continue
		}
		if !instanceID.MatchString(id) {
			return nil, fault.New(fault.Usage, "--existing %s: line %d is not an instance ID", name, n).Hint(makeList)
		}
		l.vms[id] = true
	}
	if err := lines.Err(); err != nil {
		return nil, fault.New(fault.Usage, "--existing %s", name).Because(err).Hint(makeList)
	}
	if len(l.vms) == 0 {
		return nil, fault.New(fault.Usage, "--existing %s: the list is empty", name).
			Hint("Every VM would count as deleted. If that is so, use --older-than 24h in its place.")
	}
	return l, nil
}

func (l *List) has(a *devops.Agent) bool { return l != nil && l.vms[strings.ToLower(a.InstanceID)] }

// asOf is the moment that ages are measured at: of what happened since a list was made it knows
// nothing, so an agent is as old as it was then.
func (l *List) asOf(now time.Time) time.Time {
	if l != nil && l.made.Before(now) {
		return l.made
	}
	return now
}

// prove holds the list against the agents that azp-bootstrap registered within the scope, and
// returns the places in Azure of which it names a VM. An agent that is online stands on a VM that
// exists: if the list lacks it, it is not the list of this scope. If it names no VM of any agent,
// nothing speaks for it: the fleet may be stopped, and the list be of another subscription. An
// agent whose VM may be younger than the list says nothing about it.
func (l *List) prove(ours []*devops.Agent, s Scope, now time.Time) (map[place]bool, error) {
	proven := map[place]bool{}
	if l == nil {
		return proven, nil
	}
	var missing []string
	older := 0
	for _, a := range ours {
		if l.has(a) {
			proven[placeOf(a)] = true
			continue
		}
		younger := joining(a, l.asOf(now)) // than the list, perhaps
		if a.Online {
			younger = l.asOf(now).Sub(a.Created) < clocksApart
		}
		if younger {
			continue
		}
		if older++; a.Online {
			missing = append(missing, fmt.Sprintf("%s (VM %s, %s)", a.Name, a.InstanceID, placeOf(a)))
		}
	}
	if len(missing) > 0 {
		names := some(missing, "; ")
		return nil, fault.New(fault.Usage, "--existing: agents are online whose VMs are not in the list: %s", names).
			Hint("Nothing was removed: this is not the list of %s, or those VMs were deleted a moment ago: then sweep again in some minutes. "+
				"If it is of another subscription, give the right one; "+
				"if it is of one scale set of several, give --scale-set NAME, or list the VMs of all of them.", s)
	}
	if len(proven) == 0 && older > 0 {
		return nil, fault.New(fault.Usage, "--existing: the list names the VM of no agent in %s (of %d)", s, older).
			Hint("Nothing was removed: the list may be of another subscription or scale set. Give the right one; " +
				"if all those VMs are deleted, use --older-than 24h without a list.")
	}
	return proven, nil
}
