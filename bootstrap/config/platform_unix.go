//go:build unix

package config

import (
	"io/fs"
	"regexp"
)

// What differs between systems: where the agent is and whom it runs as.
const (
	defaultDir  = "/opt/azp-agent"
	defaultUser = "azp"
)

func writableByOthers(fi fs.FileInfo) bool { return fi.Mode().Perm()&0o022 != 0 }

var accountName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]{0,30}\$?$`)
