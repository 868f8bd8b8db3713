package tree

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// What a user may put where others look: root waits for none of it.
func TestReadPlainWaitsForNothing(t *testing.T) {
	dir := t.TempDir()
	put(t, dir+"/file", "text")
	put(t, dir+"/big", strings.Repeat("x", 5))
	link(t, dir+"/file", dir+"/link")
	link(t, "/proc/kmsg", dir+"/kmsg")
	link(t, "/dev/zero", dir+"/zero")
	link(t, "/sys/kernel/tracing/trace_pipe", dir+"/trace")
	if err := syscall.Mkfifo(dir+"/pipe", 0o600); err != nil {
		t.Skip(err)
	}
	image, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close() //nolint:errcheck // a test
	for _, tree := range []Tree{{}, image} {
		for name, want := range map[string]string{"file": "text", "link": "text", "kmsg": "", "zero": "", "trace": "", "pipe": "", "big": "", "none": ""} {
			if tree.root != nil && name == "link" {
				continue // an absolute link leads elsewhere there
			}
			read := make(chan string, 1)
			go func() {
				data, _ := tree.ReadPlain(filepath.Join(dir, name), 4)
				read <- string(data)
			}()
			select {
			case got := <-read:
				if got != want {
					t.Errorf("%s: %q", name, got)
				}
			case <-time.After(5 * time.Second):
				t.Errorf("%s: it waits", name)
			}
		}
	}
	if _, err := image.ReadPlain(os.DevNull, 4); err == nil {
		t.Error("something outside of the image was read")
	}
}
