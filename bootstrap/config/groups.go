package config

import (
	"fmt"
	"regexp"
	"runtime"
	"slices"

	"azp-bootstrap/bootstrap/line"
)

// groupName is a name that groupadd(8) and every systemd take (systemd.exec(5), SupplementaryGroups=).
var groupName = regexp.MustCompile(`^[a-z_][a-z0-9_-]*$`)

const longestGroup = 31

// checkGroups refuses what is no name of a group for jobs.
func (c *Config) checkGroups(f *findings) {
	all := c.Agent.Groups
	if len(all) == 0 {
		return
	}
	switch {
	case runtime.GOOS != "linux":
		f.bad("agent.groups", "is for Linux only",
			"Delete it, and put the agent's account into groups by the system's own means.")
	case c.Agent.User == "":
		f.bad("agent.groups", "only root can give the agent groups, and with agent.user: \"\" it runs as its starter",
			"Name an account in agent.user and run as root; or put your own account into the groups: usermod --append --groups.")
	}
	for i, name := range all {
		switch {
		case name == "root":
			f.bad("agent.groups", "jobs would be in root's group", "Name a group of what jobs need, such as docker.")
		case !groupName.MatchString(name) || len(name) > longestGroup:
			f.bad("agent.groups", fmt.Sprintf("%q is not the name of a group", line.Shown(name)), "Write for example [docker].")
		case slices.Contains(all[:i], name):
			f.bad("agent.groups", fmt.Sprintf("%q is given twice", name), "Delete one of the two.")
		}
	}
}
