package config

import (
	"io/fs"
	"regexp"
)

// What differs between systems: where the agent is and whom it runs as. Without an account
// it is NETWORK SERVICE.
const (
	defaultDir   = `C:\azp-agent`
	defaultUser  = ""
	defaultStart = "" // there is no gate here
	defaultHooks = "" // nor are there hooks

	watchesDisk = false // inodes, and scripts of root's, are not for Windows

	defaultMetadata = Allow // there is no wall here
)

// Windows keeps rights in access control lists, which Go's mode bits do not show; ProgramData's own
// are inherited there.
func writableByOthers(fs.FileInfo) (who, fix string) { return "", "" }

var accountName = regexp.MustCompile(`^([A-Za-z0-9 _.-]+\\)?[A-Za-z0-9 _.-]{1,64}\$?$`)
