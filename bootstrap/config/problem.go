package config

import (
	"fmt"
	"strings"

	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/line"
)

// A Problem is one thing that is wrong: where, with which key, what, and the fix.
type Problem struct {
	Where, Key, Text, Fix string
}

func (p Problem) String() string {
	s := p.Where
	if p.Key != "" {
		s += ": " + p.Key
	}
	return line.Shown(s + ": " + p.Text) // what is wrong may be that it has line breaks
}

// Problems are all that is wrong, so that one run shows everything that needs mending.
type Problems []Problem

// Err makes one fault of them; nil if there are none.
func (ps Problems) Err() error {
	if len(ps) == 0 {
		return nil
	}
	if len(ps) == 1 {
		return fault.New(fault.Config, "%s", ps[0]).Hint("%s", line.Shown(ps[0].Fix))
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d problems in the configuration:", len(ps))
	for _, p := range ps {
		fmt.Fprintf(&b, "\n  %s\n    %s", p, line.Shown(p.Fix))
	}
	return fault.New(fault.Config, "%s", b.String()).Hint("Fix them and run azp-bootstrap config check.")
}
