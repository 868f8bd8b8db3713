package agent

import (
	"net/url"
	"strings"

	"azp-bootstrap/bootstrap/fault"
)

// A Service is what the agent's service is made of. Each word is the configuration's, the journal's or the
// server's: nothing of it ever comes from the agent's folder, which jobs can write.
type Service struct {
	ServerURL string
	Group     string // the name of the pool, of the pool behind the deployment group, or of the environment
	Agent     string
	Unit      string // the name that the journal knows; "" = none yet: it is made of the other three
}

// name is the service as the agent itself would name it (Configuration/ServiceControlManager.cs): organization,
// group, agent; cut when it would be longer than 80 characters.
func (s Service) name(pattern string) (string, error) {
	u, err := url.Parse(s.ServerURL)
	if err != nil {
		return "", fault.New(fault.Service, "the agent's server URL").Because(err)
	}
	organization, _, _ := strings.Cut(u.Hostname(), ".")
	if strings.EqualFold(u.Hostname(), "dev.azure.com") {
		organization, _, _ = strings.Cut(strings.Trim(u.Path, "/"), "/")
	}
	fill := func(parts ...string) string {
		return strings.NewReplacer("{0}", parts[0], "{1}", parts[1], "{2}", parts[2]).Replace(pattern)
	}
	name := fill(organization, s.Group, s.Agent)
	if over := len([]rune(name)) - 80; over > 0 {
		o, g := prefix(organization, 25), prefix(s.Group, 25)
		over -= len([]rune(organization)) - len([]rune(o)) + len([]rune(s.Group)) - len([]rune(g))
		a := s.Agent
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
