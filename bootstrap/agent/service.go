package agent

import (
	"crypto/sha256"
	"encoding/hex"
	"net/url"
	"strings"

	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/line"
)

// A Service is what the agent's service is made of. Each word is the configuration's, the journal's
// or the server's: nothing of it ever comes from the agent's folder, which jobs can write.
type Service struct {
	ServerURL string
	Group     string // the name of the pool, of the pool behind the deployment group, or of the environment
	Agent     string
	Unit      string // the name that the journal knows; "" = none yet: it is made of the other three
	Marks     Marks
	Work      string // the work folder, below the agent's own or absolute

	Capabilities []string // NAME=value

	NoMetadata bool // systemd keeps it from the metadata service: the second wall

	Environment []string // NAME=value, for jobs; where the agent is a process its PATH counts

	Once   bool     // the agent runs one job, and ends
	Groups []string // that the agent is in besides its account's own
}

// Check refuses words of which no service can be made. It is asked before anything is registered.
func (s Service) Check() error {
	for what, word := range map[string]string{
		"the server's URL": s.ServerURL, "the name of the pool or environment": s.Group,
		"the agent's name": s.Agent, "the service's name": s.Unit,
	} {
		if wrong := line.Wrong(word, line.Longest); wrong != "" {
			return fault.New(fault.Config, "%s %q %s", what, line.Shown(word), wrong).
				Hint("The agent's service is named after it: give it another name.")
		}
	}
	_, err := s.organization()
	return err
}

func (s Service) organization() (string, error) {
	u, err := url.Parse(s.ServerURL)
	if err != nil {
		return "", fault.New(fault.Service, "the agent's server URL").Because(err).Hint("Correct url.")
	}
	organization, _, _ := strings.Cut(u.Hostname(), ".")
	if strings.EqualFold(u.Hostname(), "dev.azure.com") {
		organization, _, _ = strings.Cut(strings.Trim(u.Path, "/"), "/")
	}
	if wrong := line.Wrong(organization, line.Longest); wrong != "" { // a URL hides it as %0A
		return "", fault.New(fault.Config, "the organization in the server's URL %s", wrong).Hint("Correct url.")
	}
	return organization, nil
}

// name is the service as the agent itself would name it (Configuration/ServiceControlManager.cs):
// organization, group, agent; cut when it would be longer than 80 characters.
func (s Service) name(pattern string) (string, error) {
	organization, err := s.organization()
	if err != nil {
		return "", err
	}
	name := fill(pattern, organization, s.Group, s.Agent)
	if over := len([]rune(name)) - 80; over > 0 {
		o, g := prefix(organization, 25), prefix(s.Group, 25)
		over -= len([]rune(organization)) - len([]rune(o)) + len([]rune(s.Group)) - len([]rune(g))
		a := s.Agent
		if over > 0 {
			a = prefix(a, len([]rune(a))-over)
		}
		name = fill(pattern, o, g, a)
	}
	return name, nil
}

// short is a name for which escaped, as the service manager writes it, has at most so many bytes:
// cut by whole characters where most can be saved. What tells it from another that is cut alike is
// the sum at its end.
func (s Service) short(pattern string, escaped func(string) string, most int) (string, error) {
	organization, err := s.organization()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(organization + "\n" + s.Group + "\n" + s.Agent))
	parts := []string{prefix(organization, most), prefix(s.Group, most), prefix(s.Agent, most)}
	for {
		name := fill(pattern, parts[0], parts[1], parts[2]+"."+hex.EncodeToString(sum[:4]))
		longest := 0
		for i := range parts {
			if len(escaped(parts[i])) > len(escaped(parts[longest])) {
				longest = i
			}
		}
		over := len(escaped(name)) - most
		if over <= 0 || parts[longest] == "" {
			return name, nil
		}
		const character = 4 * len(`\xff`) // bytes of an escaped character
		parts[longest] = prefix(parts[longest], len([]rune(parts[longest]))-max(1, over/character))
	}
}

func fill(pattern, organization, group, agent string) string {
	return strings.NewReplacer("{0}", organization, "{1}", group, "{2}", agent).Replace(pattern)
}

// longestFile is the most that Linux and macOS take as a file's name, in bytes.
const longestFile = 255

// agentService guards against a name that is not one of ours: it becomes part of a path.
func agentService(name string) bool {
	begin, _, _ := strings.Cut(servicePattern, "{")
	_, end, _ := strings.Cut(servicePattern, "{2}")
	return strings.HasPrefix(name, begin) && strings.HasSuffix(name, end) && !strings.ContainsAny(name, "/") &&
		line.Wrong(name, longestFile) == ""
}

func prefix(s string, n int) string {
	r := []rune(s)
	return string(r[:max(0, min(n, len(r)))])
}
