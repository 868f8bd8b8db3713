package agent

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// At image time the account is not there yet.
func TestAFolderOfAnAccountToBe(t *testing.T) {
	h, _ := asNews(t)
	h.User = "azp-that-is-to-be"
	if err := h.ours(); err != nil {
		t.Error(err)
	}
}

// What a job has mounted in the agent's folder holds no registration up, and goes when it can.
func TestAMountInTheFolderHoldsNothingUp(t *testing.T) {
	h, _ := asNews(t)
	file, sum := archive(t, honest...)
	m, err := h.Prepare(file, sum, quiet)
	if err != nil {
		t.Fatal(err)
	}
	inside := h.path("_work/m")
	if err := os.MkdirAll(inside, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", inside, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("no mount here: %v", err)
	}
	left := func() (found []string) {
		found, _ = filepath.Glob(filepath.Join(h.keep(), asideName+"*", "_work/m"))
		return found
	}
	t.Cleanup(func() {
		for _, name := range append(left(), inside) {
			_ = unix.Unmount(name, unix.MNT_DETACH)
		}
	})
	if err := h.layFresh(m); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(inside); err == nil || !h.fresh(m.SHA256) {
		t.Errorf("the folder is not fresh: %v", err)
	}
	if len(left()) != 1 {
		t.Fatalf("the mount is in %v", left())
	}
	if err := unix.Unmount(left()[0], 0); err != nil {
		t.Fatal(err)
	}
	if err := h.layFresh(m); err != nil || len(left()) != 0 {
		t.Errorf("%v is still there: %v", left(), err)
	}
}
