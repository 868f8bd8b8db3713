package agent

import (
	"net/url"
	"strings"

	"azp-bootstrap/bootstrap/fault"
)

// ServiceName is the agent's service as the agent itself would name it
// (Configuration/ServiceControlManager.cs): organization, pool or environment, agent; cut when it
// would be longer than 80 characters.
func ServiceName(pattern, serverURL string, s Settings) (string, error) {
	u, err := url.Parse(serverURL)
	if err != nil {
		return "", fault.New(fault.Service, "the agent's server URL").Because(err)
	}
	organization, _, _ := strings.Cut(u.Hostname(), ".")
	if strings.EqualFold(u.Hostname(), "dev.azure.com") {
		organization, _, _ = strings.Cut(strings.Trim(u.Path, "/"), "/")
	}
	group := s.PoolName
	if group == "" {
		group = s.EnvironmentName
	}
	fill := func(parts ...string) string {
		return strings.NewReplacer("{0}", parts[0], "{1}", parts[1], "{2}", parts[2]).Replace(pattern)
	}
	name := fill(organization, group, s.AgentName)
	if over := len([]rune(name)) - 80; over > 0 {
		o, g := prefix(organization, 25), prefix(group, 25)
		over -= len([]rune(organization)) - len([]rune(o)) + len([]rune(group)) - len([]rune(g))
		a := s.AgentName
		if over > 0 {
			a = prefix(a, len([]rune(a))-over)
		}
		name = fill(o, g, a)
	}
	return name, nil
}

// agentService guards against a name that is not one of ours: it becomes part of a path, and the
// service user can write .service.
func agentService(name string) bool {
	begin, _, _ := strings.Cut(servicePattern, "{")
	_, end, _ := strings.Cut(servicePattern, "{2}")
	return strings.HasPrefix(name, begin) && strings.HasSuffix(name, end) && !strings.ContainsAny(name, "/\x00\n")
}

func trimmed(b []byte) string { return strings.TrimSpace(string(b)) }

func prefix(s string, n int) string {
	r := []rune(s)
	return string(r[:max(0, min(n, len(r)))])
}
