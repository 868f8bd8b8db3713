//go:build !linux

package whole

import "os"

// WriteSpared is Write: no room is kept here.
func WriteSpared(name string, data []byte, mode os.FileMode) (spared bool, err error) {
	return false, Write(name, data, mode)
}

// HasSpare reports that no room is kept here.
func HasSpare(string) bool { return false }

// Full reports whether an error says that a disk has no room.
func Full(error) bool { return false }
