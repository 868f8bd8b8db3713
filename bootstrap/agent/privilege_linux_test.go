package agent

import (
	"archive/tar"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/secret"
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

// What the service user owns, it can lead elsewhere by a link: root must neither make a folder
// there nor give one away.
func TestWorkFolderIsNotLedElsewhere(t *testing.T) {
	h, uid := asRoot(t)
	dir := filepath.Dir(h.Dir)
	theirs, victim := filepath.Join(dir, "theirs"), filepath.Join(dir, "victim")
	fresh, used := filepath.Join(dir, "fresh"), filepath.Join(dir, "used")
	for _, d := range []string{theirs, victim, fresh, used, filepath.Join(fresh, "lost+found"), filepath.Join(used, "state"), filepath.Join(theirs, "ready")} {
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
		{used, false},  // somebody's name for all of /var/lib
		{fresh, true},  // a disk that was just made
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
	if ownerOf(t, used) != 0 {
		t.Error("a folder with root's files was given away")
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
	beside := filepath.Dir(h.Dir)
	victim, folder := filepath.Join(beside, "victim"), filepath.Join(beside, "folder")
	if err := errors.Join(
		os.Mkdir(folder, 0o755),
		os.MkdirAll(filepath.Join(h.Dir, "a", "b"), 0o755),
		os.WriteFile(victim, nil, 0o600),
		os.Symlink(victim, filepath.Join(h.Dir, "a", "link")),
		os.Symlink(folder, filepath.Join(h.Dir, "folder")),
	); err != nil {
		t.Fatal(err)
	}
	if err := h.handOver(); err != nil {
		t.Fatal(err)
	}
	if ownerOf(t, victim) != 0 || ownerOf(t, folder) != 0 {
		t.Error("a link was followed")
	}
	_ = filepath.WalkDir(h.Dir, func(name string, _ fs.DirEntry, err error) error {
		if err != nil || ownerOf(t, name) != uid {
			t.Errorf("%s is not the service user's: %v", name, err)
		}
		return nil
	})
}

// What a job left behind as the service user cannot read the PAT in config.sh's environment: that
// runs as somebody else, and so does all that it starts. Afterwards the folder is the service
// user's.
func TestConfigRunsAsNobodyElse(t *testing.T) {
	h, uid := asRoot(t)
	dir := filepath.Dir(h.Dir)
	seen := filepath.Join(dir, "seen")
	if err := errors.Join(os.Mkdir(seen, 0o755), os.Chown(seen, uid, uid)); err != nil {
		t.Fatal(err)
	}
	// A process of the service user that looks at every process's environment, over and over.
	spy := exec.Command(
		"/bin/sh",
		"-c",
		`while :; do cat /proc/[0-9]*/environ 2>/dev/null | tr '\0' '\n' | grep -a TOKEN=; done >>`+seen+"/all",
	) //nolint:gosec // a test's own
	spy.SysProcAttr = &syscall.SysProcAttr{
		Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)},
		Setpgid:    true,
	} //nolint:gosec // an account number
	if err := spy.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = syscall.Kill(-spy.Process.Pid, syscall.SIGKILL)
		_ = spy.Wait()
	}()
	file, sum := archive(
		t,
		entry{
			name: "./config.sh",
			kind: tar.TypeReg,
			text: "#!/bin/sh\nid -u >who\nid -G >groups\n(sleep 1; id -u >child)\n" +
				`printf '{"agentId": 7}' >.agent` + "\nchmod 600 .agent\n",
		},
	)
	if _, err := h.Prepare(file, sum, quiet); err != nil {
		t.Fatal(err)
	}
	pat, err := secret.NewPAT("opaque-token-of-a-test")
	if err != nil {
		t.Fatal(err)
	}
	r := Registration{
		Kind:      "pool",
		Name:      "Default",
		URL:       "https://dev.azure.com/contoso",
		AgentName: "web-1",
		Work:      "_work",
		Marks:     Marks{InstanceID: "1"},
		Timeout:   time.Minute,
	}
	id, err := Runner{Home: h, State: t.TempDir()}.Configure(t.Context(), r, pat, &secret.Redactor{}, func(string) {})
	if err != nil || id != 7 {
		t.Fatal(id, err)
	}
	for _, name := range []string{"who", "groups", "child"} {
		text, err := os.ReadFile(h.path(name))
		is, _ := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil || is < 61184 || is > 65519 {
			t.Errorf("%s: %q, %v", name, text, err)
		}
	}
	if text, err := os.ReadFile(filepath.Join(seen, "all")); err != nil || len(text) > 0 {
		t.Errorf("seen: %q, %v", text, err)
	}
	_ = filepath.WalkDir(h.Dir, func(name string, _ fs.DirEntry, err error) error {
		if err != nil || ownerOf(t, name) != uid {
			t.Errorf("%s is not the service user's: %v", name, err)
		}
		return nil
	})
}

// A user number is given to one at a time.
func TestApartIsNobodys(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	first, err := apart()
	if err != nil {
		t.Fatal(err)
	}
	sleeps := exec.Command("sleep", "60")
	sleeps.SysProcAttr = &syscall.SysProcAttr{
		Credential: &syscall.Credential{Uid: uint32(first), Gid: uint32(first)},
	} //nolint:gosec // a user number
	if err := sleeps.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = sleeps.Process.Kill()
		_ = sleeps.Wait()
	}()
	if second, err := apart(); err != nil || second == first {
		t.Errorf("%d, then %d, %v", first, second, err)
	}
}

// While root furnishes the folder nothing in it is the service user's, not for a moment: a process
// that a job left behind would get a handle by which it changes what config.sh reads.
func TestTheFolderIsRootsUntilItIsGiven(t *testing.T) {
	h, uid := asRoot(t)
	file, sum := archive(t, honest...)
	if _, err := h.Prepare(file, sum, quiet); err != nil {
		t.Fatal(err)
	}
	sign := filepath.Join(filepath.Dir(h.Dir), "opened")
	spy := exec.Command(
		"/bin/sh",
		"-c",
		`cd "$0" && while :; do for f in .env .proxybypass runsvc.sh config.sh .agent; do [ ! -w "$f" ] || echo "$f"; done; done >>"$1"`,
		h.Dir,
		sign,
	)
	if err := errors.Join(
		os.WriteFile(sign, nil, 0o666),
		os.Chmod(sign, 0o666),
	); err != nil { //nolint:gosec // for another user
		t.Fatal(err)
	}
	spy.SysProcAttr = &syscall.SysProcAttr{
		Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)},
		Setpgid:    true,
	} //nolint:gosec // an account number
	if err := spy.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = syscall.Kill(-spy.Process.Pid, syscall.SIGKILL)
		_ = spy.Wait()
	}()
	r := Registration{Marks: Marks{InstanceID: "1", Registered: "x"}}
	for range 50 {
		if err := h.furnish(r); err != nil {
			t.Fatal(err)
		}
		_ = filepath.WalkDir(h.Dir, func(name string, _ fs.DirEntry, err error) error {
			if err != nil || ownerOf(t, name) != 0 {
				t.Errorf("%s is not root's: %v", name, err)
			}
			return nil
		})
	}
	if text, err := os.ReadFile(sign); err != nil || len(text) > 0 {
		t.Errorf("the service user could write to: %.200q, %v", text, err)
	}
}

// An account of root's number under another name is root all the same.
func TestAccountRefusesRootsNumber(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	file := filepath.Join(t.TempDir(), "passwd")
	text, err := os.ReadFile("/etc/passwd")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(
		file,
		append(text, "toor:x:0:0::/root:/bin/sh\ntoot:x:61100:61100::/tmp:/bin/sh\n"...),
		0o644,
	); err != nil { //nolint:gosec // as it is
		t.Fatal(err)
	}
	var toor, toot error
	done := make(chan error, 1)
	go func() { // the thread, which alone sees the file, ends with the goroutine that it is locked to
		runtime.LockOSThread()
		err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS)
		if err == nil {
			err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
		}
		if err == nil {
			err = unix.Mount(file, "/etc/passwd", "", unix.MS_BIND, "")
		}
		if err == nil {
			_, toor = account("toor")
			_, toot = account("toot")
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Skipf("no mount here: %v", err)
	}
	if toor == nil || fault.From(toor).Class != fault.Config || toot != nil {
		t.Errorf("toor: %v; toot: %v", toor, toot)
	}
}
