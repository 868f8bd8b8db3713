package agent

import (
	"strings"
	"testing"

	"azp-bootstrap/bootstrap/fault"
)

func TestSameMachine(t *testing.T) {
	const instance = "5c7a1b1e-0001-4d3a-9a00-0123456789ab"
	for number, same := range map[string]bool{
		instance:                               true,
		strings.ToUpper(instance) + "\n":       true,
		"1e1b7a5c-0100-3a4d-9a00-0123456789ab": true,  // as the first generation shows it
		"1e1b7a5c-0001-4d3a-9a00-0123456789ab": false, // half of it
		"5c7a1b1e-0001-4d3a-9a00-0123456789ac": false,
		"5c7a1b1e00014d3a9a000123456789ab":     false,
		"03000200-0400-0500-0006-000700080009": false, // what firmware says that knows none
		"Not Settable":                         false,
		"":                                     false,
		"-":                                    false,
		"5c7a1b1-e0001-4d3a-9a00-0123456789ab": false,
	} {
		if is := sameMachine(number, instance); is != same {
			t.Errorf("%q: %v", number, is)
		}
	}
	if sameMachine("", "") {
		t.Error("nothing is nobody's number")
	}
}

// A name that leads elsewhere is nobody's.
func TestAllowRefusesPaths(t *testing.T) {
	for _, instance := range []string{"", "../../etc/x", "a/b"} {
		if err := allow(instance); err == nil || fault.From(err).Class != fault.Internal {
			t.Errorf("%q is allowed", instance)
		}
	}
}

// Which instance a unit waits for stands in it; units of others wait for none.
func TestInstanceOf(t *testing.T) {
	text, err := Home{
		Dir: "/opt/azp-agent",
	}.unit(
		"vsts.agent.o.P.a.service",
		"vsts.agent.o.P.a.service",
		"azp",
		"5c7a1b1e-0001",
		"/mnt/work",
	)
	if err != nil {
		t.Fatal(err)
	}
	if got := instanceOf([]byte(text)); got != "5c7a1b1e-0001" {
		t.Errorf("%q", got)
	}
	for _, other := range []string{"", "[Unit]\nConditionPathExists=/run/other/vm-1\n", "[Unit]\nDescription=/run/azp-bootstrap/vm-1\n", "\x00"} {
		if got := instanceOf([]byte(other)); got != "" {
			t.Errorf("%q waits for %q", other, got)
		}
	}
}
