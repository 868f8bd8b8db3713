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
