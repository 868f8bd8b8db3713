package doctor

import (
	"strings"

	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/member"
)

// groupsAreThere looks for the groups of agent.groups, and says what they let jobs do.
func groupsAreThere(m member.Member) (detail string, err error) {
	all := m.VM.Config.Agent.Groups
	if len(all) == 0 {
		return "", nil
	}
	if _, err := agent.GroupNumbers(all); err != nil {
		return "", err
	}
	detail = "; its groups: " + strings.Join(all, ", ")
	for _, name := range all {
		if may := agent.Opens(name); may != "" {
			detail += "\nnote: whoever is in the group " + name + " " + may + ", and jobs are in it"
		}
	}
	return detail, nil
}
