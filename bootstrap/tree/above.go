package tree

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Above shows each folder and link through which a name leads, the outermost folder first, as far
// as they exist. Who owns one of them decides what the name leads to. The name's own last part is
// not looked at.
func (t Tree) Above(name string, visit func(name string, fi fs.FileInfo)) error {
	top := filepath.VolumeName(name) + string(filepath.Separator)
	if t.root != nil {
		top = t.base
	}
	rel, err := filepath.Rel(top, filepath.Dir(filepath.Clean(name)))
	if err != nil {
		return err
	}
	here := top // no link is on the way there
	todo := append([]string{"."}, strings.Split(rel, string(filepath.Separator))...)
	for links := 0; len(todo) > 0; {
		at := here
		if todo[0] != ".." {
			at = filepath.Join(here, todo[0])
		} else if here != top {
			at = filepath.Dir(here)
		}
		todo = todo[1:]
		fi, err := t.Lstat(at)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		visit(at, fi)
		if fi.Mode()&fs.ModeSymlink == 0 {
			here = at
			continue
		}
		if links++; links > maxLinks {
			return &fs.PathError{Op: "lstat", Path: name, Err: errLoop}
		}
		to, err := t.readlink(at)
		if err != nil {
			return err
		}
		if to = to[len(filepath.VolumeName(to)):]; strings.HasPrefix(to, string(filepath.Separator)) {
			here = top
		}
		todo = append(strings.Split(to, string(filepath.Separator)), todo...)
	}
	return nil
}

func (t Tree) readlink(name string) (string, error) {
	if t.root == nil {
		return os.Readlink(name)
	}
	return within(t, "readlink", name, false, t.root.Readlink)
}
