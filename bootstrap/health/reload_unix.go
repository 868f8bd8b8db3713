//go:build !windows

package health

import "syscall"

// reload is what systemctl reload does.
func reload(pid int) error { return syscall.Kill(pid, syscall.SIGHUP) }
