package standin

import (
	"maps"
	"slices"
	"testing"
)

// As the agent reads its arguments and its environment (CommandSettings.cs, commandlineparser's
// Tokenizer.cs).
func TestParse(t *testing.T) {
	for _, c := range []struct {
		name   string
		args   []string
		env    map[string]string
		flags  []string
		values map[string]string
	}{
		{"as people type it", []string{"configure", "--unattended", "--agent", "web-1", "--Work", "_work"}, nil, []string{"unattended"}, map[string]string{"agent": "web-1", "work": "_work"}},
		{"a value that is an option", []string{"configure", "--agent", "--sslskipcertvalidation"}, nil, []string{"sslskipcertvalidation"}, nil},
		{"a value that begins with a dash", []string{"configure", "--agent", "-x"}, nil, nil, nil},
		{"a negative number", []string{"configure", "--agent", "-1"}, nil, nil, map[string]string{"agent": "-1"}},
		{"joined", []string{"configure", "--agent=--replace"}, nil, nil, map[string]string{"agent": "--replace"}},
		{"joined, empty", []string{"configure", "--agent=", "--work= x"}, nil, nil, nil},
		{"a flag is not joined", []string{"configure", "--replace=false"}, nil, nil, nil},
		{"environment", []string{"configure"}, map[string]string{"VSTS_AGENT_INPUT_AGENT": " --replace ", "vsts_agent_input_work": "_work", "VSTS_AGENT_INPUT_REPLACE": "True", "VSTS_AGENT_INPUT_POOL": " "},
			[]string{"replace"}, map[string]string{"agent": "--replace", "work": "_work"}},
		{"arguments win", []string{"configure", "--agent", "a"}, map[string]string{"VSTS_AGENT_INPUT_AGENT": "b"}, nil, map[string]string{"agent": "a"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for k, v := range c.env {
				t.Setenv(k, v)
			}
			o := parse(c.args)
			maps.DeleteFunc(o.values, func(_, v string) bool { return v == "" })
			if got := slices.Sorted(
				maps.Keys(o.flags),
			); o.command != "configure" || !slices.Equal(got, c.flags) ||
				!maps.Equal(o.values, c.values) {
				t.Errorf("got %s %v %v", o.command, got, o.values)
			}
		})
	}
}
