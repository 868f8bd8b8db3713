// Package systemd carries the project's own unit into the binary, so that `azp-bootstrap install`
// and the packages install the same.
package systemd

import _ "embed"

// Unit is azp-bootstrap.service; its ExecStart names /usr/bin/azp-bootstrap.
//
//go:embed azp-bootstrap.service
var Unit string
