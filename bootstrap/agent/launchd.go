package agent

import "github.com/kardianos/service"

// LaunchDaemon is the agent's service on macOS: a launch daemon that runs as the service user. svc.sh would make a
// launch agent, which only runs while that user is logged in at the screen: a VM's first boot has nobody there.
func (h Home) LaunchDaemon(name string) *service.Config {
	return &service.Config{
		Name: name, DisplayName: name, Executable: h.path("runsvc.sh"), WorkingDirectory: h.Dir, UserName: h.User,
		Option: service.KeyValue{"KeepAlive": true, "RunAtLoad": true},
	}
}
