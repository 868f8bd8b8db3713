package agent

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"

	"azp-bootstrap/bootstrap/line"
)

// imageFile is where an image says what each login's environment holds: those made with
// actions/runner-images keep the paths of their tools there (azure-pipelines-agent issues 2288,
// 3461, 5362).
const imageFile = "/etc/environment"

// variableName is a name that every shell takes.
var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// ourOwn are variables that azp-bootstrap sets, and proxies: those of agent and jobs are
// network.proxy's to say.
func ourOwn(name string) bool {
	upper := strings.ToUpper(name)
	return strings.HasPrefix(upper, markPrefix) || strings.HasPrefix(upper, inputs) || strings.HasSuffix(upper, "_PROXY")
}

// jobsEnvironment is what jobs find in their environment: the image's variables, and over them those
// of agent.environment. In the image's, $HOME is the home of the agent's account: runner-images write
// it so until their last script has run.
func jobsEnvironment(image string, set []string, home string) map[string]string {
	all := map[string]string{}
	for l := range strings.Lines(image) {
		if name, value, ok := imageLine(l); ok && !ourOwn(name) {
			value = strings.NewReplacer("${HOME}", home, "$HOME", home).Replace(value)
			all[name] = value
		}
	}
	for _, kv := range set {
		name, value, _ := strings.Cut(kv, "=")
		all[name] = value
	}
	maps.DeleteFunc(all, func(name, value string) bool { return value == "" || line.Wrong(value, line.Longest) != "" })
	return all
}

// imageLine reads a line of imageFile as pam_env does: a # begins a comment wherever it stands, quotes
// around a value go, and nothing is expanded (linux-pam, pam_env.c, _parse_env_file).
func imageLine(l string) (name, value string, ok bool) {
	l, _, _ = strings.Cut(l, "#")
	l = strings.TrimPrefix(strings.TrimSpace(l), "export ")
	name, value, ok = strings.Cut(l, "=")
	if value != "" && strings.ContainsAny(value[:1], `"'`) {
		value = strings.Trim(value, `"'`)
	}
	return name, value, ok && variableName.MatchString(name)
}

// jobs is jobsEnvironment on this VM.
func (h Home) jobs(set []string) map[string]string {
	home := ""
	if u, err := account(h.User); err == nil {
		home = u.HomeDir
	}
	return jobsEnvironment(image(), set, home)
}

// image is imageFile's text, if it is root's word: where others may write it, it is nobody's.
func image() string {
	fi, err := os.Stat(imageFile)
	if err != nil || !rootsAlone(fi) {
		return ""
	}
	text, err := os.ReadFile(imageFile)
	if err != nil {
		return ""
	}
	return string(text)
}

// environmentLines are variables as .env wants them, without PATH, which has a file of its own.
func environmentLines(all map[string]string) (lines []string) {
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if name != "PATH" {
			lines = append(lines, name+"="+all[name])
		}
	}
	return lines
}
