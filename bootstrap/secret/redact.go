package secret

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"

	"github.com/sirupsen/logrus"
)

// A Redactor replaces secrets in text that is about to leave the process: exactly the tokens it was
// told of, in the shapes they travel in, and anything that looks like a token.
type Redactor struct {
	mu     sync.RWMutex
	tokens []PAT
}

// shapes of tokens: an Azure DevOps PAT (52 characters of base 32; since 2024 84 characters with
// the signature AZDO, see learn.microsoft.com "use personal access tokens", format changes) and a
// JWT.
var shapes = regexp.MustCompile(
	`[A-Za-z0-9]{76}AZDO[A-Za-z0-9]{4}|\b[a-z2-7]{52}\b|eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]*`,
)

// LooksLikeToken reports whether s contains something shaped like a token.
func LooksLikeToken(s string) bool { return mayHaveToken(s) && shapes.MatchString(s) }

// mayHaveToken is a quick look before the regular expression, which takes a hundred times as long:
// a run of 52 letters and digits, or the beginning of a JWT.
func mayHaveToken(s string) bool {
	run := 0
	for i := range len(s) {
		c := s[i]
		if c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z' {
			if run++; run == 52 {
				return true
			}
		} else {
			run = 0
		}
	}
	return strings.Contains(s, "eyJ")
}

// Add makes the redactor look for p until p is dropped.
func (r *Redactor) Add(p PAT) {
	r.mu.Lock()
	defer r.mu.Unlock()
	live := []PAT{p}
	for _, t := range r.tokens {
		if t.Reveal() != "" {
			live = append(live, t)
		}
	}
	r.tokens = live
}

// Redact returns s without secrets.
func (r *Redactor) Redact(s string) string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, t := range r.tokens {
		if len(s) < t.length() { // no form is shorter
			continue
		}
		for _, form := range t.Forms() {
			s = strings.ReplaceAll(s, form, hidden)
		}
	}
	if !mayHaveToken(s) {
		return s
	}
	return shapes.ReplaceAllString(s, hidden)
}

const (
	maxLine = 8 << 10 // what is kept of one line
	overlap = 8 << 10 // more than the longest form of a token, so that a cut never leaves half of one
)

// Lines reads r to its end and hands over each line redacted, without its line break. Long lines
// are cut; a token is found even when reads or the cut fall into its middle.
func (r *Redactor) Lines(from io.Reader, line func(string)) error {
	in := bufio.NewReaderSize(from, maxLine+overlap)
	for {
		b, err := in.ReadSlice('\n')
		text := strings.ToValidUTF8(strings.TrimRight(string(b), "\r\n"), "�")
		cut := errors.Is(err, bufio.ErrBufferFull)
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = in.ReadSlice('\n')
		}
		clean := r.Redact(text)
		// What redaction took away must not pull a token that straddles the buffer's end into view.
		keep := max(0, maxLine-max(0, len(text)-len(clean)))
		text = clean
		if cut || len(text) > maxLine {
			text = strings.ToValidUTF8(text[:min(len(text), keep)], "") + " … [line cut]"
		}
		if text != "" || err == nil {
			line(text)
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// Hook lets logrus pass every entry through the redactor before it is formatted.
type Hook struct{ *Redactor }

// Levels says: all of them.
func (Hook) Levels() []logrus.Level { return logrus.AllLevels }

// Fire redacts the message and every field.
func (h Hook) Fire(e *logrus.Entry) error {
	e.Message = h.Redact(e.Message)
	for k, v := range e.Data {
		switch v := v.(type) {
		case string:
			e.Data[k] = h.Redact(v)
		case error:
			e.Data[k] = h.Redact(v.Error())
		case interface{ String() string }:
			e.Data[k] = h.Redact(v.String())
		case nil, bool, int, int64, uint64, float64:
		default:
			e.Data[k] = h.Redact(fmt.Sprint(v))
		}
	}
	return nil
}
