// Package line knows which texts may stand where a line ends the matter: in a unit, an environment,
// an argument, a file's name. What root writes there is made of texts that others gave: the
// configuration's writers, Azure, Azure DevOps. None of them may begin a line of its own.
package line

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Longest is how many bytes a line may have, where nothing stricter is known.
const Longest = 4 << 10

// Wrong says what keeps a text from being one line of at most that many bytes; "" if nothing does.
func Wrong(text string, most int) string {
	switch {
	case !utf8.ValidString(text):
		return "is not valid UTF-8"
	case strings.IndexFunc(text, breaks) >= 0:
		return "has a line break or another control character"
	case len(text) > most:
		return fmt.Sprintf("has %d bytes, at most %d are possible", len(text), most)
	}
	return ""
}

// breaks: Unicode's line and paragraph separators are no control characters, yet break lines for
// some readers.
func breaks(r rune) bool { return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' }

// Shown is a text as a message or a terminal may show it: in one line, whatever is in it.
func Shown(text string) string {
	return strings.Map(func(r rune) rune {
		if breaks(r) || unicode.Is(unicode.Bidi_Control, r) { // those make a text look like another
			return utf8.RuneError
		}
		return r
	}, text)
}

// Lines is a text as a terminal may show it: its lines stay, and nothing in them moves the cursor
// or colours what follows. Whatever comes from outside (Azure DevOps, config.sh, an image's files)
// goes through it or Shown.
func Lines(text string) string {
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = Shown(lines[i])
	}
	return strings.Join(lines, "\n")
}
