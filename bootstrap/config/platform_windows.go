package config

import (
	"io/fs"
	"regexp"

	"azp-bootstrap/bootstrap/acl"
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

// writableByOthers: mode bits say nothing here; see listedWriter.
func writableByOthers(fs.FileInfo) (who, fix string) { return "", "" }

// listedWriter says who may write a file by its access control list.
func listedWriter(path string) (who, fix string) {
	who, err := acl.Others(path)
	switch {
	case err != nil:
		return "who may write it cannot be seen: " + err.Error(), "Run it as an administrator."
	case who != "":
		return who + " may write it", "azp-bootstrap install, and prepare, mend the usual folder. Or run: " + acl.Mend(path)
	}
	return "", ""
}

var accountName = regexp.MustCompile(`^([A-Za-z0-9 _.-]+\\)?[A-Za-z0-9 _.-]{1,64}\$?$`)
