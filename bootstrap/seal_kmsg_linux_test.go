package bootstrap

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"azp-bootstrap/bootstrap/tree"
)

// A link of a user's to what has no end, on the machine itself, holds no seal up.
func TestSealReadsNoEndlessFile(t *testing.T) {
	name := filepath.Join("/tmp", "azp-"+filepath.Base(t.TempDir())+time.Now().Format("150405.000000"))
	if err := os.Symlink("/proc/kmsg", name); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(name)
	done := make(chan struct{})
	go func() {
		defer close(done)
		(&image{tree: tree.Tree{}, config: filepath.Join(t.TempDir(), "none")}).lintText()
	}()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatal("it waits for the kernel's messages")
	}
}
