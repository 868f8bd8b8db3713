package bootstrap

import (
	"context"
	"os"
	"slices"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
)

// shuttingDown reports whether the whole system goes, for good as far as it can be told. A restart
// of the service is no shutdown, and a reboot is no end. Where there is no systemd (a container),
// the end of the daemon is the end of the machine.
//
// systemd is asked over D-Bus: it ends every process of the daemon's control group, and a systemctl
// that is started now as well.
func shuttingDown(context.Context) bool {
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		return true
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := dbus.NewWithContext(ctx)
	if err != nil {
		return false
	}
	defer c.Close()
	state, err := c.SystemStateContext(ctx)
	if err != nil || state.Value.Value() != "stopping" {
		return false
	}
	jobs, err := c.ListJobsContext(ctx)
	return err == nil && !slices.ContainsFunc(jobs, func(j dbus.JobStatus) bool {
		return slices.Contains([]string{"reboot.target", "kexec.target", "soft-reboot.target"}, j.Unit)
	})
}
