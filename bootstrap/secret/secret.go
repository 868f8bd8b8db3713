// Package secret holds the PAT: a value that cannot be printed, and the redactor that stands behind
// it as a second wall.
package secret

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"strings"
)

const (
	hidden   = "[redacted]"
	maxToken = 4096 // bytes; PATs have 52 or 84, Microsoft Entra tokens about 2,500, more with many claims
)

// A PAT is an Azure DevOps personal access token, or a Microsoft Entra access token in its place.
// It cannot be printed, formatted, marshalled, logged or compared; the one way to its value is
// Reveal, which is easy to find in a review.
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

func (p PAT) length() int {
	if p.value == nil {
		return 0
	}
	return len(*p.value)
}

// Forms are the shapes in which a token travels: as it is, in a URL, in base64 with and without the
// colon of Basic authentication, and the part of its base64 that is the same whatever stands around
// it (the token may begin at each of three places in a group of three bytes).
func (p PAT) Forms() []string {
	v := p.Reveal()
	if v == "" {
		return nil
	}
	forms := []string{
		v,
		url.QueryEscape(v),
		base64.StdEncoding.EncodeToString([]byte(":" + v)),
		base64.StdEncoding.EncodeToString([]byte(v)),
	}
	for before := range 3 {
		b := base64.RawStdEncoding.EncodeToString([]byte("\x00\x00"[:before] + v))
		b = b[(before*8+5)/6:] // drop what the bytes before the token share in
		if (before+len(v))%3 != 0 {
			b = b[:len(b)-1] // and those behind it
		}
		if len(b) >= 8 {
			forms = append(forms, b)
		}
	}
	return forms
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
