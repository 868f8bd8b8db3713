//go:build unix

// Package whole writes files that are whole or not there, however the VM ends meanwhile.
package whole

import (
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
)

// Write writes a file under a hidden name beside it, and renames it when it is on disk. (Left to
// itself, renameio looks each time whether /tmp would do, by making and renaming two files more:
// that takes longer than the rest.)
func Write(name string, data []byte, mode os.FileMode) error {
	return renameio.WriteFile(name, data, mode, renameio.WithTempDir(filepath.Dir(name)))
}

// WriteIn is Write below a root.
func WriteIn(root *os.Root, name string, data []byte, mode os.FileMode) error {
	dir, err := root.OpenRoot(filepath.Dir(name))
	if err != nil {
		return err
	}
	defer dir.Close() //nolint:errcheck // nothing pending
	return renameio.WriteFile(filepath.Base(name), data, mode, renameio.WithRoot(dir))
}

// Read reads a file.
func Read(name string) ([]byte, error) { return os.ReadFile(name) } //nolint:gosec // the caller's

// Patiently does something once: who uses a file keeps nobody else from it here.
func Patiently(do func() error) error { return do() }
