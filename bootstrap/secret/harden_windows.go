package secret

import "golang.org/x/sys/windows"

// Harden keeps Windows Error Reporting from showing a dialog for, and dumping, this process.
func Harden() error {
	windows.SetErrorMode(windows.SEM_FAILCRITICALERRORS | windows.SEM_NOGPFAULTERRORBOX)
	return nil
}
