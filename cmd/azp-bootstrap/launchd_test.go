package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"text/template"

	"github.com/kardianos/service"
	"howett.net/plist"

	"azp-bootstrap/bootstrap/agent"
)

// launchdKeys are launchd.plist(5)'s keys that may stand in a job's file, and their types.
var launchdKeys = map[string]string{
	"Label": "string", "Disabled": "bool", "KeepAlive": "bool", "RunAtLoad": "bool", "SessionCreate": "bool", "UserName": "string",
	"ProgramArguments": "[]interface {}", "WorkingDirectory": "string", "RootDirectory": "string", "StandardErrorPath": "string",
	"StandardOutPath": "string", "EnvironmentVariables": "map[string]interface {}",
}

// TestLaunchdPropertyLists: the property lists of both services on macOS, made by the service library's own template, are
// read by a parser of such lists, have only keys that launchd knows, with their types, and say what they are to say. That
// launchd takes them, only a Mac shows.
func TestLaunchdPropertyLists(t *testing.T) {
	odd := agent.Home{Dir: "/opt/a & <b>", User: "azp"}
	for name, c := range map[string]struct {
		config *service.Config
		argv   []any
		user   any
	}{
		"daemon": {ownConfig("/usr/local/bin/azp-bootstrap", []string{"--config", "/etc/a&b.yaml"}),
			[]any{"/usr/local/bin/azp-bootstrap", "run", "--config", "/etc/a&b.yaml"}, nil},
		"agent": {odd.LaunchDaemon("vsts.agent.contoso.Default.web & 1"), []any{"/opt/a & <b>/runsvc.sh"}, "azp"},
	} {
		t.Run(name, func(t *testing.T) {
			var got map[string]any
			format, err := plist.Unmarshal([]byte(propertyList(t, c.config)), &got)
			if err != nil || format != plist.XMLFormat {
				t.Fatalf("%d, %v", format, err)
			}
			for key, value := range got {
				if want := launchdKeys[key]; want == "" || fmt.Sprintf("%T", value) != want {
					t.Errorf("%s: %T, want %s", key, value, want)
				}
			}
			for key, want := range map[string]any{
				"Label": c.config.Name, "ProgramArguments": c.argv, "KeepAlive": true, "RunAtLoad": true, "Disabled": false,
				"UserName": c.user,
			} {
				if !reflect.DeepEqual(got[key], want) {
					t.Errorf("%s: %v, want %v", key, got[key], want)
				}
			}
			if len(filepath.Base(c.config.Name)) > 255 {
				t.Error("its name is too long for a file")
			}
		})
	}
}

// propertyList is what the service library writes on macOS: its template, which is in a file for that system alone.
func propertyList(t *testing.T, c *service.Config) string {
	t.Helper()
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/kardianos/service").Output()
	if err != nil {
		t.Skip("no go command: ", err)
	}
	source, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "service_darwin.go"))
	if err != nil {
		t.Fatal(err)
	}
	_, text, found := strings.Cut(string(source), "const launchdConfig = `")
	text, _, ended := strings.Cut(text, "`")
	if !found || !ended {
		t.Fatal("the library's template is not where it was")
	}
	// Its templates are text/template's, without the dots of names.
	text = regexp.MustCompile(`\{\{(if |range )?([A-Z]\w*)( \| html)?\}\}`).ReplaceAllString(text, "{{${1}.${2}${3}}}")
	var out strings.Builder
	option := func(name string) any { return c.Option[name] == true }
	if err := template.Must(template.New("").Parse(text)).Execute(&out, map[string]any{
		"Name": c.Name, "Path": c.Executable, "Arguments": c.Arguments, "ChRoot": c.ChRoot, "UserName": c.UserName,
		"WorkingDirectory": c.WorkingDirectory, "KeepAlive": option("KeepAlive"), "RunAtLoad": option("RunAtLoad"),
		"SessionCreate": option("SessionCreate"), "StandardOutPath": "", "StandardErrorPath": "", "EnvVars": c.EnvVars,
	}); err != nil {
		t.Fatal(err)
	}
	return out.String()
}
