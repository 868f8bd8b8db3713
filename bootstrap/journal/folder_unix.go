//go:build unix

package journal

import "os"

// makeFolder makes the state folder.
func makeFolder(dir string) error {
	return os.MkdirAll(dir, 0o755) //nolint:gosec // status is for everyone; nothing in it is secret
}
