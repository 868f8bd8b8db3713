//go:build unix

package agent

import (
	"errors"
	"io/fs"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// FreeSpace is how many bytes others than root may still write where dir is, or will be.
func FreeSpace(dir string) (uint64, error) {
	var s unix.Statfs_t
	err := unix.Statfs(dir, &s)
	for errors.Is(err, fs.ErrNotExist) && dir != "/" {
		dir = filepath.Dir(dir)
		err = unix.Statfs(dir, &s)
	}
	return s.Bavail * uint64(s.Bsize), err //nolint:gosec,unconvert // the types differ between systems
}
