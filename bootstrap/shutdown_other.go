//go:build !linux

package bootstrap

// shuttingDown cannot tell here: the end of the service is not the end of the machine.
func shuttingDown() bool { return false }
