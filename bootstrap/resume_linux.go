package bootstrap

import (
	"time"

	"golang.org/x/sys/unix"
)

// sleptSinceBoot is by how much CLOCK_BOOTTIME, which counts sleep, is ahead of CLOCK_MONOTONIC
// (clock_gettime(2)).
func sleptSinceBoot() time.Duration {
	var with, without unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &with) != nil || unix.ClockGettime(unix.CLOCK_MONOTONIC, &without) != nil {
		return 0
	}
	return time.Duration(with.Nano() - without.Nano())
}
