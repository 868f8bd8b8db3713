package agent

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"azp-bootstrap/bootstrap/fault"
)

// asRoot is a home whose service user is an account that nothing else runs as.
func asRoot(t *testing.T) (h Home, uid int) {
	t.Helper()
	u, err := user.Lookup("games")
	if os.Geteuid() != 0 || err != nil {
		t.Skip("needs root, and the account games")
	}
	uid, _ = ids(u)
	if len(processesOf(uid)) > 0 {
		t.Skip("somebody plays games here")
	}
	dir := t.TempDir()
	for d := dir; d != "/tmp" && d != "/"; d = filepath.Dir(d) {
		_ = os.Chmod(d, 0o755)
	}
	return Home{Dir: filepath.Join(dir, "agent"), User: "games"}, uid
}

func ownerOf(t *testing.T, name string) int {
	t.Helper()
	fi, err := os.Lstat(name)
	if err != nil {
		t.Fatal(err)
	}
	return owner(fi)
}

// What the service user owns, it can lead elsewhere by a link: root must neither make a folder there nor give
// one away.
func TestWorkFolderIsNotLedElsewhere(t *testing.T) {
	h, uid := asRoot(t)
	dir := filepath.Dir(h.Dir)
	theirs, victim := filepath.Join(dir, "theirs"), filepath.Join(dir, "victim")
	for _, d := range []string{theirs, victim, filepath.Join(theirs, "ready")} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Lchown(theirs, uid, uid), os.Lchown(filepath.Join(theirs, "ready"), uid, uid),
		os.Symlink(victim, filepath.Join(theirs, "link")), os.Lchown(filepath.Join(theirs, "link"), uid, uid),
		os.Symlink(theirs, filepath.Join(dir, "ours"))); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		work string
		ok   bool
	}{
		{filepath.Join(theirs, "link"), false},
		{filepath.Join(theirs, "link", "work"), false},
		{filepath.Join(theirs, "new"), false},
		{filepath.Join(dir, "ours", "new"), false}, // root's link to their folder
		{filepath.Join(theirs, "ready"), true},
		{filepath.Join(dir, "new", "deep"), true},
		{victim, true}, // root's own, by its own name
	} {
		err := h.WorkFolder(c.work)
		if (err == nil) != c.ok || err != nil && fault.From(err).Class != fault.Config {
			t.Errorf("%s: %v", c.work, err)
		}
		if c.work != victim && ownerOf(t, victim) != 0 {
			t.Fatalf("%s gave the folder behind the link away", c.work)
		}
	}
	if entries, err := os.ReadDir(theirs); err != nil || len(entries) != 2 {
		t.Errorf("root made something in their folder: %v, %v", entries, err)
	}
	if ownerOf(t, filepath.Join(dir, "new", "deep")) != uid {
		t.Error("the work folder is not the service user's")
	}
}

func TestHandOverTouchesNothingElse(t *testing.T) {
	h, uid := asRoot(t)
	victim := filepath.Join(filepath.Dir(h.Dir), "victim")
	if err := errors.Join(os.MkdirAll(filepath.Join(h.Dir, "a", "b"), 0o755), os.WriteFile(victim, nil, 0o600),
		os.Symlink(victim, filepath.Join(h.Dir, "a", "link")), os.Symlink("/etc", filepath.Join(h.Dir, "etc"))); err != nil {
		t.Fatal(err)
	}
	if err := h.handOver(); err != nil {
		t.Fatal(err)
	}
	if ownerOf(t, victim) != 0 || ownerOf(t, "/etc") != 0 {
		t.Error("a link was followed")
	}
	_ = filepath.WalkDir(h.Dir, func(name string, _ fs.DirEntry, err error) error {
		if err != nil || ownerOf(t, name) != uid {
			t.Errorf("%s is not the service user's: %v", name, err)
		}
		return nil
	})
}

// A job that stayed behind as the service user must not live while config.sh holds the PAT.
func TestStrangersEndBeforeARegistration(t *testing.T) {
	h, uid := asRoot(t)
	linger := exec.Command("/bin/sh", "-c", "trap '' TERM HUP; while :; do sleep 1; done")
	linger.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}, Setsid: true} //nolint:gosec // an account number
	if err := linger.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = linger.Wait(); close(ended) }()
	if n := h.endStrangers(); n != 0 {
		t.Errorf("%d processes were ended before any agent was in use here", n)
	}
	if err := os.MkdirAll(h.keep(), 0o755); err != nil {
		t.Fatal(err)
	}
	// The VM registered, and has left since: a job's processes may live on all the same.
	for _, l := range []layout{{SHA256: "x", InstanceID: "another"}, {SHA256: "x"}, {SHA256: "x", Fresh: true}} {
		if err := h.setLayout(l); err != nil {
			t.Fatal(err)
		}
	}
	if n := h.endStrangers(); n == 0 {
		t.Error("nothing was ended")
	}
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Error("it lives on")
		_ = linger.Process.Kill()
	}
	if left := processesOf(uid); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// Processes that fork on and end at once are seen by no look into /proc.
func TestStrangersThatForkOnEnd(t *testing.T) {
	h, uid := asRoot(t)
	if err := os.MkdirAll(h.keep(), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := h.setLayout(layout{SHA256: "x", InstanceID: "another"}); err != nil {
		t.Fatal(err)
	}
	sign := filepath.Join(t.TempDir(), "alive")
	if err := errors.Join(os.WriteFile(sign, nil, 0o666), os.Chmod(filepath.Dir(sign), 0o777), os.Chmod(sign, 0o666), os.Chmod(filepath.Dir(filepath.Dir(sign)), 0o755)); err != nil { //nolint:gosec // for another user
		t.Fatal(err)
	}
	hop := exec.Command("perl", "-e", `open F, ">>", $ARGV[0]; while (1) { syswrite F, "."; exit if fork }`, sign)
	hop.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}, Setsid: true} //nolint:gosec // an account number
	if err := hop.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = hop.Wait() }()
	size := func() int64 {
		fi, err := os.Stat(sign)
		if err != nil {
			t.Fatal(err)
		}
		return fi.Size()
	}
	for end := time.Now().Add(5 * time.Second); size() < 10; <-time.After(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it never began")
		}
	}
	h.endStrangers()
	was := size()
	<-time.After(200 * time.Millisecond)
	if is := size(); is != was {
		t.Errorf("it lives on: %d generations, then %d", was, is)
	}
}
