package line

import (
	"strings"
	"testing"
)

func TestWrong(t *testing.T) {
	for text, good := range map[string]bool{
		"":                       true,
		"web-1 (blue), größer":   true,
		"受け入れ":                   true,
		"--option":               true, // what it may begin with, its place decides
		"a\nb":                   false,
		"a\rb":                   false,
		"a\x00":                  false,
		"a\tb":                   false,
		"\x1b[2J":                false,
		"a\u0085b":               false,
		"a\u2028b":               false,
		"a\u2029b":               false,
		"a\xffb":                 false,
		strings.Repeat("a", 300): false,
		strings.Repeat("я", 128): true,
		strings.Repeat("я", 129): false, // bytes are counted
	} {
		if wrong := Wrong(text, 256); (wrong == "") != good {
			t.Errorf("%q: %q", text, wrong)
		}
		if shown := Shown(text); len(text) < 256 && Wrong(shown, 1<<10) != "" {
			t.Errorf("%q is shown as %q", text, shown)
		}
	}
}

func TestLines(t *testing.T) {
	for text, want := range map[string]string{
		"":                         "",
		"a\n  b, größer\n":         "a\n  b, größer\n",
		"\x1b[2J\x1b[1;32m● ready": "\ufffd[2J\ufffd[1;32m● ready",
		"a\rb\b\a\x7f":             "a\ufffdb\ufffd\ufffd\ufffd",
		"\u009b2J, raw \x9b2J":     "\ufffd2J, raw \ufffd2J",
		"web-\u202e1\u2066":        "web-\ufffd1\ufffd",
	} {
		if got := Lines(text); got != want {
			t.Errorf("%q is shown as %q", text, got)
		}
		if got := Shown(text); strings.ContainsAny(got, "\n\x1b") {
			t.Errorf("%q is shown as %q", text, got)
		}
	}
}
