//go:build unix

package agent

import (
	"errors"
	"io/fs"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// room is what others than root may still write where dir is, or will be.
func room(dir string) (Room, error) {
	at := dir
	var s unix.Statfs_t
	err := unix.Statfs(at, &s)
	for errors.Is(err, fs.ErrNotExist) && at != "/" {
		at = filepath.Dir(at)
		err = unix.Statfs(at, &s)
	}
	//nolint:gosec,unconvert // the types differ between systems
	return Room{Folder: dir, Free: s.Bavail * uint64(s.Bsize), Inodes: uint64(s.Ffree), All: s.Files}, err
}
