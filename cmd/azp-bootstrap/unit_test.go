package main

import (
	"strings"
	"testing"

	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/systemd"
)

func TestUnitText(t *testing.T) {
	for want, words := range map[string][]string{
		"ExecStart=/usr/local/bin/azp-bootstrap run": {"/usr/local/bin/azp-bootstrap"},
		`ExecStart=/opt/a/azp run --config "/srv/my config.yaml"`: {
			"/opt/a/azp", "--config", "/srv/my config.yaml",
		},
		`ExecStart=/azp run --state-dir "/srv/50%% \"x\" $$HOME\\;"`: {
			"/azp", "--state-dir", `/srv/50% "x" $HOME\;`,
		},
		`ExecStart=/azp run --config ""`: {"/azp", "--config", ""},
	} {
		text, err := unitText(words[0], words[1:])
		if err != nil || strings.Count(text, want+"\n") != 1 || strings.Count(text, "ExecStart=") != 1 {
			t.Errorf("%q: %v\n%s", words, err, text)
		}
		if strings.Count(text, "\n") != strings.Count(systemd.Unit, "\n") {
			t.Errorf("%q: the unit has other lines than it should", words)
		}
	}
	for _, word := range []string{"a\nExecStartPre=/tmp/e", "a\r", "\x00", "a\tb", "\x7f"} {
		for _, words := range [][]string{{word}, {"/azp", "--config", word}} {
			if _, err := unitText(words[0], words[1:]); err == nil || fault.From(err).Class != fault.Usage {
				t.Errorf("%q becomes part of a unit: %v", word, err)
			}
		}
	}
}
