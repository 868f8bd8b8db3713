// Package whole writes files that are whole or not there, however the VM ends meanwhile.
package whole

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/windows"
)

// Write writes a file under a hidden name beside it, and puts it in the file's place when it is on disk
// (MoveFileEx with MOVEFILE_WRITE_THROUGH: on NTFS the name leads to the old file or to the new one).
func Write(name string, data []byte, mode os.FileMode) error {
	hidden := hiddenName(name)
	err := writeThrough(func() (*os.File, error) { return os.OpenFile(hidden, newFile, mode) }, data)
	if err == nil {
		err = Patiently(func() error { return replace(hidden, name) })
	}
	if err != nil {
		_ = os.Remove(hidden)
		return &os.PathError{Op: "write", Path: name, Err: err}
	}
	return nil
}

const newFile = os.O_WRONLY | os.O_CREATE | os.O_EXCL

// hiddenName is as renameio makes them on other systems, by which Clear knows them.
func hiddenName(name string) string {
	return filepath.Join(filepath.Dir(name), fmt.Sprintf(".%s%d", filepath.Base(name), 1e18+rand.Int64N(8e18)))
}

func writeThrough(open func() (*os.File, error), data []byte) error {
	f, err := open()
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}

func replace(from, to string) error {
	f, err := windows.UTF16PtrFromString(from)
	if err != nil {
		return err
	}
	t, err := windows.UTF16PtrFromString(to)
	if err != nil {
		return err
	}
	return windows.MoveFileEx(f, t, windows.MOVEFILE_REPLACE_EXISTING|windows.MOVEFILE_WRITE_THROUGH)
}

// WriteIn is Write below a root.
func WriteIn(root *os.Root, name string, data []byte, mode os.FileMode) error {
	hidden := hiddenName(name)
	err := writeThrough(func() (*os.File, error) { return root.OpenFile(hidden, newFile, mode) }, data)
	if err == nil {
		err = Patiently(func() error { return root.Rename(hidden, name) })
	}
	if err != nil {
		_ = root.Remove(hidden)
	}
	return err
}

// Over is Write: nothing is written in place here.
func Over(name, words string, mode os.FileMode) error { return Write(name, []byte(words+"\n"), mode) }

// patience is how long another program may hold a file: one that scans for viruses, indexes, or backs up.
const patience = 5 * time.Second

// Patiently tries again for a while what others' use of a file prevents.
func Patiently(do func() error) error {
	pause := 10 * time.Millisecond
	for end := time.Now().Add(patience); ; pause = min(2*pause, 250*time.Millisecond) {
		err := do()
		if err == nil || !inUse(err) || time.Now().After(end) {
			return err
		}
		time.Sleep(pause)
	}
}

// inUse reports whether an error may be no more than another's use of the file. Windows says that access is
// denied of a file that is being deleted, or is replaced while it is open.
func inUse(err error) bool {
	return errors.Is(err, windows.ERROR_SHARING_VIOLATION) || errors.Is(err, windows.ERROR_LOCK_VIOLATION) ||
		errors.Is(err, windows.ERROR_ACCESS_DENIED) || errors.Is(err, windows.ERROR_USER_MAPPED_FILE) ||
		errors.Is(err, windows.ERROR_DELETE_PENDING)
}

// Read reads a file that may be written at the same moment.
func Read(name string) (data []byte, err error) {
	err = Patiently(func() (err error) {
		data, err = os.ReadFile(name) //nolint:gosec // the caller's
		return err
	})
	return data, err
}
