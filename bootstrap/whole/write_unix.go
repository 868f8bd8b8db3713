//go:build unix

// Package whole writes files that are whole or not there, however the VM ends meanwhile.
package whole

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

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

// overSize is what Over writes: it lies in one block.
const overSize = 256

// Over writes a few words into a file in place, so that one which is there needs no room: a full disk does not
// keep them from being written. After a power cut there may be half of them. Words of before are gone.
func Over(name, words string, mode os.FileMode) error {
	flags := os.O_WRONLY | os.O_CREATE | syscall.O_NOFOLLOW | syscall.O_NONBLOCK
	f, err := os.OpenFile(name, flags, mode) //nolint:gosec // the caller's
	if err != nil {
		return err
	}
	n, err := fmt.Fprintf(f, "%-*s\n", overSize-1, words)
	if err == nil {
		err = f.Truncate(int64(n))
	}
	return errors.Join(err, f.Close())
}

// Read reads a file.
func Read(name string) ([]byte, error) { return os.ReadFile(name) } //nolint:gosec // the caller's

// Patiently does something once: who uses a file keeps nobody else from it here.
func Patiently(do func() error) error { return do() }
