//go:build !windows

package main

import (
	"fmt"
	"io/fs"
	"syscall"
)

// owner is a file's user and group, by number.
func owner(fi fs.FileInfo) string {
	if s, ok := fi.Sys().(*syscall.Stat_t); ok {
		return fmt.Sprintf(" %d:%d", s.Uid, s.Gid)
	}
	return ""
}
