package agent

import (
	"context"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// What is read ahead at most, and the share of the memory that is free.
const (
	warmMost  = 512 << 20
	warmShare = 4
)

// Warm has the kernel read the agent's programs into the page cache, at idle priority, while the
// boot waits for the network: config.sh's own start, hundreds of files of .NET from a cold disk, is
// the longest part of a first boot. It returns how many bytes were asked for; what goes wrong costs
// nothing but the time that it would have saved.
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
	w := warming{ctx: ctx, most: most}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread goes with its priority
		const whoThread, classIdle = 1, 3 << 13
		_, _, _ = unix.Syscall(unix.SYS_IOPRIO_SET, whoThread, 0, classIdle)
		for _, name := range []string{"bin", "externals"} {
			if dir, err := root.Open(name); err == nil {
				w.folder(int(dir.Fd()), ".", name == "bin")
				_ = dir.Close()
			}
		}
	}()
	<-done
	return w.asked
}

// warming is what is left to read ahead.
type warming struct {
	ctx         context.Context
	asked, most int64
}

// folder reads ahead what is in the folder name in the open folder at; if it holds no programs,
// what is in a folder bin below it. The system is asked without more ado, since each boot pays for
// each of some hundred files: a name in an open folder leads nowhere else unless it is a link,
// which is not followed.
func (w *warming) folder(at int, name string, programs bool) {
	fd, err := unix.Openat(at, name, readOnly|unix.O_DIRECTORY, 0)
	if err != nil {
		return
	}
	dir := os.NewFile(uintptr(fd), name)
	defer dir.Close() //nolint:errcheck // only read
	entries, _ := dir.ReadDir(-1)
	for _, e := range entries {
		switch {
		case w.ctx.Err() != nil || w.asked >= w.most:
			return
		case e.IsDir():
			w.folder(fd, e.Name(), programs || e.Name() == "bin")
		case e.Type().IsRegular() && programs:
			w.asked += readAhead(fd, e.Name())
		}
	}
}

const readOnly = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC

func readAhead(at int, name string) int64 {
	fd, err := unix.Openat(at, name, readOnly, 0)
	if err != nil {
		return 0
	}
	defer unix.Close(fd) //nolint:errcheck // only read
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || unix.Fadvise(fd, 0, 0, unix.FADV_WILLNEED) != nil {
		return 0
	}
	return st.Size
}
