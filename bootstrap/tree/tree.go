// Package tree is the file system of an image that is mounted in a folder. A link inside the image
// is read as the image's own system would read it: an absolute one begins at the image's root, and
// ".." does not lead above that. What is opened, written or removed is so through os.Root: nothing
// outside the folder is ever touched, whatever the image holds.
package tree

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"azp-bootstrap/bootstrap/whole"
)

// A Tree is the files below a folder. Names are given with the folder's own in front, as they are
// shown to people. The zero Tree is this machine, and its names are what they always are.
type Tree struct {
	root *os.Root
	base string
}

// Open opens the tree of an image.
func Open(dir string) (Tree, error) {
	dir = filepath.Clean(dir)
	root, err := os.OpenRoot(dir)
	return Tree{root, dir}, err
}

// Close lets go of the folder.
func (t Tree) Close() error {
	if t.root == nil {
		return nil
	}
	return t.root.Close()
}

// Name is how a path of the image's own is given here: "/etc" as "/mnt/etc".
func (t Tree) Name(inside string) string {
	if t.root == nil {
		return filepath.FromSlash(inside)
	}
	return filepath.Join(t.base, inside[len(filepath.VolumeName(inside)):])
}

// maxLinks is how many links one name may lead through, as on Linux (path_resolution(7)).
const maxLinks = 40

var errLoop = errors.New("too many levels of symbolic links")

// inside finds where a name leads: below the root, without links on the way. The last part may be
// one unless last asks to go through it, too. What does not exist is taken as it is written.
func (t Tree) inside(op, name string, last bool) (string, error) {
	rel, err := filepath.Rel(t.base, name)
	if err != nil || !filepath.IsLocal(rel) {
		return "", &fs.PathError{Op: op, Path: name, Err: errors.New("not below " + t.base)}
	}
	todo := strings.Split(filepath.ToSlash(rel), "/")
	at := "."
	for links := 0; len(todo) > 0; {
		part := todo[0]
		todo = todo[1:]
		if part == ".." {
			at = path.Dir(at) // of the root: the root
		}
		if part == "" || part == "." || part == ".." {
			continue
		}
		here := path.Join(at, part)
		to, err := t.root.Readlink(here)
		if err != nil || len(todo) == 0 && !last { // no link, or not there
			at = here
			continue
		}
		if links++; links > maxLinks {
			return "", &fs.PathError{Op: op, Path: name, Err: errLoop}
		}
		if to = filepath.ToSlash(to[len(filepath.VolumeName(to)):]); path.IsAbs(to) {
			at = "."
		}
		todo = append(strings.Split(to, "/"), todo...)
	}
	return at, nil
}

// Real is the name that a name leads to, through every link.
func (t Tree) Real(name string) (string, error) {
	if t.root == nil {
		return filepath.EvalSymlinks(name)
	}
	at, err := t.inside("readlink", name, true)
	return filepath.Join(t.base, filepath.FromSlash(at)), err
}

// within does something at the place inside the root that a name leads to.
func within[T any](t Tree, op, name string, last bool, do func(at string) (T, error)) (T, error) {
	at, err := t.inside(op, name, last)
	if err != nil {
		var none T
		return none, err
	}
	done, err := do(filepath.FromSlash(at))
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = &fs.PathError{Op: op, Path: name, Err: pe.Err} // with the name that people know
	}
	return done, err
}

func within0(t Tree, op, name string, last bool, do func(at string) error) error {
	_, err := within(t, op, name, last, func(at string) (struct{}, error) { return struct{}{}, do(at) })
	return err
}

// Lstat looks at a file, or at a link itself.
func (t Tree) Lstat(name string) (fs.FileInfo, error) {
	if t.root == nil {
		return os.Lstat(name)
	}
	return within(t, "lstat", name, false, t.root.Lstat)
}

// Stat looks at what a name leads to.
func (t Tree) Stat(name string) (fs.FileInfo, error) {
	if t.root == nil {
		return os.Stat(name)
	}
	return within(t, "stat", name, true, t.root.Lstat)
}

// Open opens a file or folder for reading. In an image a pipe or a device is refused: its driver,
// or whoever writes to it, is this machine's.
func (t Tree) Open(name string) (*os.File, error) {
	if t.root == nil {
		return os.Open(name) //nolint:gosec // the caller's
	}
	if fi, err := t.Stat(name); err == nil && !fi.Mode().IsRegular() && !fi.IsDir() {
		return nil, &fs.PathError{Op: "open", Path: name, Err: errors.New("neither file nor folder")}
	}
	return within(t, "open", name, true, t.root.Open)
}

// ReadFile reads a file.
func (t Tree) ReadFile(name string) ([]byte, error) {
	if t.root == nil {
		return whole.Read(name)
	}
	f, err := t.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	return within(t, "read", name, true, t.root.ReadFile)
}

// ReadDir lists a folder by name.
func (t Tree) ReadDir(name string) ([]fs.DirEntry, error) {
	if t.root == nil {
		return os.ReadDir(name)
	}
	f, err := t.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	entries, err := f.ReadDir(-1)
	return entries, err
}

// Glob is filepath.Glob. A link that leads nowhere is found as well.
func (t Tree) Glob(pattern string) ([]string, error) {
	if t.root == nil {
		return filepath.Glob(pattern)
	}
	rel, err := filepath.Rel(t.base, pattern)
	if err != nil {
		return nil, err
	}
	names, err := fs.Glob(names{t}, filepath.ToSlash(rel))
	for i := range names {
		names[i] = filepath.Join(t.base, filepath.FromSlash(names[i]))
	}
	return names, err
}

// Walk is filepath.WalkDir, but where dir is a link, it goes through the folder that this leads to.
func (t Tree) Walk(dir string, visit fs.WalkDirFunc) error {
	real, err := t.Real(dir)
	if err != nil {
		return visit(dir, nil, err)
	}
	if t.root == nil {
		return filepath.WalkDir(real, visit)
	}
	rel, err := filepath.Rel(t.base, real)
	if err != nil {
		return err
	}
	return fs.WalkDir(names{t}, filepath.ToSlash(rel), func(name string, d fs.DirEntry, err error) error {
		return visit(filepath.Join(t.base, filepath.FromSlash(name)), d, err)
	})
}

// Remove removes a file, an empty folder or a link itself.
func (t Tree) Remove(name string) error {
	if t.root == nil {
		return whole.Patiently(func() error { return os.Remove(name) })
	}
	return within0(t, "remove", name, false, t.root.Remove)
}

// RemoveAll removes a folder with all that is in it, or a link itself.
func (t Tree) RemoveAll(name string) error {
	if t.root == nil {
		return whole.Patiently(func() error { return os.RemoveAll(name) })
	}
	return within0(t, "remove", name, false, t.root.RemoveAll)
}

// Rename moves a file or folder.
func (t Tree) Rename(from, to string) error {
	if t.root == nil {
		return whole.Patiently(func() error { return os.Rename(from, to) })
	}
	return within0(t, "rename", from, false, func(old string) error {
		return within0(t, "rename", to, false, func(place string) error { return t.root.Rename(old, place) })
	})
}

// Write writes a file whole (see package whole).
func (t Tree) Write(name string, data []byte, mode os.FileMode) error {
	if t.root == nil {
		return whole.Write(name, data, mode)
	}
	return within0(t, "write", name, true, func(at string) error { return whole.WriteIn(t.root, at, data, mode) })
}

// Empty empties a file in place, so that who writes to it goes on. In an image, one that has other
// names (hard links) is replaced: those may lie outside the image.
func (t Tree) Empty(name string) error {
	if t.root == nil {
		return os.Truncate(name, 0)
	}
	fi, err := t.Stat(name)
	if err == nil && !fi.Mode().IsRegular() {
		err = &fs.PathError{Op: "truncate", Path: name, Err: errors.New("not a regular file")}
	}
	if err != nil {
		return err
	}
	if uid, gid, others := owners(fi); others {
		if err := t.Write(name, nil, fi.Mode().Perm()); err != nil {
			return err
		}
		return within0(t, "chown", name, true, func(at string) error { return t.root.Lchown(at, uid, gid) })
	}
	return within0(t, "truncate", name, true, func(at string) error {
		f, err := t.root.OpenFile(at, os.O_WRONLY|os.O_TRUNC, 0)
		if err != nil {
			return err
		}
		return f.Close()
	})
}

// Make makes a new folder, to be filled.
func (t Tree) Make(name string, mode os.FileMode) (*os.Root, error) {
	if t.root == nil {
		if err := os.Mkdir(name, mode); err != nil {
			return nil, err
		}
		return os.OpenRoot(name)
	}
	return within(t, "mkdir", name, false, func(at string) (*os.Root, error) {
		if err := t.root.Mkdir(at, mode); err != nil {
			return nil, err
		}
		return t.root.OpenRoot(at)
	})
}

// names shows a tree as the standard library's functions over file systems want it. (It embeds
// nothing: fs.Glob would take a Glob for its own.)
type names struct{ t Tree }

func (n names) full(name string) string { return filepath.Join(n.t.base, filepath.FromSlash(name)) }

func (n names) Open(name string) (fs.File, error)          { return n.t.Open(n.full(name)) }
func (n names) Stat(name string) (fs.FileInfo, error)      { return n.t.Lstat(n.full(name)) }
func (n names) ReadDir(name string) ([]fs.DirEntry, error) { return n.t.ReadDir(n.full(name)) }
