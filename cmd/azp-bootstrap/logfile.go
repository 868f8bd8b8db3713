package main

import (
	"os"
	"path/filepath"
	"sync"
)

// logName is the daemon's log in the state folder, where a service writes one (Windows).
const logName = "azp-bootstrap.log"

// A log's file is renamed when it has so many bytes; the one before goes.
const largestLog = 5 << 20

// rotating is a log file that is never larger than twice its bound, with the one before.
type rotating struct {
	name    string
	largest int64
	made    func(name string) error // of each new file; nil = nothing

	mu   sync.Mutex
	file *os.File
	size int64
}

func openRotating(name string, made func(name string) error) (*rotating, error) {
	r := &rotating{name: name, largest: largestLog, made: made}
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil { //nolint:gosec // the state folder: status is for everyone
		return nil, err
	}
	return r, r.open()
}

func (r *rotating) open() (err error) {
	r.file, err = os.OpenFile(r.name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640) //nolint:gosec // the state folder's
	if err != nil {
		return err
	}
	fi, err := r.file.Stat()
	if err == nil {
		r.size = fi.Size()
	}
	if err == nil && r.size == 0 && r.made != nil {
		err = r.made(r.name)
	}
	return err
}

// Write writes an entry whole into one file. If the file cannot be renamed (somebody reads it without
// sharing), it grows.
func (r *rotating) Write(entry []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.size > 0 && r.size+int64(len(entry)) > r.largest {
		_ = r.file.Close()
		_ = os.Rename(r.name, r.name+".1")
		if err := r.open(); err != nil {
			return 0, err
		}
	}
	n, err := r.file.Write(entry)
	r.size += int64(n)
	return n, err
}
