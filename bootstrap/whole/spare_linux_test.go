package whole

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// small is a small file system of its own, which nobody else sees; the test ends where that may not be.
func small(t *testing.T, options string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := unix.Mount("azp-test", dir, "tmpfs", 0, options); err != nil {
		t.Skipf("no file system can be mounted here: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// ext4 is a file system in a file, as on a disk of its own.
func ext4(t *testing.T) (image, dir string) {
	t.Helper()
	image, dir = filepath.Join(t.TempDir(), "disk"), t.TempDir()
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, 8<<20); err != nil {
		t.Fatal(err)
	}
	// -m 0: root has nothing in reserve. No first writing in the background.
	out, err := exec.Command("mkfs.ext4", "-q", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0", image).CombinedOutput()
	if err != nil {
		t.Skipf("no mkfs.ext4 here: %v: %s", err, out)
	}
	mounted(t, image, dir)
	return image, dir
}

func mounted(t *testing.T, image, dir string) {
	t.Helper()
	// commit: nothing reaches the disk by itself meanwhile.
	if out, err := exec.Command("mount", "-o", "loop,commit=600", image, dir).CombinedOutput(); err != nil {
		t.Skipf("no loop device can be mounted here: %v: %s", err, out)
	}
	t.Cleanup(func() { _ = exec.Command("umount", "--lazy", dir).Run() })
}

// fillBytes leaves no block of a file system, fillInodes no inode.
func fillBytes(t *testing.T, dir string) {
	t.Helper()
	for n, size := 0, 1<<20; size > 0; n++ {
		err := os.WriteFile(filepath.Join(dir, "filler"+strconv.Itoa(n)), make([]byte, size), 0o600)
		switch {
		case Full(err):
			size /= 2
		case err != nil:
			t.Fatal(err)
		}
	}
}

func fillInodes(t *testing.T, dir string) {
	t.Helper()
	for n := 0; ; n++ {
		err := os.WriteFile(filepath.Join(dir, "filler"+strconv.Itoa(n)), nil, 0o600)
		if Full(err) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func holds(t *testing.T, name, want string) {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil || strings.TrimRight(string(data), "\n") != want {
		t.Fatalf("%s holds %.40q, %v; want %.40q", filepath.Base(name), data, err, want)
	}
}

func spared(t *testing.T, name, text string, want bool) {
	t.Helper()
	got, err := WriteSpared(name, []byte(text), 0o644)
	if err != nil || got != want {
		t.Fatalf("write of %.40q: in a spare: %v, %v; want %v", text, got, err, want)
	}
	holds(t, name, text)
}

// A file is written on a full disk any number of times, whichever is lacking, and takes nothing of it; when there
// is room again it is as before.
func TestAFullDiskIsWritten(t *testing.T) {
	for name, at := range map[string]struct {
		dir  func() string
		fill func(*testing.T, string)
	}{
		"tmpfs, bytes":  {func() string { return small(t, "size=1m") }, fillBytes},
		"tmpfs, inodes": {func() string { return small(t, "size=1m,nr_inodes=20") }, fillInodes},
		"ext4, bytes":   {func() string { _, dir := ext4(t); return dir }, fillBytes},
		"ext4, inodes":  {func() string { _, dir := ext4(t); return dir }, fillInodes},
	} {
		t.Run(name, func(t *testing.T) {
			dir := at.dir()
			file := filepath.Join(dir, "state.json")
			spared(t, file, "0", false)
			at.fill(t, dir)
			for n := range 20 {
				spared(t, file, fmt.Sprint(n, strings.Repeat("x", (20-n)*2000)), true)
			}
			fillers, _ := filepath.Glob(filepath.Join(dir, "filler*"))
			for _, f := range fillers {
				_ = os.Remove(f)
			}
			spared(t, file, "room", false)
			if fi, err := os.Stat(file); err != nil || fi.Size() != int64(len("room")) {
				t.Errorf("it is as long as a spare: %v, %v", fi.Size(), err)
			}
			for _, s := range Spares(file) {
				if !fits(s, spareSize) {
					t.Errorf("no room is kept again in %s", s)
				}
			}
			at.fill(t, dir)
			spared(t, file, "full again", true)
		})
	}
}

// A file that is longer than a spare is kept room for as well, while there is some. Without any the error is
// that of the full disk, and the file is what it was.
func TestRoomForALongFile(t *testing.T) {
	dir := small(t, "size=2m")
	file := filepath.Join(dir, "state.json")
	long := strings.Repeat("long", 50_000)
	spared(t, file, "short", false)
	spared(t, file, long, false)
	fillBytes(t, dir)
	spared(t, file, long+"er", true)
	if _, err := WriteSpared(file, make([]byte, 1<<20), 0o644); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("longer than the room that is kept: %v", err)
	}
	holds(t, file, long+"er")
}

// What others put in a spare's place is not written over, nor what a spare is a second name of.
func TestASpareIsOurOwn(t *testing.T) {
	for name, put := range map[string]func(spare, elsewhere string) error{
		"a link":        func(s, e string) error { return os.Symlink(e, s) },
		"a second name": func(s, e string) error { return os.Link(e, s) },
		"a folder":      func(s, _ string) error { return os.Mkdir(s, 0o755) },
		"a pipe":        func(s, _ string) error { return unix.Mkfifo(s, 0o644) },
		"another's": func(s, _ string) error {
			return errors.Join(os.WriteFile(s, nil, 0o600), os.Truncate(s, spareSize), os.Chown(s, 1, 1))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := small(t, "size=1m")
			file, elsewhere := filepath.Join(dir, "state.json"), filepath.Join(dir, "elsewhere")
			theirs := strings.Repeat("somebody's", spareSize/8)
			if err := os.WriteFile(elsewhere, []byte(theirs), 0o600); err != nil {
				t.Fatal(err)
			}
			spared(t, file, "0", false)
			for _, s := range Spares(file) {
				if err := errors.Join(os.Remove(s), put(s, elsewhere)); err != nil {
					t.Fatal(err)
				}
			}
			fillBytes(t, dir)
			if _, err := WriteSpared(file, []byte("1"), 0o644); !errors.Is(err, unix.ENOSPC) {
				t.Errorf("written into it: %v", err)
			}
			holds(t, elsewhere, theirs)
			holds(t, file, "0")
		})
	}
}

// A file that somebody has removed is there again.
func TestASpareBecomesTheFile(t *testing.T) {
	dir := small(t, "size=1m")
	file := filepath.Join(dir, "state.json")
	spared(t, file, "0", false)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	fillBytes(t, dir)
	spared(t, file, "1", true)
}

// Any other failure than a full disk is told as it is: nothing is written over.
func TestOnlyAFullDiskTakesTheSpare(t *testing.T) {
	dir := small(t, "size=1m")
	file := filepath.Join(dir, "state.json")
	spared(t, file, "0", false)
	if err := unix.Mount("azp-test", dir, "tmpfs", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	if got, err := WriteSpared(file, []byte("1"), 0o644); got || !errors.Is(err, syscall.EROFS) {
		t.Errorf("%v, %v", got, err)
	}
	dir = small(t, "size=1m")
	file = filepath.Join(dir, "state.json")
	spared(t, file, "0", false)
	if err := errors.Join(os.Remove(file), os.Mkdir(file, 0o755)); err != nil { //nolint:gosec // a test's
		t.Fatal(err)
	}
	got, err := WriteSpared(file, []byte("1"), 0o644)
	if fi, e := os.Lstat(file); got || err == nil || e != nil || !fi.IsDir() {
		t.Errorf("a folder in its place is gone: %v, %v, %v", got, err, e)
	}
}

// A spare that was cut off while it was made is cleared away like the file itself.
func TestAHalfMadeSpareIsCleared(t *testing.T) {
	dir := t.TempDir()
	for _, spare := range Spares("state.json") {
		for digits := 10; digits < 20; digits++ {
			write(t, filepath.Join(dir, "."+spare+strings.Repeat("7", digits)))
		}
	}
	Clear(dir, Spares("state.json")...)
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// A power cut leaves the former file or the new one, wherever it comes in a write on a full disk: what the disk
// has by then is a copy of it, mounted as after a restart.
func TestAPowerCutOnAFullDisk(t *testing.T) {
	image, dir := ext4(t)
	file := filepath.Join(dir, "state.json")
	old := func(n int) string { return strings.Repeat(fmt.Sprintf("%04d ", n), 2500) } // some blocks
	spared(t, file, old(0), false)
	fillBytes(t, dir)
	spared(t, file, old(1), true)
	spared(t, file, old(2), true)
	disk := func(when string, want ...int) {
		t.Helper()
		data, err := os.ReadFile(image)
		if err != nil {
			t.Fatal(err)
		}
		cut, at := filepath.Join(t.TempDir(), "cut"), t.TempDir()
		if err := os.WriteFile(cut, data, 0o600); err != nil {
			t.Fatal(err)
		}
		mounted(t, cut, at)
		got, err := os.ReadFile(filepath.Join(at, "state.json"))
		for _, n := range want {
			if bytes.Equal(bytes.TrimRight(got, "\n"), []byte(old(n))) {
				return
			}
		}
		t.Errorf("%s, the power is cut: %d bytes, %.20q …, %v; want one of %v", when, len(got), got, err, want)
	}
	for n := 3; n < 6; n++ {
		spare := fitting(file, spareSize)
		disk("before", n-1)
		if err := fill(spare, []byte(old(n))); err != nil {
			t.Fatal(err)
		}
		disk("when the spare is written", n-1)
		if err := exchange(spare, file); err != nil {
			t.Fatal(err)
		}
		disk("when the names are exchanged", n-1, n)
		if err := syncFolder(file); err != nil {
			t.Fatal(err)
		}
		disk("at the end", n)
	}
	spared(t, file, old(6), true)
	disk("when it is written", 6)
}

// A few words are written over those of before on a full disk, and leave nothing of them; a link is not followed.
func TestWordsOnAFullDisk(t *testing.T) {
	dir := small(t, "size=256k,nr_inodes=12")
	record, elsewhere := filepath.Join(dir, "clean.pid"), filepath.Join(dir, "elsewhere")
	if err := errors.Join(os.WriteFile(elsewhere, []byte("somebody's"), 0o600), os.Symlink(elsewhere, filepath.Join(dir, "link"))); err != nil {
		t.Fatal(err)
	}
	if err := Over(filepath.Join(dir, "link"), "1 2", 0o644); err == nil {
		t.Error("it went where a link leads")
	}
	holds(t, elsewhere, "somebody's")
	if err := os.WriteFile(record, bytes.Repeat([]byte("before "), 100), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(dir, "grows"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // it is full
	fillBytes(t, dir)
	stop, stopped := make(chan struct{}), make(chan struct{})
	defer func() { close(stop); <-stopped }()
	go func() { // what a job does that takes each block that is given up
		defer close(stopped)
		var err error
		for err == nil || Full(err) {
			select {
			case <-stop:
				return
			default:
				_, err = f.Write(make([]byte, 4096))
			}
		}
		t.Error(err)
	}()
	for n := range 3000 {
		words := []string{"1 2", "", "1234 567890"}[n%3]
		if err := Over(record, words, 0o644); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(record); err != nil || strings.TrimSpace(string(got)) != words {
			t.Errorf("%q, %v; want %q", got, err, words)
		}
	}
}
