package whole

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// spareSize is what a spare file has at least.
const spareSize = 64 << 10

// Full reports whether an error says that a disk has no room: no blocks, no inodes, or none for this account.
func Full(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }

// WriteSpared is Write for a file that a full disk must not keep from being written. While there is room, some
// is kept: two spare files beside it. On a full disk the data are written over one of these, which takes neither
// a block nor an inode, and the two names are exchanged; spared says that it was so. The file is then as long as
// the spare was, and ends in newlines. It is whole at each instant, as with Write; but what was the file is
// written over later: who reads it by then looks whether it is still the file.
//
// A file system that writes nothing in place (btrfs), or exchanges no names (NFS), keeps no room that way.
func WriteSpared(name string, data []byte, mode os.FileMode) (spared bool, err error) {
	err = Write(name, data, mode)
	if err == nil {
		keepRoom(name, len(data), mode)
		return false, nil
	}
	if !Full(err) {
		return false, err
	}
	spare := fitting(name, len(data))
	if spare == "" {
		return false, err
	}
	if e := takeSpare(name, spare, data); e != nil {
		return false, fmt.Errorf("%w; nor in the room that is kept for it: %w", err, e)
	}
	return true, nil
}

// keepRoom makes the spares that are missing or too short. Where there is no room for them it is tried again
// with the next write.
func keepRoom(name string, n int, mode os.FileMode) {
	size := spareSize
	for size < n {
		size *= 2
	}
	for _, spare := range Spares(name) {
		if !fits(spare, size) {
			_ = Write(spare, bytes.Repeat([]byte("\n"), size), mode)
		}
	}
}

// HasSpare reports whether room is kept for a file.
func HasSpare(name string) bool { return fitting(name, 0) != "" }

// fitting is a spare with room for n bytes; "" if there is none.
func fitting(name string, n int) string {
	for _, spare := range Spares(name) {
		if fits(spare, max(n, spareSize)) {
			return spare
		}
	}
	return ""
}

// fits reports whether a file is one of our own, under this name alone: what is written over it is written over
// nobody's.
func fits(spare string, size int) bool {
	fi, err := os.Lstat(spare)
	if err != nil || !fi.Mode().IsRegular() || fi.Size() < int64(size) {
		return false
	}
	sys, ok := fi.Sys().(*syscall.Stat_t)
	return ok && sys.Nlink == 1 && int(sys.Uid) == os.Geteuid()
}

// takeSpare lets a spare become the file, and the file the spare.
func takeSpare(name, spare string, data []byte) error {
	// Before a byte of it changes: an exchange that is not on disk yet could be undone by a power cut, and the
	// spare would be the file again.
	if err := syncFolder(name); err != nil {
		return err
	}
	if err := fill(spare, data); err != nil {
		return err
	}
	if err := exchange(spare, name); err != nil {
		return err
	}
	return syncFolder(name)
}

// fill writes data over a spare, on disk, and newlines over the rest of it.
func fill(spare string, data []byte) error {
	f, err := os.OpenFile(spare, os.O_WRONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0) //nolint:gosec // the caller's
	if err != nil {
		return err
	}
	fi, err := f.Stat()
	if err == nil {
		rest := max(0, int(fi.Size())-len(data))
		_, err = f.WriteAt(append(data[:len(data):len(data)], bytes.Repeat([]byte("\n"), rest)...), 0)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// exchange puts a spare in the file's place, whether that is taken or not.
func exchange(spare, name string) error {
	err := unix.Renameat2(unix.AT_FDCWD, spare, unix.AT_FDCWD, name, unix.RENAME_EXCHANGE)
	if errors.Is(err, unix.ENOENT) {
		return os.Rename(spare, name)
	}
	if err != nil {
		return &os.LinkError{Op: "exchange", Old: spare, New: name, Err: err}
	}
	return nil
}

func syncFolder(name string) error {
	dir, err := os.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
