package fleet

import (
	"strings"
	"testing"
	"time"

	"azp-bootstrap/bootstrap/devops"
	"azp-bootstrap/bootstrap/fault"
)

var now = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func ago(d time.Duration) time.Time { return now.Add(-d) }

func listed(made time.Duration, ids ...string) *List {
	l := &List{ago(made), map[string]bool{}}
	for _, id := range ids {
		l.vms[id] = true
	}
	return l
}

func aged(d time.Duration) *time.Duration { return &d }

// old is an agent of ours that was registered and went offline long ago.
func old(id string, with ...func(*devops.Agent)) *devops.Agent {
	a := &devops.Agent{
		ID:             7,
		Name:           id,
		InstanceID:     id,
		SubscriptionID: "0",
		Offline:        true,
		Since:          ago(1000 * time.Hour),
		Created:        ago(2000 * time.Hour),
	}
	for _, w := range with {
		w(a)
	}
	return a
}

func online(a *devops.Agent) { a.Online, a.Offline = true, false }

// unmarked is one that an earlier version registered.
func unmarked(a *devops.Agent) { a.SubscriptionID = "" }

// unseen is one whose status the server does not show.
func unseen(a *devops.Agent) { a.Offline = false }
func offlineFor(d time.Duration) func(*devops.Agent) {
	return func(a *devops.Agent) { a.Since = ago(d) }
}
func made(d time.Duration) func(*devops.Agent) { return func(a *devops.Agent) { a.Created = ago(d) } }
func in(set, group, sub string) func(a *devops.Agent) {
	return func(a *devops.Agent) { a.ScaleSet, a.ResourceGroup, a.SubscriptionID = set, group, sub }
}

const (
	minute = time.Minute
	hour   = time.Hour
)

func TestPlanDoomsOnlyAgentsOfDeletedVMs(t *testing.T) {
	l := listed(0, "there", "THERE-TOO")
	web := Policy{Scope: Scope{ScaleSet: "WEB"}}
	for _, c := range []struct {
		name   string
		agent  *devops.Agent
		list   *List
		policy Policy
		why    string // empty: removed
	}{
		{"another's", old("", func(a *devops.Agent) { a.Name = "build-1" }), l, Policy{}, "not registered"},
		{"another's, without a list", old("", func(a *devops.Agent) { a.Name = "build-1" }), nil, Policy{OlderThan: aged(0)}, "not registered"},
		{"online, without a list", old("gone", online), nil, Policy{}, "online"},
		{"of an earlier version, not in the list", old("gone", unmarked), l, Policy{}, "a list proves nothing"},
		{"the same, any age will do", old("gone", unmarked), l, Policy{OlderThan: aged(0)}, "a list proves nothing"},
		{"of an earlier version, no list", old("gone", unmarked), nil, Policy{}, ""},
		{"its status is not shown", old("gone", unseen), l, Policy{}, "does not show its status"},
		{"not in the list", old("gone"), l, Policy{}, ""},
		{"in the list", old("there"), l, Policy{}, "its VM exists"},
		{"in the list, in another case", old("There"), l, Policy{}, "its VM exists"},
		{"in the list, too long offline", old("there"), l, Policy{OlderThan: aged(hour)}, "its VM exists"},
		{"in the list, any age will do", old("there"), l, Policy{OlderThan: aged(0)}, "its VM exists"},

		{"not in the list, reboots", old("gone", offlineFor(3*time.Second)), l, Policy{}, "long enough"},
		{"not in the list, exactly an hour", old("gone", offlineFor(hour)), l, Policy{}, "long enough"},
		{"not in the list, over an hour", old("gone", offlineFor(hour+1)), l, Policy{}, ""},
		{"not in the list, a day is asked for", old("gone", offlineFor(23*hour)), l, Policy{OlderThan: aged(24 * hour)}, "long enough"},
		{"not in the list, minutes are asked for", old("gone", offlineFor(6*minute)), l, Policy{OlderThan: aged(5 * minute)}, ""},

		{"24 minutes, no list", old("gone", offlineFor(25*minute)), nil, Policy{}, "long enough"},
		{"23 hours, no list", old("gone", offlineFor(23*hour)), nil, Policy{}, "long enough"},
		{"exactly a day, no list", old("gone", offlineFor(24*hour)), nil, Policy{}, "long enough"},
		{"over a day, no list", old("gone", offlineFor(24*hour+1)), nil, Policy{}, ""},
		{"any age, no list", old("gone", offlineFor(time.Second)), nil, Policy{OlderThan: aged(0)}, ""},

		{"the server does not tell since when", old("gone", func(a *devops.Agent) { a.Since = time.Time{} }), l, Policy{}, "since when"},
		{"nor when it was made", old("gone", func(a *devops.Agent) { a.Created = time.Time{} }), l, Policy{}, "when it was registered"},
		{"a clock ahead of ours", old("gone", offlineFor(-minute)), nil, Policy{OlderThan: aged(0)}, "future"},
		{"made in the future", old("gone", made(-minute)), nil, Policy{OlderThan: aged(0)}, "future"},

		{"just made", old("gone", made(59*minute), offlineFor(59*minute)), l, Policy{OlderThan: aged(0)}, "may be joining"},
		{"just made, no list", old("gone", made(59*minute), offlineFor(59*minute)), nil, Policy{OlderThan: aged(0)}, "may be joining"},
		{"just taken over", old("gone", made(minute)), l, Policy{}, "may be joining"},
		{"made after the list", old("gone", made(30*hour), offlineFor(30*hour)), listed(40*hour, "there"), Policy{}, "may be joining"},
		{"online since the list was made", old("gone", offlineFor(30*hour)), listed(40*hour, "there"), Policy{}, "long enough"},
		{"offline when an old list was made", old("gone"), listed(40*hour, "there"), Policy{}, ""},
		{"a list from the future", old("gone", offlineFor(minute)), listed(-40*hour, "there"), Policy{}, "long enough"},

		{"in scope", old("gone", in("web", "shop", "1")), nil, web, ""},
		{"of another scale set", old("gone", in("db", "shop", "1")), nil, web, "out of scope: scale set db"},
		{"of an earlier version", old("gone", unmarked), nil, web, "earlier version"},
		{"of another subscription", old("gone", in("web", "shop", "1")), nil, Policy{Scope: Scope{SubscriptionID: "2"}}, "out of scope"},
		{"of another group", old("gone", in("web", "shop", "1")), nil, Policy{Scope: Scope{ResourceGroup: "x"}}, "out of scope"},
		{"of a scale set of which the list names no VM", old("gone", in("db", "shop", "1")), l, Policy{}, "the list names no VM of scale set db"},
	} {
		agents := []*devops.Agent{c.agent, old("there", online)} // the second one proves the list
		verdicts, err := Plan(agents, c.list, c.policy, now)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		v := verdicts[0]
		if (v.Fate == Doomed) != (c.why == "") || !strings.Contains(v.Why, c.why) || v.Why == "" {
			t.Errorf("%s: %s: %s", c.name, v.Fate, v.Why)
		}
		if verdicts[1].Fate != Kept {
			t.Errorf("%s: the agent that is online: %+v", c.name, verdicts[1])
		}
	}
}

// A VM of an earlier version that is in the list proves nothing about another of the kind: they may
// be of two scale sets.
func TestAgentsThatDoNotTellTheirPlaceProveNothingOfEachOther(t *testing.T) {
	agents := []*devops.Agent{old("gone", unmarked), old("there", unmarked, online)}
	verdicts, err := Plan(agents, listed(0, "there"), Policy{}, now)
	if err != nil || verdicts[0].Fate != Kept || !strings.Contains(verdicts[0].Why, "a list proves nothing") ||
		verdicts[0].Hint == "" {
		t.Errorf("%+v, %v", verdicts, err)
	}
}

// A list that cannot be this target's is refused as a whole.
func TestPlanRefusesTheListOfAnotherTarget(t *testing.T) {
	db, web := in("db", "shop", "1"), in("web", "shop", "1")
	for _, c := range []struct {
		name   string
		agents []*devops.Agent
		ids    []string
		scope  Scope
		says   string // of the refusal; empty: there is none
	}{
		{"no agents at all", nil, []string{"x"}, Scope{}, ""},
		{"none of ours", []*devops.Agent{old("")}, []string{"x"}, Scope{}, ""},
		{"none in scope", []*devops.Agent{old("a", db)}, []string{"x"}, Scope{ScaleSet: "web"}, ""},
		{"of a wrong subscription", []*devops.Agent{old("a", online), old("b")}, []string{"x"}, Scope{}, "a (VM a"},
		{"of a wrong subscription, all stopped", []*devops.Agent{old("a"), old("b")}, []string{"x"}, Scope{}, "the VM of no agent in the target (of 2)"},
		{"of one scale set of two", []*devops.Agent{old("w", web, online), old("d", db, online)}, []string{"w"}, Scope{}, "d (VM d, scale set db"},
		{"the same, limited", []*devops.Agent{old("w", web, online), old("d", db, online)}, []string{"w"}, Scope{ScaleSet: "web"}, ""},
		{"one that joined since", []*devops.Agent{old("a"), old("b", online, made(9*minute))}, []string{"a"}, Scope{}, ""},
		{"one that joined a while ago", []*devops.Agent{old("a"), old("b", online, made(10*minute))}, []string{"a"}, Scope{}, "b (VM b"},
		{"all joined since", []*devops.Agent{old("a"), old("b", online, made(minute))}, []string{"x"}, Scope{}, "the VM of no agent in the target (of 1)"},
		{"all are joining", []*devops.Agent{old("a", made(minute)), old("b", online, made(minute))}, []string{"x"}, Scope{}, ""},
		{"three names are enough", []*devops.Agent{old("a", online), old("b", online), old("c", online), old("d", online), old("e", online)},
			[]string{"x"}, Scope{}, "and 2 more"},
		{"two of one name", []*devops.Agent{old("a", in("web", "shop", "1")), old("b", in("WEB", "Shop", "2"))}, []string{"a"},
			Scope{ScaleSet: "web"}, "2 scale sets of this name share the target: scale set web, resource group shop, subscription 1; "},
		{"two of one name in two groups", []*devops.Agent{old("a", in("web", "shop", "1")), old("b", in("web", "other", "1"))}, []string{"a"},
			Scope{ScaleSet: "web", SubscriptionID: "1"}, "2 scale sets of this name"},
		{"one of them is meant", []*devops.Agent{old("a", in("web", "shop", "1")), old("b", in("web", "shop", "2"))}, []string{"a"},
			Scope{ScaleSet: "web", SubscriptionID: "1"}, ""},
	} {
		verdicts, err := Plan(c.agents, listed(0, c.ids...), Policy{Scope: c.scope}, now)
		f := fault.From(err)
		if (err == nil) != (c.says == "") {
			t.Errorf("%s: %v", c.name, err)
		} else if err != nil && (f.Class != fault.Usage || f.Advice == "" || verdicts != nil || !strings.Contains(f.Error(), c.says)) {
			t.Errorf("%s: %v (%s), %d verdicts", c.name, err, f.Advice, len(verdicts))
		}
	}
}

func TestReadList(t *testing.T) {
	const id = "5c7a1b1e-0001-4d3a-9a00-000000000001"
	for text, want := range map[string]int{"": 0, "\n \n": 0, "web_1": 0, id + "\nnull\n": 0, id: 1, strings.ToUpper(id) + "\r\n\n" + id: 1} {
		l, err := ReadList(strings.NewReader(text), "-", now)
		if (err == nil) != (want > 0) || err == nil && len(l.vms) != want {
			t.Errorf("%q: %v, %v", text, l, err)
		}
		if f := fault.From(err); err != nil && (f.Class != fault.Usage || f.Advice == "") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestBrief(t *testing.T) {
	for d, want := range map[time.Duration]string{0: "0s", 24 * hour: "24h", hour: "1h", 90 * minute: "1h30m", 5 * minute: "5m", time.Second: "1s"} {
		if got := brief(d); got != want {
			t.Errorf("%s: %s", d, got)
		}
	}
}
