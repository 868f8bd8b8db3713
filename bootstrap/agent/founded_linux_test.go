package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"azp-bootstrap/bootstrap/fault"
)

// Nothing of root's lies where others could exchange it.
func TestAFolderBelowAnothersIsRefused(t *testing.T) {
	h, uid := asNews(t)
	base := filepath.Dir(h.Dir)
	folder := func(name string, owner int, mode os.FileMode) string {
		t.Helper()
		dir := filepath.Join(base, name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(dir, owner, owner); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	folder("home", uid, 0o755)
	folder("home/root", 0, 0o755)
	folder("tmp", 0, 0o777|os.ModeSticky)
	folder("tmp/root", 0, 0o755)
	folder("open", 0, 0o777)
	folder("open/root", 0, 0o755)
	folder("staff", 0, 0o775)
	folder("group", 0, 0o775)
	folder("package.package", uid, 0o755)
	folder("root", 0, 0o755)
	if err := os.Chown(filepath.Join(base, "group"), 0, uid); err != nil { // news is in the group news
		t.Fatal(err)
	}
	if err := os.Symlink("home", filepath.Join(base, "link")); err != nil {
		t.Fatal(err)
	}
	for dir, wrong := range map[string]string{
		"root/agent":      "",
		"staff/agent":     "", // root's group
		"none/yet/agent":  "",
		"tmp/root/agent":  "", // nobody but root renames what is root's there
		"tmp/agent":       "tmp",
		"tmp/none/agent":  "tmp",
		"home/agent":      "home",
		"home/root/agent": "home",
		"open/root/agent": "open",
		"group/agent":     "group",
		"link/agent":      "home",
		"package":         "package.package",
	} {
		h := Home{Dir: filepath.Join(base, dir), User: "news"}
		for what, err := range map[string]error{
			"Founded": h.Founded(),
			"Prepare": second(h.Prepare("/nowhere", strings.Repeat("0", 64), func(string, ...any) {})),
			"lay":     second(h.lay()),
		} {
			f := fault.From(err)
			refused := f != nil && f.Class == fault.Config
			if refused != (wrong != "") || refused && (!strings.Contains(f.Error(), filepath.Join(base, wrong)) || f.Advice == "") {
				t.Errorf("%s, %s: %v", dir, what, err)
			}
			if _, err := os.Stat(h.keep()); wrong != "" && dir != "package" && err == nil {
				t.Errorf("%s, %s: refused, and yet made %s", dir, what, h.keep())
			}
		}
	}
}

// At image time the account is not there yet.
func TestAFolderOfAnAccountToBe(t *testing.T) {
	h, _ := asNews(t)
	h.User = "azp-that-is-to-be"
	if err := h.ours(); err != nil {
		t.Error(err)
	}
}

func second[T any](_ T, err error) error { return err }

// Whoever exchanges the folder while it is handed over is given nothing that lies elsewhere.
func TestHandOverFollowsNoExchange(t *testing.T) {
	h, uid := asNews(t)
	victim := filepath.Join(filepath.Dir(h.Dir), "victim")
	for _, dir := range []string{h.path("a"), h.path("z"), victim} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{h.path("a/file"), h.path("z/last"), filepath.Join(victim, "file")} {
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	many := t.TempDir()
	for i := range 3000 {
		if err := os.WriteFile(filepath.Join(many, strings.Repeat("m", 1+i%100)+string(rune('a'+i/100))), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Rename(many, h.path("m")); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { // as the owner of the folder above could
		defer close(done)
		for end := time.Now().Add(time.Minute); time.Now().Before(end); {
			if fi, err := os.Lstat(h.path("z/last")); err == nil && owner(fi) == uid {
				_ = os.Rename(h.Dir, h.Dir+".away")
				_ = os.Mkdir(h.Dir, 0o755)
				_ = os.Symlink(victim, h.path("a"))
				return
			}
		}
	}()
	if err := h.handOver(); err != nil {
		t.Fatal(err)
	}
	<-done
	if fi, err := os.Stat(filepath.Join(victim, "file")); err != nil || owner(fi) != 0 {
		t.Errorf("root's file was given away: %v, %v", owner(fi), err)
	}
	if fi, err := os.Stat(filepath.Join(h.Dir+".away", "a/file")); err != nil || owner(fi) != uid {
		t.Errorf("the agent's own file was not: %v", err)
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
