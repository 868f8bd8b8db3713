package agent

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// resident is how many pages of a file are in the page cache.
func resident(t *testing.T, name string) (pages int) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	m, err := unix.Mmap(int(f.Fd()), 0, int(fi.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(m) //nolint:errcheck // a test's
	vec := make([]byte, (len(m)+4095)/4096)
	if _, _, errno := unix.Syscall(
		unix.SYS_MINCORE,
		uintptr(unsafe.Pointer(&m[0])),
		uintptr(len(m)),
		uintptr(unsafe.Pointer(&vec[0])),
	); errno != 0 {
		t.Skip(errno)
	}
	return bytes.Count(vec, []byte{1})
}

func TestWarmReadsTheProgramsAhead(t *testing.T) {
	dir, err := os.MkdirTemp(".", "warm-") // on a disk: what is in memory cannot be cold
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	h := Home{Dir: filepath.Join(dir, "agent")}
	program, other := h.path("bin/Agent.Listener.dll"), h.path("externals/node24/lib/big.js")
	for _, name := range []string{program, other} {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		f, err := os.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = f.Write(bytes.Repeat([]byte("x"), 4<<20))
		_ = f.Sync()
		_ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
		_ = f.Close()
	}
	if n := resident(t, program); n > 0 {
		t.Skipf("the page cache cannot be emptied here: %d pages stay", n)
	}
	if asked := h.Warm(context.Background()); asked != 4<<20 {
		t.Errorf("%d bytes were asked for", asked)
	}
	for end := time.Now().Add(10 * time.Second); resident(t, program) < 1024; <-time.After(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d of 1024 pages are there", resident(t, program))
		}
	}
	if n := resident(t, other); n > 0 {
		t.Errorf("what is no program was read as well: %d pages", n)
	}
}
