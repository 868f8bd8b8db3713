//go:build unix && !linux

package secret

import "golang.org/x/sys/unix"

// Harden keeps this process's memory out of core dumps.
func Harden() error { return unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}) }
