package main

import (
	"os/user"
	"strings"
	"testing"
)

// A pause is told by the name of who asked for it: a plain one.
func TestOperator(t *testing.T) {
	own := "the account"
	if u, err := user.Current(); err == nil {
		own = u.Username
	}
	for sudo, want := range map[string]string{
		"alice":                  "alice",
		`CORP\alice`:             `CORP\alice`,
		"":                       own,
		"alice\nroot":            own,
		"alice\u202e":            own,
		strings.Repeat("x", 200): own,
	} {
		t.Setenv("SUDO_USER", sudo)
		if got := operator(); got != want {
			t.Errorf("%q: %q, want %q", sudo, got, want)
		}
	}
}
