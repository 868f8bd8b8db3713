package agent

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/tree"
)

// Whoever may exchange the agent's folder, or root's package beside it, says what config.sh is.
func TestAgentFolderIsRootsToPlace(t *testing.T) {
	h, uid := asRoot(t)
	dir := filepath.Dir(h.Dir)
	at := func(names ...string) string { return filepath.Join(append([]string{dir}, names...)...) }
	folder := func(name string, mode os.FileMode, uid int) {
		if err := errors.Join(
			os.MkdirAll(at(name), 0o755),
			os.Chmod(at(name), mode),
			os.Lchown(at(name), uid, uid),
		); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range []string{"root", "root/used", "theirs/root", "sticky/root", "open", "group"} {
		folder(n, 0o755, 0)
	}
	folder("theirs", 0o755, uid)
	folder("root/used", 0o755, uid) // an agent's folder of the service user's
	folder("kept.package", 0o755, uid)
	folder("sticky", 0o777|os.ModeSticky, 0)
	folder("sticky/theirs", 0o755, uid)
	folder("open", 0o777, 0)
	folder("group", 0o775, 0)
	folder("staff", 0o775, 0) // root's group
	games, err := user.Lookup("games")
	if err != nil {
		t.Fatal(err)
	}
	_, gid := ids(games)
	if err := errors.Join(
		os.Lchown(at("group"), 0, gid),
		os.Symlink(at("theirs"), at("link")),
		os.Symlink(at("root"), at("good")),
		os.Symlink(
			at("root"),
			at("theirs", "link"),
		),
		os.Symlink("theirs/link", at("chain")),
		os.Symlink(at("theirs", "root"), at("root", "leads")),
	); err != nil {
		t.Fatal(err)
	}
	for name, foreign := range map[string]string{
		"agent": "", "root/agent": "", "root/used": "", "root/new/agent": "", "staff/agent": "", "good/agent": "", "sticky/root/agent": "",
		"theirs/agent": "theirs", "theirs/new/agent": "theirs", "theirs/root/agent": "theirs", "link/agent": "theirs",
		"theirs/link/agent": "theirs", "chain/link-agent": "theirs", "root/leads": "theirs", "sticky/agent": "sticky", "sticky/theirs/agent": "sticky",
		"open/agent": "open", "open/new/agent": "open", "sticky/new/agent": "sticky", "group/agent": "group", "kept": "kept.package",
	} {
		image, err := tree.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range []Home{{Dir: at(name), User: "games"}, {Dir: at(name), User: "games", Tree: image}} {
			if strings.Contains(name, "link") || strings.Contains(name, "good") || strings.Contains(name, "leads") {
				if h.Tree != (tree.Tree{}) {
					continue // an absolute link means another place there
				}
			}
			err := h.Guarded()
			f := fault.From(err)
			switch {
			case foreign == "" && err != nil:
				t.Errorf("%s: %v", name, err)
			case foreign != "" && (err == nil || f.Class != fault.Config || !strings.Contains(f.Error(), " "+at(foreign)+" is ") || f.Advice == ""):
				t.Errorf("%s: %v", name, err)
			}
		}
		_ = image.Close()
	}
}

// A folder that is exchanged while it is handed over gives nothing else away.
func TestHandOverOfAFolderThatIsExchanged(t *testing.T) {
	h, uid := asRoot(t)
	dir := filepath.Dir(h.Dir)
	victim := filepath.Join(dir, "victim")
	err := errors.Join(
		os.MkdirAll(filepath.Join(h.Dir, "a"), 0o755),
		os.Mkdir(victim, 0o755),
		os.WriteFile(filepath.Join(victim, "secret"), nil, 0o600),
		os.WriteFile(
			filepath.Join(h.Dir, "a", "secret"),
			nil,
			0o600,
		),
		os.WriteFile(filepath.Join(h.Dir, "zzz"), nil, 0o600),
		os.Mkdir(filepath.Join(dir, "other"), 0o755),
		os.Symlink(victim, filepath.Join(dir, "other", "a")),
	)
	for i := range 20000 {
		err = errors.Join(err, os.WriteFile(filepath.Join(h.Dir, fmt.Sprintf("m%d", i)), nil, 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
	exchanged := make(chan error, 1)
	go func() {
		for end := time.Now().Add(30 * time.Second); time.Now().Before(end); {
			if fi, err := os.Lstat(filepath.Join(h.Dir, "zzz")); err == nil && owner(fi) == uid {
				break
			}
		}
		exchanged <- errors.Join(os.Rename(h.Dir, filepath.Join(dir, "away")), os.Rename(filepath.Join(dir, "other"), h.Dir))
	}()
	if err := h.handOver(); err != nil {
		t.Error(err)
	}
	if err := <-exchanged; err != nil {
		t.Fatal(err)
	}
	if ownerOf(t, victim) != 0 || ownerOf(t, filepath.Join(victim, "secret")) != 0 {
		t.Error("a file of root's was given away")
	}
	if ownerOf(t, filepath.Join(dir, "away", "a", "secret")) != uid {
		t.Error("the folder that it began with is not the service user's")
	}
}

// What others own or may write is not root's word, wherever it lies.
func TestPackageIsRootsAlone(t *testing.T) {
	h, uid := asRoot(t)
	file, sum := archive(t, honest...)
	for _, spoil := range []func(name string) error{
		func(name string) error { return os.Lchown(name, uid, uid) },
		func(name string) error { return os.Chmod(name, 0o666) },
		func(name string) error { return os.Chmod(name, 0o775) },
	} {
		for _, what := range []func(m Manifest) string{
			func(Manifest) string { return h.keep() }, func(Manifest) string { return h.manifestFile() },
			func(m Manifest) string { return h.archive(m) }, func(Manifest) string { return h.layoutFile() },
		} {
			if err := errors.Join(os.RemoveAll(h.Dir), os.RemoveAll(h.keep())); err != nil {
				t.Fatal(err)
			}
			m, err := h.Prepare(file, sum, quiet)
			if err != nil {
				t.Fatal(err)
			}
			if err := laid(h, "vm"); err != nil {
				t.Fatal(err)
			}
			name := what(m)
			if err := spoil(name); err != nil {
				t.Fatal(err)
			}
			err = laid(h, "vm")
			f := fault.From(err)
			if err == nil ||
				f.Class != fault.Agent &&
					(f.Class != fault.Config || name != h.keep()) { // it tells of its place, then
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}
