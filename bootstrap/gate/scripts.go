package gate

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	"azp-bootstrap/bootstrap/config"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/tree"
)

// scriptName are the names that run-parts(8) takes: those of editors' and packages' leftovers have a
// dot or a tilde.
var scriptName = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// An Ignored is a file of the scripts' folder that is not run.
type Ignored struct{ Name, Why string }

// Scripts are the scripts of a folder in the order in which they are run, and what else is there. A
// folder that is missing has none. What others could have written is refused: who runs this is root.
func Scripts(dir string) (names []string, ignored []Ignored, err error) {
	return scripts(dir, "start scripts")
}

// scripts is Scripts; what is what they are called.
func scripts(dir, what string) (names []string, ignored []Ignored, err error) {
	if dir == "" {
		return nil, nil, nil
	}
	entries, err := os.ReadDir(dir) // sorted by name
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, unreadable(dir, what, err)
	}
	for _, e := range entries {
		fi, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, nil, unreadable(dir, what, err)
		}
		if why := unfit(e.Name(), fi); why != "" {
			ignored = append(ignored, Ignored{e.Name(), why})
			continue
		}
		if err := guarded(filepath.Join(dir, e.Name()), what, fi); err != nil {
			return nil, nil, err
		}
		names = append(names, e.Name())
	}
	if len(names) == 0 {
		return nil, ignored, nil
	}
	return names, ignored, guardedAbove(dir, what)
}

// unfit says why a file is no script; "" if it is one.
func unfit(name string, fi fs.FileInfo) string {
	switch {
	case !scriptName.MatchString(name):
		return "its name has other characters than letters, digits, _ and -"
	case !fi.Mode().IsRegular():
		return "it is no regular file"
	case fi.Mode().Perm()&0o100 == 0:
		return "it is not executable (chmod +x)"
	}
	return ""
}

// guarded refuses what others may write.
func guarded(name, what string, fi fs.FileInfo) error {
	who, fix := config.WritableByOthers(fi)
	if who == "" {
		return nil
	}
	return fault.New(fault.Start, "%s: %s, and %s are run as root", name, who, what).Hint("Run: %s %s", fix, name)
}

// guardedAbove refuses a folder that others may write, or put another in the place of. What is root's
// nobody else moves out of a folder above that is sticky, such as /tmp.
func guardedAbove(dir, what string) error {
	type step struct {
		name string
		fi   fs.FileInfo
	}
	var way []step
	if err := (tree.Tree{}).Above(filepath.Join(dir, "x"), func(name string, fi fs.FileInfo) {
		way = append(way, step{name, fi})
	}); err != nil {
		return unreadable(dir, what, err)
	}
	for i, s := range way {
		isLink, above := s.fi.Mode()&fs.ModeSymlink != 0, i+1 < len(way)
		if isLink || above && s.fi.Mode()&fs.ModeSticky != 0 {
			s.fi = unwritable{s.fi}
		}
		if err := guarded(s.name, what, s.fi); err != nil {
			return err
		}
	}
	return nil
}

// unwritable is a file of which the owner counts alone.
type unwritable struct{ fs.FileInfo }

func (u unwritable) Mode() fs.FileMode { return u.FileInfo.Mode() &^ 0o022 }

func unreadable(dir, what string, err error) error {
	return fault.New(fault.Start, "the folder of %s %s", what, dir).Because(err).
		Hint("Check its rights; run as root.")
}
