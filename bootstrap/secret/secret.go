// Package secret holds the PAT: a value that cannot be printed, and the redactor that stands behind
// it as a second wall.
package secret

import (
	"fmt"
	"strings"
)

const (
	hidden   = "[redacted]"
	maxToken = 2600 // bytes; PATs have 52 or 84, Microsoft Entra tokens up to about 2,500
)

// A PAT is an Azure DevOps personal access token. It cannot be printed, formatted, marshalled,
// logged or compared; the one way to its value is Reveal, which is easy to find in a review.
type PAT struct {
	_     [0]func() // not comparable: == would invite timing leaks and map keys
	value *[]byte   // behind a pointer, so that copies of the struct are wiped together
}

// NewPAT takes a token over. White space around it is dropped (secrets set from files often end in
// a line break); a value that no token can have is refused without repeating it.
func NewPAT(value string) (PAT, error) {
	value = strings.TrimSpace(value)
	if value == "" {
		return PAT{}, fmt.Errorf("it is empty")
	}
	if len(value) > maxToken {
		return PAT{}, fmt.Errorf("it is %d bytes long", len(value))
	}
	for _, r := range value {
		if r <= ' ' || r > '~' {
			return PAT{}, fmt.Errorf("it contains white space or characters that no token has")
		}
	}
	b := []byte(value)
	return PAT{value: &b}, nil
}

// Reveal returns the token itself, "" after Drop.
func (p PAT) Reveal() string {
	if p.value == nil {
		return ""
	}
	return string(*p.value)
}

// Drop overwrites the token. Strings made by Reveal live until the garbage collector takes them.
func (p PAT) Drop() {
	if p.value != nil {
		clear(*p.value)
		*p.value = nil
	}
}

func (PAT) String() string               { return hidden }
func (PAT) GoString() string             { return hidden }
func (PAT) Format(f fmt.State, _ rune)   { _, _ = f.Write([]byte(hidden)) }
func (PAT) MarshalText() ([]byte, error) { return []byte(hidden), nil }
func (PAT) MarshalJSON() ([]byte, error) { return []byte(`"` + hidden + `"`), nil }
func (PAT) MarshalYAML() (any, error)    { return hidden, nil }
