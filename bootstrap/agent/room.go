package agent

import (
	"fmt"
	"path/filepath"

	"github.com/dustin/go-humanize"

	"azp-bootstrap/bootstrap/fault"
)

// Room is what may still be written on the disk of a folder.
type Room struct {
	Folder string
	Free   uint64 // bytes
	Inodes uint64 // that are free
	All    uint64 // inodes; 0: this file system does not count them
}

// Short says what is lacking of so many bytes, and so many inodes in a hundred; "" if nothing is.
func (r Room) Short(bytes uint64, percent int) string {
	switch {
	case r.Free < bytes:
		return fmt.Sprintf("%s has %s free, less than %s", r.Folder, humanize.IBytes(r.Free), humanize.IBytes(bytes))
	case r.All > 0 && r.percent() < float64(percent):
		return fmt.Sprintf("%s has %.1f%% of its inodes free, less than %d%%", r.Folder, r.percent(), percent)
	}
	return ""
}

func (r Room) percent() float64 { return float64(r.Inodes) * 100 / float64(r.All) }

func (r Room) String() string {
	inodes := ""
	if r.All > 0 {
		inodes = fmt.Sprintf(" and %.0f%% of the inodes", r.percent())
	}
	return fmt.Sprintf("%s%s free for %s", humanize.IBytes(r.Free), inodes, r.Folder)
}

// Room is how much may be written in a folder, below the agent's own ("" = that one) or absolute,
// where it is or will be.
func (h Home) Room(name string) (Room, error) {
	folder := h.folder(name)
	if err := h.mounted(name); err != nil {
		return Room{Folder: folder}, err
	}
	r, err := room(folder)
	if err != nil {
		return r, fault.New(fault.Agent, "free space of %s", folder).Because(err).Hint("Run as root.")
	}
	return r, nil
}

// folder is a folder of the configuration's: absolute, or below the agent's own.
func (h Home) folder(name string) string {
	if filepath.IsAbs(name) {
		return filepath.Clean(name)
	}
	return filepath.Join(h.Dir, name)
}
