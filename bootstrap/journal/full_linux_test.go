package journal

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/whole"
)

// small is a state folder on a small disk of its own; the test ends where that may not be.
func small(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := unix.Mount("azp-test", dir, "tmpfs", 0, "size=1m,nr_inodes=30,mode=755"); err != nil {
		t.Skipf("no file system can be mounted here: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

func fill(t *testing.T, dir string) {
	t.Helper()
	err := os.WriteFile(filepath.Join(dir, "filler"), make([]byte, 2<<20), 0o600)
	for n := 0; n < 40 && errors.Is(err, unix.ENOSPC); n++ { // and no inode is left
		_ = os.WriteFile(filepath.Join(dir, strconv.Itoa(n)), nil, 0o600)
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
}

// A disk that is full keeps nobody from writing where the VM stands, from opening the journal, or from asking for
// the VM. That it is full is said once, and that it is not any more.
func TestTheStateOnAFullDisk(t *testing.T) {
	dir := small(t)
	var said bytes.Buffer
	log := logrus.New()
	log.SetOutput(&said)
	j, err := Open(dir, log, nobody)
	if err != nil {
		t.Fatal(err)
	}
	step := func(phase string) {
		t.Helper()
		if err := j.Update(func(s *State) { s.Phase = phase }); err != nil {
			t.Fatal(err)
		}
		if s, damaged, err := Read(dir); err != nil || damaged != nil || s.Phase != phase {
			t.Fatalf("%+v, %v, %v", s, damaged, err)
		}
	}
	step(Ready)
	fill(t, dir)
	for range 3 {
		step(Draining)
		step(Ready)
	}
	if j, err = Open(dir, log, nobody); err != nil {
		t.Fatal("a daemon that is started now: ", err)
	}
	release, err := j.Take()
	if err != nil {
		t.Fatal(err)
	}
	if s := j.State(); s.Phase != Ready {
		t.Errorf("it finds %q", s.Phase)
	}
	step(Draining)
	release()
	for _, s := range whole.Spares(File(dir)) {
		if _, err := os.Lstat(s); err != nil {
			t.Errorf("a run has removed what keeps room: %v", err)
		}
	}
	if count := strings.Count(said.String(), "is full: the state is written in the room"); count != 2 { // by two runs
		t.Errorf("said %d times:\n%s", count, &said)
	}
	if err := os.Remove(filepath.Join(dir, "filler")); err != nil {
		t.Fatal(err)
	}
	step(Removed)
	if !strings.Contains(said.String(), "has room again") {
		t.Errorf("said: %s", &said)
	}
}

// Who asks for the VM on a disk that has no room for that waits for its turn.
func TestAskingOnAFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("azp-test", dir, "tmpfs", 0, "size=1m,nr_inodes=10,mode=755"); err != nil {
		t.Skipf("no file system can be mounted here: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	j := open(t, dir, nobody)
	if err := j.Update(named("web")); err != nil {
		t.Fatal(err)
	}
	for n := 'a'; n < 'z'; n++ {
		_ = os.WriteFile(filepath.Join(dir, string(n)), nil, 0o600)
	}
	release, err := j.Ask()
	if err != nil {
		t.Fatal(err)
	}
	release()
	if j.Asked() {
		t.Error("somebody asks")
	}
}

// A state that cannot be written anywhere is said once, however often it is tried.
func TestAStateThatCannotBeWrittenIsSaidOnce(t *testing.T) {
	dir := small(t)
	var said bytes.Buffer
	log := logrus.New()
	log.SetOutput(&said)
	j, err := Open(dir, log, nobody)
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Update(named("web")); err != nil {
		t.Fatal(err)
	}
	for _, s := range whole.Spares(File(dir)) {
		if err := os.Remove(s); err != nil {
			t.Fatal(err)
		}
	}
	fill(t, dir)
	for _, name := range []string{"a", "b", "c"} {
		if f := fault.From(j.Update(named(name))); f == nil || f.Class != fault.State {
			t.Errorf("%v", f)
		}
	}
	if count := strings.Count(said.String(), "the state cannot be written"); count != 1 {
		t.Errorf("said %d times:\n%s", count, &said)
	}
	if err := os.Remove(filepath.Join(dir, "filler")); err != nil {
		t.Fatal(err)
	}
	if err := j.Update(named("d")); err != nil || !strings.Contains(said.String(), "the state can be written again") {
		t.Errorf("%v; said: %s", err, &said)
	}
}

// Who reads while a full disk is written finds the former state or the new one: what was the file is written over.
func TestReadingWhatIsWrittenOver(t *testing.T) {
	dir := small(t)
	j := open(t, dir, nobody)
	long := func(letter byte) func(*State) {
		return func(s *State) { s.Agent.Name = strings.Repeat(string(letter), 50_000) }
	}
	if err := j.Update(long('a')); err != nil {
		t.Fatal(err)
	}
	fill(t, dir)
	stop, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		for letter := byte('a'); ; letter = 'a' + (letter-'a'+1)%26 {
			select {
			case <-stop:
				ended <- nil
				return
			default:
			}
			if err := j.Update(long(letter)); err != nil {
				ended <- err
				return
			}
		}
	}()
	for range 200 {
		s, damaged, err := Read(dir)
		if err != nil || damaged != nil || len(s.Agent.Name) != 50_000 || strings.Trim(s.Agent.Name, s.Agent.Name[:1]) != "" {
			t.Errorf("half a state was read: %d bytes, %v, %v", len(s.Agent.Name), damaged, err)
			break
		}
	}
	close(stop)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
