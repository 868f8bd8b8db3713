//go:build unix

package tree

import (
	"io/fs"
	"syscall"
)

// owners says whose a file is, and whether it has other names besides this one.
func owners(fi fs.FileInfo) (uid, gid int, others bool) {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, 0, false
	}
	return int(st.Uid), int(st.Gid), st.Nlink > 1
}

// waitsForNothing: neither for a pipe's writer nor through a link.
const waitsForNothing = syscall.O_NONBLOCK | syscall.O_NOFOLLOW
