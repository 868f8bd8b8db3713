package journal

import (
	"errors"
	"io/fs"
	"os"

	"azp-bootstrap/bootstrap/acl"
	"azp-bootstrap/bootstrap/fault"
)

// makeFolder makes the state folder, which administrators alone may write, and refuses one that others may: they
// could say where this VM stands.
func makeFolder(dir string) error {
	_, err := os.Stat(dir)
	fresh := errors.Is(err, fs.ErrNotExist)
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // status is for everyone
		return err
	}
	if fresh {
		if err := acl.Protect(dir); err != nil {
			return err
		}
	}
	who, err := acl.Others(dir)
	if err == nil && who != "" {
		return fault.New(fault.State, "%s may write the state folder %s", who, dir).Hint("%s", "Run: "+acl.Mend(dir))
	}
	return err
}
