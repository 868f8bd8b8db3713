// Package whole writes files that are whole or not there, however the VM ends meanwhile.
package whole

import (
	"os"

	"github.com/google/renameio/v2/maybe"
)

// Write writes a file; Windows cannot rename one over another and be sure of it.
func Write(name string, data []byte, mode os.FileMode) error {
	return maybe.WriteFile(name, data, mode)
}

// WriteIn is Write below a root.
func WriteIn(root *os.Root, name string, data []byte, mode os.FileMode) error {
	return root.WriteFile(name, data, mode)
}
