package agent

import (
	"context"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
)

// visible reports whether this process may see whether another one runs. Where /proc is mounted
// with hidepid (proc(5)), others' processes look as if they were not there; a signal still finds
// them.
func visible(pid int) bool {
	if _, err := os.Stat(fmt.Sprintf("/proc/%d/stat", pid)); err == nil {
		return true
	}
	return syscall.Kill(pid, 0) == syscall.ESRCH
}

// changedAt is when systemd saw a unit's state change last; zero if it does not say.
func changedAt(name string) time.Time {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := dbus.NewWithContext(ctx)
	if err != nil {
		return time.Time{}
	}
	defer c.Close()
	p, err := c.GetUnitPropertyContext(ctx, name, "StateChangeTimestamp")
	if err != nil {
		return time.Time{}
	}
	if µs, _ := p.Value.Value().(uint64); µs != 0 {
		return time.UnixMicro(int64(µs)).UTC() //nolint:gosec // a time of this age
	}
	return time.Time{}
}
