package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRotating: each entry is whole in one of two files, and neither grows beyond its bound.
func TestRotating(t *testing.T) {
	name := filepath.Join(t.TempDir(), "state", logName)
	made := 0
	r, err := openRotating(name, func(string) error { made++; return nil })
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.file.Close() }()
	r.largest = 100
	for range 10 {
		if n, err := r.Write([]byte(strings.Repeat("x", 39) + "\n")); n != 40 || err != nil {
			t.Fatal(n, err)
		}
	}
	now, err := os.ReadFile(name)
	if err != nil || len(now) != 80 {
		t.Errorf("now: %d bytes, %v", len(now), err)
	}
	before, err := os.ReadFile(name + ".1")
	if err != nil || len(before) != 80 || made != 5 {
		t.Errorf("before: %d bytes, %v; %d files were made", len(before), err, made)
	}
	if again, err := openRotating(name, nil); err != nil || again.size != 80 {
		t.Errorf("opened again: %+v, %v", again, err)
	} else {
		_ = again.file.Close()
	}
}
