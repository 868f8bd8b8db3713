//go:build unix

// Package whole writes files that are whole or not there, however the VM ends meanwhile.
package whole

import (
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
)

// Write writes a file under a hidden name beside it, and renames it when it is on disk. (Left to itself, renameio looks each
// time whether /tmp would do, by making and renaming two files more: that takes longer than the rest.)
func Write(name string, data []byte, mode os.FileMode) error {
	return renameio.WriteFile(name, data, mode, renameio.WithTempDir(filepath.Dir(name)))
}
