package fleet

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"azp-bootstrap/bootstrap/devops"
	"azp-bootstrap/bootstrap/fault"
)

// A Scope limits a sweep to the VMs of one scale set, by what its agents tell of their VM. Names
// compare without regard to case, as Azure's do. The zero value is the whole pool.
type Scope struct {
	ScaleSet, ResourceGroup, SubscriptionID string
}

// A place is where in Azure a VM is, in lower case.
type place struct {
	subscription, group, scaleSet string
}

func placeOf(a *devops.Agent) place {
	return place{strings.ToLower(a.SubscriptionID), strings.ToLower(a.ResourceGroup), strings.ToLower(a.ScaleSet)}
}

func (p place) String() string {
	s := "no scale set"
	if p.scaleSet != "" {
		s = "scale set " + p.scaleSet
	}
	if p.group != "" {
		s += ", resource group " + p.group
	}
	if p.subscription != "" {
		s += ", subscription " + p.subscription
	}
	return s
}

func (s Scope) String() string {
	if s == (Scope{}) {
		return "the target"
	}
	return place{s.SubscriptionID, s.ResourceGroup, s.ScaleSet}.String()
}

// covers reports whether an agent is in the scope. One that does not tell (an earlier version
// registered it) is in no scope but that of the whole pool.
func (s Scope) covers(a *devops.Agent) bool {
	within := func(wanted, is string) bool { return wanted == "" || strings.EqualFold(wanted, is) }
	return within(s.ScaleSet, a.ScaleSet) && within(s.ResourceGroup, a.ResourceGroup) &&
		within(s.SubscriptionID, a.SubscriptionID)
}

// outside says why the scope does not cover an agent.
func (s Scope) outside(a *devops.Agent) string {
	if placeOf(a) == (place{}) {
		return "out of scope: it does not tell its scale set (an earlier version registered it)"
	}
	return "out of scope: " + placeOf(a).String()
}

// check refuses a scale set's name that stands for more than one scale set here: names are unique
// only within a resource group.
func (s Scope) check(covered []*devops.Agent) error {
	if s.ScaleSet == "" {
		return nil
	}
	found := map[string]bool{}
	for _, a := range covered {
		found[placeOf(a).String()] = true
	}
	if len(found) < 2 {
		return nil
	}
	names := slices.Sorted(maps.Keys(found))
	return fault.New(fault.Usage, "--scale-set %s: %d scale sets of this name share the target: %s",
		s.ScaleSet, len(found), some(names, "; ")).
		Hint("Say which one is meant, with --subscription and --resource-group.")
}

// some joins up to three items, and says how many there are beside.
func some(items []string, between string) string {
	if more := len(items) - 3; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(items[:3], between), more)
	}
	return strings.Join(items, between)
}
