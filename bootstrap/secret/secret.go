// Package secret holds the PAT: a value that cannot be printed, and the redactor that stands behind
// it as a second wall.
package secret

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"strings"
	"sync"
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
	value *held     // behind a pointer, so that copies of the struct are wiped together
}

// A held token may be looked for in what one goroutine logs while another drops it.
type held struct {
	mu   sync.RWMutex
	text []byte
}

// NewPAT takes a token over. White space around it is dropped, and a byte order mark before it: secrets
// set from files often end in a line break, and PowerShell writes marks. A value that no token can have
// is refused without repeating it.
func NewPAT(value string) (PAT, error) {
	value = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(value), "\ufeff"))
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
	return PAT{value: &held{text: []byte(value)}}, nil
}

// Reveal returns the token itself, "" after Drop.
func (p PAT) Reveal() string {
	if p.value == nil {
		return ""
	}
	p.value.mu.RLock()
	defer p.value.mu.RUnlock()
	return string(p.value.text)
}

// Unlike says in what a value that Azure DevOps has refused does not look like a PAT; "" if it does. No part of
// it is shown. PATs have 52 characters of base32, or, since 2024, 84 with letters and digits
// (learn.microsoft.com, "Use personal access tokens", format).
func (p PAT) Unlike() string {
	v := p.Reveal()
	quoted := len(v) > 1 && strings.ContainsAny(v[:1], "\"'`") && v[len(v)-1] == v[0]
	decoded, err := base64.StdEncoding.DecodeString(v)
	switch {
	case strings.HasPrefix(v, "{"):
		return "it is JSON: store the token alone"
	case quoted:
		return "it stands in quotes"
	case strings.HasSuffix(v, `\n`):
		return `it ends in \n, written out`
	case strings.Contains(v, ":"):
		return "it holds a colon, as user:token does: store the token alone"
	case strings.HasPrefix(v, "eyJ"):
		return "it is an access token, not a PAT"
	case err == nil && (len(decoded) == 52 || len(decoded) == 53 || len(decoded) == 84 || len(decoded) == 85):
		return "it is in base64: store the token as it is"
	case len(v) != 52 && len(v) != 84:
		return fmt.Sprintf("it has %d characters; a PAT has 52 or 84", len(v))
	case strings.ContainsFunc(v, func(r rune) bool { return r > 'z' || !('a' <= r || '0' <= r && r <= '9' || 'A' <= r && r <= 'Z') }):
		return "it has characters that no PAT has"
	}
	return ""
}

func (p PAT) length() int {
	if p.value == nil {
		return 0
	}
	p.value.mu.RLock()
	defer p.value.mu.RUnlock()
	return len(p.value.text)
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
		p.value.mu.Lock()
		defer p.value.mu.Unlock()
		clear(p.value.text)
		p.value.text = nil
	}
}

func (PAT) String() string               { return hidden }
func (PAT) GoString() string             { return hidden }
func (PAT) Format(f fmt.State, _ rune)   { _, _ = f.Write([]byte(hidden)) }
func (PAT) MarshalText() ([]byte, error) { return []byte(hidden), nil }
func (PAT) MarshalJSON() ([]byte, error) { return []byte(`"` + hidden + `"`), nil }
func (PAT) MarshalYAML() (any, error)    { return hidden, nil }
