//go:build windows || darwin

package agent

import "github.com/kardianos/service"

// stateOf is a service's state in systemd's words.
func stateOf(s service.Service) string {
	switch st, _ := s.Status(); st {
	case service.StatusRunning:
		return "active"
	case service.StatusStopped:
		return "inactive"
	}
	return "unknown"
}
