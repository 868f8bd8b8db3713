package tree

import (
	"errors"
	"io"
	"io/fs"
	"os"
)

// ReadPlain reads a regular file, of at most so many bytes, on a machine that others use: it waits
// for nothing that they could put in its place. What claims to be empty is taken so: files of the
// kernel's own (/proc/kmsg, trace_pipe) do, and some have their reader wait for ever.
func (t Tree) ReadPlain(name string, most int64) ([]byte, error) {
	real, err := t.Real(name)
	if err != nil {
		return nil, err
	}
	if fi, err := t.Lstat(real); err != nil || !fi.Mode().IsRegular() { // opening a device may do something
		return nil, errors.Join(err, &fs.PathError{Op: "read", Path: name, Err: errNotPlain})
	}
	var f *os.File
	if t.root == nil {
		f, err = os.OpenFile(real, os.O_RDONLY|waitsForNothing, 0) //nolint:gosec // the caller's
	} else {
		f, err = within(t, "open", real, false, func(at string) (*os.File, error) {
			return t.root.OpenFile(at, os.O_RDONLY|waitsForNothing, 0)
		})
	}
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	fi, err := f.Stat()
	if err != nil || fi.Mode().IsRegular() && fi.Size() == 0 {
		return nil, err
	}
	if !fi.Mode().IsRegular() || fi.Size() > most {
		return nil, &fs.PathError{Op: "read", Path: name, Err: errNotPlain}
	}
	return io.ReadAll(io.LimitReader(f, most))
}

var errNotPlain = errors.New("not a regular file of a size that is read")
