//go:build unix

package config

import (
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"syscall"
)

// What differs between systems: where the agent is and whom it runs as.
const (
	defaultDir   = "/opt/azp-agent"
	defaultUser  = "azp"
	defaultStart = "/etc/azp-bootstrap/start.d"
	defaultHooks = "/etc/azp-bootstrap/hooks.d"

	watchesDisk = true

	defaultMetadata = Deny
)

// writableByOthers says who besides root and the caller may write a file; "" if nobody.
func writableByOthers(fi fs.FileInfo) (who, fix string) {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok && st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		return fmt.Sprintf("its owner, the account %d, may write it", st.Uid), "chown root:"
	}
	if fi.Mode().Perm()&0o022 != 0 {
		return fmt.Sprintf("others may write it (mode %04o)", fi.Mode().Perm()), "chmod go-w"
	}
	return "", ""
}

// listedWriter: mode bits say it all here.
func listedWriter(string) (who, fix string) { return "", "" }

var accountName = regexp.MustCompile(`^([A-Za-z_][A-Za-z0-9_.@-]*\$?|[1-9][0-9]*)$`)
