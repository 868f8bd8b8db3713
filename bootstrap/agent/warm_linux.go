package agent

import (
	"context"
	"io/fs"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// What is read ahead at most, and the share of the memory that is free.
const (
	warmMost  = 512 << 20
	warmShare = 4
)

// Warm has the kernel read the agent's programs into the page cache, at idle priority, while the boot waits for
// the network: config.sh's own start, hundreds of files of .NET from a cold disk, is the longest part of a first
// boot. It returns how many bytes were asked for; what goes wrong costs nothing but the time that it would have
// saved.
func (h Home) Warm(ctx context.Context) (asked int64) {
	most := int64(warmMost)
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		most = min(most, int64(uint64(info.Freeram)*uint64(info.Unit)/warmShare)) //nolint:gosec // bytes of memory
	}
	root, err := os.OpenRoot(h.Dir) // whose links lead nowhere else: jobs may have been here
	if err != nil {
		return 0
	}
	defer root.Close() //nolint:errcheck // only read
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread goes with its priority
		const whoThread, classIdle = 1, 3 << 13
		_, _, _ = unix.Syscall(unix.SYS_IOPRIO_SET, whoThread, 0, classIdle)
		for _, dir := range []string{"bin", "externals"} {
			below, err := root.OpenRoot(dir) // one folder less to look up for each file
			if err != nil {
				continue
			}
			_ = fs.WalkDir(below.FS(), ".", func(name string, d fs.DirEntry, err error) error {
				if ctx.Err() != nil || asked >= most {
					return fs.SkipAll
				}
				if err != nil || !d.Type().IsRegular() || dir == "externals" && !strings.Contains(name, "/bin/") {
					return nil //nolint:nilerr // what cannot be looked at is not read
				}
				asked += readAhead(below, name)
				return nil
			})
			_ = below.Close()
		}
	}()
	<-done
	return asked
}

func readAhead(root *os.Root, name string) int64 {
	f, err := root.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return 0
	}
	defer f.Close() //nolint:errcheck // only read
	fi, err := f.Stat()
	if err != nil || unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_WILLNEED) != nil {
		return 0
	}
	return fi.Size()
}
