package gate

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// That a gate was passed is recorded on a full disk, too, where one was passed in an earlier boot.
func TestAGateIsPassedOnAFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("azp-test", dir, "tmpfs", 0, "size=256k,mode=755"); err != nil {
		t.Skipf("no file system can be mounted here: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	g := of(dir, "")
	if err := os.WriteFile(g.record(), []byte("11111111-2222-3333-4444-555555555555 the-instance\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "filler"), make([]byte, 1<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	if err := g.Pass(); err != nil || !g.Passed() {
		t.Errorf("%v; passed: %v", err, g.Passed())
	}
}
