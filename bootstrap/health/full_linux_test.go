package health

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

// A daemon that starts on a full disk is seen by others, where one has run there before.
func TestADaemonIsSeenOnAFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("azp-test", dir, "tmpfs", 0, "size=256k,mode=755"); err != nil {
		t.Skipf("no file system can be mounted here: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	log := logrus.New()
	log.SetOutput(io.Discard)
	before := Attend(dir, false, log)
	before.Serves(errors.New("a reason that makes this record longer than the next"))
	before.Ended()
	if err := os.WriteFile(filepath.Join(dir, "filler"), make([]byte, 1<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	if Daemon(dir).Daemon != Stopped {
		t.Fatal("one runs")
	}
	now := Attend(dir, false, log)
	if got := Daemon(dir); got.Daemon != Running || !now.Mine() {
		t.Errorf("%+v", got)
	}
	if now.Ended(); Daemon(dir).Daemon != Stopped {
		t.Error("it runs still")
	}
}
