package agent

import (
	"errors"
	"strconv"
	"time"

	"golang.org/x/sys/windows"
)

func open(pid int) (windows.Handle, error) {
	return windows.OpenProcess(
		windows.PROCESS_QUERY_LIMITED_INFORMATION,
		false,
		uint32(pid),
	) //nolint:gosec // a number
}

// stillActive is STILL_ACTIVE: a process that has ended stays while others hold it open.
const stillActive = 259

// startTime identifies a process beyond its number: its creation time (GetProcessTimes); "" if
// there is none, it has ended, or it may not be looked at.
func startTime(pid int) string {
	h, err := open(pid)
	if err != nil {
		return ""
	}
	defer windows.CloseHandle(h) //nolint:errcheck // only read
	var created, exited, kernel, user windows.Filetime
	var code uint32
	if windows.GetExitCodeProcess(h, &code) != nil || code != stillActive {
		return ""
	}
	if windows.GetProcessTimes(h, &created, &exited, &kernel, &user) != nil {
		return ""
	}
	return strconv.FormatInt(created.Nanoseconds(), 10)
}

// visible reports whether this process may see whether another one runs.
func visible(pid int) bool {
	h, err := open(pid)
	if err == nil {
		_ = windows.CloseHandle(h)
	}
	return err == nil || errors.Is(err, windows.ERROR_INVALID_PARAMETER) // no such process
}

// changedAt is when a service's state changed last; Windows does not say.
func changedAt(string) time.Time { return time.Time{} }
