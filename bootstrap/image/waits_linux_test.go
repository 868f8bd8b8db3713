//go:build linux

package image

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"
)

// A user's link to what never ends (/proc/kmsg looks like an empty file) does not hold seal up.
func TestSealWaitsForNoFile(t *testing.T) {
	img := newImage(t)
	img.link("/proc/kmsg", "history")
	old := textFiles
	defer func() { textFiles = old }()
	textFiles = []string{filepath.Join(img.root, "history")}
	i := &image{config: "/nowhere"} // this machine
	done := make(chan struct{})
	go func() { i.lintText(); close(done) }()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		t.Fatal("it waits")
	}
}

func TestSealHearsItsContext(t *testing.T) {
	img := newImage(t)
	ctx, cancel := context.WithCancel(t.Context())
	hangs := make(chan struct{})
	defer close(hangs)
	say := func(string, ...any) { cancel(); <-hangs }
	w := Where{ConfigFile: "/etc/azp-bootstrap/config.yaml", StateDir: "/var/lib/azp-bootstrap"}
	if _, err := Seal(ctx, w, Sealing{Root: img.root, Say: say}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
