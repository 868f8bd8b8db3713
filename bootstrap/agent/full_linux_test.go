package agent

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"azp-bootstrap/bootstrap/secret"
)

// A script that makes room runs on a disk that has neither a block nor an inode left, and a daemon that comes
// later finds it; not without a record.
func TestRoomIsMadeOnAFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("a small disk is root's to make")
	}
	state, folder := t.TempDir(), filepath.Join(t.TempDir(), "clean.d")
	if err := unix.Mount("azp-test", state, "tmpfs", 0, "size=128k,nr_inodes=12,mode=755"); err != nil {
		t.Skipf("no file system can be mounted here: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(state, unix.MNT_DETACH) })
	if err := os.Mkdir(folder, 0o755); err != nil { //nolint:gosec // as root's folders are
		t.Fatal(err)
	}
	long := filepath.Join(t.TempDir(), "takes")
	script := "#!/bin/sh\ncat " + filepath.Join(state, CleanKind+".pid") + "\nsleep \"$(cat " + long + ")\"\n"
	if err := os.WriteFile(filepath.Join(folder, "10-frees"), []byte(script), 0o755); err != nil { //nolint:gosec // it runs
		t.Fatal(err)
	}
	takes := func(seconds string) {
		if err := os.WriteFile(long, []byte(seconds), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	fill := func() {
		for n := range 20 {
			_ = os.WriteFile(filepath.Join(state, strconv.Itoa(n)), make([]byte, 32<<10), 0o600)
		}
	}
	r := Runner{State: state, Process: true}
	clean := func(ctx context.Context) (said string, err error) {
		err = r.Clean(ctx, folder, "", &secret.Redactor{}, func(_, line string) { said += line })
		return said, err
	}
	takes("0")
	fill()
	if said, err := clean(t.Context()); err == nil || said != "" {
		t.Errorf("it ran, and nobody could find it: %q, %v", said, err)
	}
	if err := os.Remove(filepath.Join(state, "0")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := r.ReadyToClean(); err != nil {
			t.Fatal(err)
		}
	}
	fill()
	for range 2 {
		said, err := clean(t.Context())
		if pid, _, _ := strings.Cut(said, " "); err != nil || pid == "" {
			t.Errorf("%q, %v", said, err)
		}
		if _, err := os.Lstat(r.programRecord(CleanKind)); err != nil || recorded(r.programRecord(CleanKind)) != 0 {
			t.Errorf("it is at work still, or its record has given up its room: %v", err)
		}
	}
	takes("100")
	ended := make(chan error, 1)
	go func() {
		_, err := clean(context.WithoutCancel(t.Context()))
		ended <- err
	}()
	for end := time.Now().Add(10 * time.Second); recorded(r.programRecord(CleanKind)) == 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it is not recorded")
		}
	}
	if err := r.ReadyToClean(); err != nil || recorded(r.programRecord(CleanKind)) == 0 {
		t.Errorf("the record of one that is at work is gone: %v", err)
	}
	if err := r.EndPrograms(t.Context(), CleanKind); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil {
		t.Error("it was not ended")
	}
}
