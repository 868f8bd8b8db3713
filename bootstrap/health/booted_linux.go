package health

import (
	"time"

	"golang.org/x/sys/unix"
)

// Booted is when this system started; zero if nobody knows. In a container it is the host.
func Booted() time.Time {
	var up unix.Sysinfo_t
	if unix.Sysinfo(&up) != nil {
		return time.Time{}
	}
	return time.Now().Add(-time.Duration(up.Uptime) * time.Second)
}
