package secret

import "golang.org/x/sys/unix"

// Harden keeps this process's memory out of core dumps and out of reach of other processes of the
// same user (prctl(2) PR_SET_DUMPABLE: no core, no ptrace, /proc/PID/mem owned by root). Children
// inherit the core limit of 0.
func Harden() error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return err
	}
	return unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
}
