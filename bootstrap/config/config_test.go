package config

import (
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"azp-bootstrap/bootstrap/fault"
)

func TestServerShapes(t *testing.T) {
	for _, c := range []struct {
		url, collection string
		want            Server
	}{
		{"https://dev.azure.com/contoso", "", Server{Hosted: true, Name: "contoso", Base: "https://dev.azure.com/contoso"}},
		{"https://dev.azure.com/contoso/", "", Server{Hosted: true, Name: "contoso", Base: "https://dev.azure.com/contoso"}},
		{"https://DEV.azure.com/Contoso//", "", Server{Hosted: true, Name: "Contoso", Base: "https://dev.azure.com/Contoso"}},
		{"https://contoso.visualstudio.com", "", Server{Hosted: true, Name: "contoso", Base: "https://contoso.visualstudio.com"}},
		{"https://contoso.visualstudio.com/DefaultCollection/", "", Server{Hosted: true, Name: "contoso", Base: "https://contoso.visualstudio.com"}},
		{"https://devops.corp/DefaultCollection/", "", Server{Name: "DefaultCollection", Root: "https://devops.corp", Base: "https://devops.corp/DefaultCollection", Collection: "DefaultCollection"}},
		{"https://devops.corp", "Web Team", Server{Name: "Web Team", Root: "https://devops.corp", Base: "https://devops.corp/Web%20Team", Collection: "Web Team"}},
		{"https://devops.corp/Web%20Team", "", Server{Name: "Web Team", Root: "https://devops.corp", Base: "https://devops.corp/Web%20Team", Collection: "Web Team"}},
		{"https://tfs.corp:8080/tfs/", "", Server{Name: "DefaultCollection", Root: "https://tfs.corp:8080/tfs", Base: "https://tfs.corp:8080/tfs/DefaultCollection", Collection: "DefaultCollection"}},
		{"https://tfs.corp:8080/tfs/Other", "", Server{Name: "Other", Root: "https://tfs.corp:8080/tfs", Base: "https://tfs.corp:8080/tfs/Other", Collection: "Other"}},
		{"https://devops.corp/devops/Other", "", Server{Name: "Other", Root: "https://devops.corp/devops", Base: "https://devops.corp/devops/Other", Collection: "Other"}},
		{"https://devops.corp/devops", "Other", Server{Name: "Other", Root: "https://devops.corp/devops", Base: "https://devops.corp/devops/Other", Collection: "Other"}},
		{"https://devops.corp/devops/other", "Other", Server{Name: "other", Root: "https://devops.corp/devops", Base: "https://devops.corp/devops/other", Collection: "other"}},
		{"http://127.0.0.1:8080/tfs", "", Server{Name: "DefaultCollection", Root: "http://127.0.0.1:8080/tfs", Base: "http://127.0.0.1:8080/tfs/DefaultCollection", Collection: "DefaultCollection"}},
	} {
		got, text, _ := serverOf(c.url, c.collection)
		if text != "" || got != c.want {
			t.Errorf("%s: got %+v %q, want %+v", c.url, got, text, c.want)
		}
	}
	for bad, want := range map[string]string{
		"": "not the URL", "contoso": "not the URL", "ftp://devops.corp/x": "scheme", "http://devops.corp/x": "unencrypted",
		"https://dev.azure.com": "no organization", "https://dev.azure.com/contoso/Shop": "more after the organization",
		"https://user:secret@devops.corp/x": "password", "https://contoso@dev.azure.com/contoso": "user name",
		"https://" + strings.Repeat("a", 52) + "@dev.azure.com/contoso": "token",
		"https://devops.corp/x?y=1":                                     "query",
		"https://tfs.corp/tfs/a/b":                                      "more after the collection",
		"https://devops.corp/DefaultCollection/Shop":                    "more after the collection",
		"https://:443/x":                                                "not the URL",
		"https://contoso.visualstudio.com/Shop":                         "more after the organization",
		"https://app.vsaex.visualstudio.com":                            "one service",
		"https://vssps.dev.azure.com/contoso":                           "one service",
	} {
		got, text, fix := serverOf(bad, "")
		if !strings.Contains(text, want) || want == "" || fix == "" {
			t.Errorf("%q was taken as %+v: %s", bad, got, text)
		}
		if strings.Contains(text+fix, "secret") {
			t.Errorf("%q: it repeats the password", bad)
		}
	}
}

// docs/configuration.md lists every key, and none that does not exist.
func TestKeysAreDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(doc), "\n## Keys\n")
	table, _, _ = strings.Cut(table, "\n## ")
	var listed []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([A-Za-z.]+)` \\|").FindAllStringSubmatch(table, -1) {
		listed = append(listed, m[1])
	}
	slices.Sort(listed)
	if !slices.Equal(listed, Keys()) {
		t.Errorf("documented:\n%q\nthere are:\n%q", listed, Keys())
	}
}

// The table's default is the one that counts: nobody looks a default up in the code.
func TestDefaultsAreDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([A-Za-z.]+)` \\| `([^`]*)`").FindAllStringSubmatch(string(doc), -1) {
		told[m[1]] = m[2]
	}
	for key, value := range defaults {
		if runtime.GOOS == "windows" && slices.Contains(
			[]string{"agent.dir", "agent.user", "agent.metadata", "start.run", "hooks.run"}, key) {
			continue // the table has those in brackets
		}
		is := ShowValue(value)
		if d, ok := value.(time.Duration); ok {
			want, err := time.ParseDuration(told[key])
			if err != nil || want != d {
				t.Errorf("%s is %s by default; the table says %q", key, d, told[key])
			}
		} else if is != told[key] {
			t.Errorf("%s is %s by default; the table says %q", key, is, told[key])
		}
	}
}

const good = `url: https://dev.azure.com/contoso
target: {environment: {project: My Shop, name: production, tags: [web, "{{.Location}}"]}}
credential: {keyVault: {url: https://contoso.vault.azure.net/, secret: azp-pat}}
`

// load writes files into a folder and loads config.yaml.
func load(t *testing.T, files map[string]string, environ, set []string) (*Config, error) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	l, err := Load(filepath.Join(dir, "config.yaml"), environ, set)
	if err != nil {
		return nil, err
	}
	return l.Config()
}

func TestPrecedence(t *testing.T) {
	files := map[string]string{
		"config.yaml":    good + "agent: {name: file, work: file, replace: never}\n",
		"conf.d/10.yaml": "agent: {name: ten, work: ten}\n",
		"conf.d/20.yaml": "agent: {name: twenty}\n",
	}
	c, err := load(
		t,
		files,
		[]string{"AZP_BOOTSTRAP_AGENT__NAME=env", "AZP_BOOTSTRAP_DRAIN__TIMEOUT=3m", "AZP_BOOTSTRAP_STATE_DIR=/x"},
		nil,
	)
	if err != nil {
		t.Fatal(err)
	}
	if c.Agent.Name != "env" || c.Agent.Work != "ten" || c.Agent.Replace != "never" ||
		c.Drain.Timeout.Minutes() != 3 ||
		c.Cloud != "auto" {
		t.Errorf("got %+v", c.Agent)
	}
	for key, where := range map[string]string{"agent.name": "environment AZP_BOOTSTRAP_AGENT__NAME", "agent.work": "10.yaml:1", "agent.replace": "config.yaml:4", "cloud": "default"} {
		if got := c.Values[key].Where; !strings.HasSuffix(got, where) {
			t.Errorf("%s comes from %q, want %q", key, got, where)
		}
	}
	c, err = load(t, files, []string{"AZP_BOOTSTRAP_AGENT__NAME=env"}, []string{"agent.name=flag"})
	if err != nil || c.Agent.Name != "flag" {
		t.Errorf("a flag lost: %v %v", c, err)
	}
	if !strings.Contains(c.Show(), "agent.name") || !strings.Contains(c.Show(), "--set") {
		t.Errorf("config show does not name sources:\n%s", c.Show())
	}
}

func TestTargetOfAStrongerSourceReplaces(t *testing.T) {
	c, err := load(
		t,
		map[string]string{"config.yaml": good, "conf.d/1.yaml": "target: {pool: {name: Default}}\n"},
		nil,
		nil,
	)
	if err != nil || c.Target.Kind() != KindPool {
		t.Errorf("got %v, %v", c, err)
	}
}

func TestRefused(t *testing.T) {
	token := "abcdefgh234567abcdefgh234567abcdefgh234567abcdefgh23"
	for name, c := range map[string]struct{ text, want string }{
		"unknown":          {good + "agnet: {name: x}\n", "config.yaml:4: agnet"},
		"nested":           {good + "agent: {nam: x}\n", "Did you mean agent.name?"},
		"type":             {good + "deadline: 30\n", "config.yaml:4: deadline: wrong type"},
		"bool as text":     {good + "drain: {enabled: \"yes\"}\n", "drain.enabled: wrong type"},
		"list as text":     {"url: [a]\n", "url: wrong type"},
		"twice":            {good + "url: https://dev.azure.com/x\n", "url"},
		"token key":        {good + "token: " + token + "\n", "a credential does not belong"},
		"token value":      {strings.Replace(good, "azp-pat", token, 1), "a token or password is written here"},
		"no proxy":         {good + "network: {noProxy: \"10.0.0.0/8,fd00::/8\"}\n", "the agent knows no IPv6 ranges"},
		"proxy pass":       {good + "network: {proxy: \"http://u:p@proxy:8080\"}\n", "a token or password is written here"},
		"vault http":       {strings.Replace(good, "https://contoso.vault", "http://contoso.vault", 1), "credential.keyVault.url"},
		"vault foreign":    {strings.Replace(good, "contoso.vault.azure.net", "contoso.vault.azure.net.evil.example", 1), "credential.keyVault.url"},
		"vault deep":       {strings.Replace(good, "contoso.vault.azure.net", "evil.contoso.vault.azure.net", 1), "not a vault's name"},
		"imds far":         {good + "imds: {endpoint: \"http://10.0.0.1\"}\n", "neither link-local nor loopback"},
		"imds tls":         {good + "imds: {endpoint: \"https://127.0.0.1\"}\n", "not http://ADDRESS"},
		"root folder":      {good + "agent: {dir: /opt/../}\n", "not an absolute path of a folder of its own"},
		"work: all":        {good + "agent: {work: /}\n", "all of agent.dir would be"},
		"work: above":      {good + "agent: {work: /opt/}\n", "all of agent.dir would be"},
		"work: agent.dir":  {good + "agent: {work: /opt/azp-agent/.}\n", "all of agent.dir would be"},
		"work: leaves":     {good + "agent: {work: ../../x}\n", "not the name of a folder in agent.dir"},
		"work: the folder": {good + "agent: {work: ./}\n", "not the name of a folder in agent.dir"},
		"work: programs'":  {good + "agent: {work: /var/lib}\n", "a folder of the system's"},
		"work: system's":   {good + "agent: {work: /etc/azp}\n", "a folder of the system's"},
		"work: kernel's":   {good + "agent: {work: /proc/x}\n", "a folder of the system's"},
		"no folder":        {good + "agent: {dir: opt}\n", "not an absolute path"},
		"two ids":          {good + "agent: {name: x}\ncloud: mars\n", "cloud: unknown value \"mars\""},
		"root":             {good + "agent: {user: root}\n", "jobs would run as root"},
		"root's group":     {good + "agent: {groups: [root]}\n", "jobs would be in root's group"},
		"group name":       {good + "agent: {groups: [docker, Domain Users]}\n", "is not the name of a group"},
		"group twice":      {good + "agent: {groups: [docker, docker]}\n", "is given twice"},
		"own groups":       {good + "agent: {groups: [docker], user: \"\"}\n", "only root can give the agent groups"},
		"capability":       {good + "agent: {capabilities: [x]}\n", "is no capability"},
		"capability name":  {good + "agent: {capabilities: [\"AZP_BOOTSTRAP_INSTANCE_ID=x\"]}\n", "is not free"},
		"capability field": {good + "agent: {capabilities: [\"x={{.Host}}\"]}\n", "agent.capabilities"},
		"comma tag":        {strings.Replace(good, "[web,", "[\"a,b\",", 1), "comma"},
		"bad field":        {good + "agent: {name: \"{{.Host}}\"}\n", "agent.name"},
		"bad name":         {good + "agent: {name: \"a/b\"}\n", "Azure DevOps refuses"},
		"alias":            {good + "agent: &a {name: x}\ndrain: *a\n", "aliases"},
		"all at once":      {strings.Replace(good, "contoso.vault.azure.net", "contoso.example", 1) + "agnet: {name: x}\n", "contoso.example is not a Key Vault"},
		"no project":       {strings.Replace(good, "project: My Shop, ", "", 1), "target.environment.project: is missing"},
		"start after":      {good + "start: {after: [cloudinit]}\n", "start.after: unknown value \"cloudinit\""},
		"start run":        {good + "start: {run: start.d}\n", "start.run: not an absolute path"},
		"hooks run":        {good + "hooks: {run: hooks.d}\n", "hooks.run: not an absolute path"},
		"hooks timeout":    {good + "hooks: {timeout: 0s}\n", "hooks.timeout: is not more than zero"},
		"start timeout":    {good + "start: {timeout: 0s}\n", "start.timeout: is not more than zero"},
		"size, no unit":    {good + "disk: {min: 5}\n", "config.yaml:4: disk.min: wrong type: got a number, want a size"},
		"no size":          {good + "disk: {min: much}\n", "disk.min: not a size"},
		"percentage":       {good + "disk: {minInodes: 5}\n", "want a percentage"},
		"all inodes":       {good + "disk: {minInodes: 100%}\n", "not a percentage below 100"},
	} {
		if runtime.GOOS == "windows" && name == "own groups" {
			continue // refused there for another reason
		}
		_, err := load(t, map[string]string{"config.yaml": c.text}, nil, nil)
		var f *fault.Error
		if !errors.As(err, &f) || f.Class != fault.Config {
			t.Errorf("%s: got %v, want a config fault", name, err)
			continue
		}
		if text := f.Error() + "\n" + f.Advice; !strings.Contains(text, c.want) || strings.Contains(text, token) {
			t.Errorf("%s: got %q, want %q in it", name, text, c.want)
		}
	}
}

// A drop-in whose content a power cut lost must not let the VM join what the image names.
func TestEmptyDropIn(t *testing.T) {
	_, err := load(t, map[string]string{"config.yaml": good, "conf.d/50-target.yaml": ""}, nil, nil)
	if err == nil || !strings.Contains(err.Error(), "50-target.yaml: is empty") {
		t.Errorf("got %v", err)
	}
	if _, err := load(
		t,
		map[string]string{"config.yaml": good, "conf.d/50-target.yaml": "# nothing here\n"},
		nil,
		nil,
	); err != nil {
		t.Errorf("a comment alone: %v", err)
	}
}

func TestNames(t *testing.T) {
	c, err := load(
		t,
		map[string]string{
			"config.yaml": good + `agent: {name: "{{.ScaleSet}}-{{.InstanceIndex}}-{{.Tags.role}}"}` + "\n",
		},
		nil,
		nil,
	)
	if err != nil {
		t.Fatal(err)
	}
	f := Facts{ScaleSet: "web", InstanceIndex: "7", Location: "westeurope", Tags: map[string]string{"role": "blue"}}
	name, tags, err := c.Names(f)
	if err != nil || name != "web-7-blue" || strings.Join(tags, " ") != "web westeurope" {
		t.Errorf("got %q %q %v", name, tags, err)
	}
	f.Tags = nil
	if name, _, err := c.Names(f); err == nil {
		t.Errorf("a tag that the VM does not have became %q", name)
	}
	f.Tags = map[string]string{"role": "a?b"}
	if name, _, err := c.Names(f); err == nil {
		t.Errorf("a name that Azure DevOps refuses was taken: %q", name)
	}
}

// Whoever writes user data or tags writes templates: they must neither run for ever nor fill the memory.
func TestTemplatesAreBounded(t *testing.T) {
	for _, text := range []string{
		"{{range 2000000000}}{{end}}",
		"{{range 2000000000}}x{{end}}",
		"{{if true}}{{range 2000000000}}x{{end}}{{end}}",
		"{{with .VMID}}{{else}}{{range 2000000000}}x{{end}}{{end}}",
		`{{define "a"}}{{template "a"}}{{end}}{{template "a"}}`,
		`{{block "a" .}}{{end}}`,
		`{{printf "%1000000d" 1}}`,
		`{{printf "%.999999f" 1.0}}`,
		`{{printf "%*d" 1000000 1}}`,
		`{{printf "%[1]*d" 1000000 1}}`,
		`{{$x := "xxxxxxxxxxxxxxxx"}}` + strings.Repeat(`{{$x = print $x $x}}`, 40) + "{{$x}}",
		`{{$x := "xxxxxxxxxxxxxxxx"}}` + strings.Repeat(`{{$x = html $x $x}}`, 40) + "{{$x}}",
		strings.Repeat("x", 2000),
	} {
		if got, err := Expand(text, Facts{VMID: "x"}); err == nil {
			t.Errorf("%.60q was taken: %d bytes", text, len(got))
		}
	}
	for text, want := range map[string]string{
		`{{printf "%s-%03s" .ScaleSet .InstanceIndex}}`:                "web-007",
		`{{slice .VMID 0 4}}{{if eq .Zone "1"}}a{{else}}b{{end}}`:      "5c7aa",
		`{{with index .Tags "role"}}{{.}}{{end}}{{print "-" .Zone}}`:   "blue-1",
		`{{.Tags.Role}}{{if .Tags.ROLE}}-{{print .Tags.stage}}{{end}}`: "blue-Test",
	} {
		if got, err := Expand(
			text,
			Facts{
				ScaleSet:      "web",
				InstanceIndex: "7",
				VMID:          "5c7a1b1e",
				Zone:          "1",
				Tags:          map[string]string{"role": "blue", "Stage": "Test"},
			},
		); err != nil ||
			got != want {
			t.Errorf("%s became %q, %v; want %q", text, got, err, want)
		}
	}
}

// Who may write the configuration says where tokens go: no file and no folder of it may be others' to write.
func TestOthersMayNotWriteTheConfiguration(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there the folders' access lists decide")
	}
	for _, what := range []string{".", "conf.d", "config.yaml", "conf.d/10.yaml"} {
		for _, mode := range []os.FileMode{0o020, 0o002} {
			dir := filepath.Join(t.TempDir(), "etc")
			for name, text := range map[string]string{"config.yaml": good, "conf.d/10.yaml": "agent: {name: ten}\n"} {
				path := filepath.Join(dir, name)
				if err := errors.Join(
					os.MkdirAll(filepath.Dir(path), 0o755),
					os.WriteFile(path, []byte(text), 0o644),
				); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := Load(filepath.Join(dir, "config.yaml"), nil, nil); err != nil {
				t.Fatal(err)
			}
			fi, err := os.Stat(filepath.Join(dir, what))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(filepath.Join(dir, what), fi.Mode()|mode); err != nil {
				t.Fatal(err)
			}
			_, err = Load(filepath.Join(dir, "config.yaml"), nil, nil)
			if f := fault.From(
				err,
			); err == nil || f.Class != fault.Config || !strings.Contains(f.Error(), filepath.Join(dir, what)+": others may write it") ||
				!strings.Contains(f.Advice, "chmod go-w") {
				t.Errorf("%s with %04o: %v", what, mode, err)
			}
		}
	}
}

// Command lines and the environment are for everyone to read.
func TestNoTokenOnACommandLine(t *testing.T) {
	token := "abcdefgh234567abcdefgh234567abcdefgh234567abcdefgh23"
	for _, key := range []string{"agent.name", "credential.keyVault.secret", "target.environment.tags"} {
		variable := "AZP_BOOTSTRAP_" + strings.ToUpper(strings.ReplaceAll(key, ".", "__"))
		for _, given := range []struct{ environ, set []string }{{nil, []string{key + "=" + token}}, {[]string{variable + "=" + token}, nil}} {
			_, err := load(t, map[string]string{"config.yaml": good}, given.environ, given.set)
			if err == nil || !strings.Contains(err.Error(), key+": a token is written here") ||
				strings.Contains(err.Error()+fault.From(err).Advice, token) {
				t.Errorf("%s: %v", key, err)
			}
		}
	}
}

// The token that opens a vault is one of this cloud: it is shown to no other's.
func TestCheckCloud(t *testing.T) {
	for _, c := range []struct {
		vault, cloud, is string
		ok               bool
	}{
		{"contoso.vault.azure.net", "auto", "AzurePublicCloud", true}, {"contoso.vault.azure.net", "auto", "AzureChinaCloud", false},
		{"contoso.vault.usgovcloudapi.net", "auto", "AzureUSGovernmentCloud", true}, {"contoso.vault.usgovcloudapi.net", "auto", "AzurePublicCloud", false},
		{"contoso.vault.azure.net", "auto", "", true}, {"contoso.vault.azure.net", "public", "AzureChinaCloud", true}, // an operator's word
	} {
		cfg, err := load(
			t,
			map[string]string{
				"config.yaml": strings.Replace(
					good,
					"contoso.vault.azure.net",
					c.vault,
					1,
				) + "cloud: " + c.cloud + "\n",
			},
			nil,
			nil,
		)
		if err != nil {
			t.Fatal(err)
		}
		if err := cfg.CheckCloud(c.is); (err == nil) != c.ok || err != nil && fault.From(err).Class != fault.Config {
			t.Errorf("%s in %q, cloud %s: %v", c.vault, c.is, c.cloud, err)
		}
	}
}

// credential.entra has two forms, and the stronger source's counts.
func TestTheFormsOfEntra(t *testing.T) {
	const (
		head   = "url: https://dev.azure.com/contoso\ntarget: {pool: {name: Default}}\n"
		tenant = "33333333-4444-4555-8666-777777777777"
		app    = "88888888-9999-4aaa-8bbb-cccccccccccc"
		group  = "credential: {entra: {tenantId: " + tenant + ", clientId: " + app + "}}\n"
		vault  = "credential: {keyVault: {url: https://contoso.vault.azure.net, secret: azp-pat}}\n"
	)
	both := EntraIn{tenant, app}
	for name, c := range map[string]struct {
		file, dropIn string
		environ, set []string
		on           bool
		in           EntraIn
		refused      string
	}{
		"true":                          {file: "credential: {entra: true}\n", on: true},
		"a group":                       {file: group, on: true, in: both},
		"a group over true":             {file: "credential: {entra: true}\n", dropIn: group, on: true, in: both},
		"true over a group":             {file: group, dropIn: "credential: {entra: true}\n", on: true},
		"false over a group":            {file: group, dropIn: "credential: {entra: false}\n", refused: "keyVault.url: is missing"},
		"by the environment":            {file: "", environ: []string{"AZP_BOOTSTRAP_CREDENTIAL__ENTRA__TENANTID=" + tenant, "AZP_BOOTSTRAP_CREDENTIAL__ENTRA__CLIENTID=" + app}, on: true, in: both},
		"by flags, over true":           {file: "credential: {entra: true}\n", set: []string{"credential.entra.tenantId=" + tenant, "credential.entra.clientId=" + app}, on: true, in: both},
		"another tenant by a flag":      {file: group, set: []string{"credential.entra.tenantId=" + app}, on: true, in: EntraIn{app, app}},
		"neither":                       {file: vault},
		"half":                          {file: "credential: {entra: {tenantId: " + tenant + "}}\n", refused: "credential.entra.clientId: is missing"},
		"the other half":                {file: "credential: {entra: {clientId: " + app + "}}\n", refused: "credential.entra.tenantId: is missing"},
		"a name":                        {file: strings.Replace(group, tenant, "contoso.onmicrosoft.com", 1), refused: "not the ID of a tenant"},
		"a path":                        {file: strings.Replace(group, tenant, "common/../x", 1), refused: "not the ID of a tenant"},
		"a secret":                      {file: strings.Replace(group, "clientId", "clientSecret: x, clientId", 1), refused: "a credential does not belong"},
		"a list":                        {file: "credential: {entra: [true]}\n", refused: "wrong type"},
		"a text":                        {file: "credential: {entra: \"yes\"}\n", refused: "wrong type"},
		"beside a vault":                {file: group, dropIn: vault, refused: "a vault is named and credential.entra is on"},
		"off, and named in one source":  {file: vault, set: []string{"credential.entra=false", "credential.entra.clientId=" + app}, refused: "is off and names an application"},
		"all problems are told at once": {file: strings.Replace(group, app, "x", 1) + "cloud: mars\n", refused: "cloud: unknown value"},
	} {
		files := map[string]string{"config.yaml": head + c.file}
		if c.dropIn != "" {
			files["conf.d/1.yaml"] = c.dropIn
		}
		cfg, err := load(t, files, c.environ, c.set)
		switch {
		case c.refused != "":
			if err == nil || !strings.Contains(err.Error(), c.refused) {
				t.Errorf("%s: %v", name, err)
			}
		case err != nil:
			t.Errorf("%s: %v", name, err)
		case cfg.Credential.Entra != c.on || cfg.Credential.EntraIn != c.in:
			t.Errorf("%s: %+v", name, cfg.Credential)
		}
	}
}

// A managed identity's token opens much more than a server: it is shown to Azure DevOps Services alone.
func TestEntraIsForServicesOnly(t *testing.T) {
	for url, ok := range map[string]bool{"https://dev.azure.com/contoso": true, "https://contoso.visualstudio.com": true, "https://devops.corp/C": false, "https://dev.azure.com.evil.example/contoso": false} {
		_, err := load(
			t,
			map[string]string{
				"config.yaml": "url: " + url + "\ntarget: {pool: {name: Default}}\ncredential: {entra: true}\n",
			},
			nil,
			nil,
		)
		if (err == nil) != ok || err != nil && fault.From(err).Class != fault.Config {
			t.Errorf("%s: %v", url, err)
		}
	}
}

func TestRemote(t *testing.T) {
	remote := func(sources, userData string, tags map[string]string) (*Config, error) {
		dir := t.TempDir()
		file := filepath.Join(dir, "config.yaml")
		if err := os.WriteFile(file, []byte(good+"sources: "+sources+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		l, err := Load(file, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		c, err := l.Config()
		if err != nil {
			t.Fatal(err)
		}
		layers, err := l.Remote(c, base64.StdEncoding.EncodeToString([]byte(userData)), tags)
		if err != nil {
			return nil, err
		}
		return l.Config(layers...)
	}
	pool := "target: {pool: {name: Fast}}\n"
	tag := map[string]string{"Azp-Bootstrap.Agent.Name": "blue-7"} // the names of tags know no case
	if c, err := remote("{tags: true}", "", tag); err != nil || c.Agent.Name != "blue-7" {
		t.Errorf("a tag in other letters was not read: %v", err)
	}
	if c, err := remote("{userData: false}", pool, nil); err != nil || c.Target.Kind() != KindEnvironment {
		t.Errorf("user data was read although it is off: %v", err)
	}
	if c, err := remote("{userData: true}", pool, nil); err != nil || c.Target.Name() != "Fast" {
		t.Errorf("user data was not read: %v", err)
	}
	if c, err := remote(
		"{tags: true}",
		"",
		map[string]string{"azp-bootstrap.agent.name": "tagged", "role": "x"},
	); err != nil ||
		c.Agent.Name != "tagged" {
		t.Errorf("tags were not read: %v", err)
	}
	for _, evil := range []string{"url: https://dev.azure.com/evil\n", "credential: {keyVault: {url: https://evil.vault.azure.net}}\n", "network: {proxy: http://evil:1}\n", "agent: {dir: /etc}\n", "imds: {endpoint: http://127.0.0.1:1}\n", "agent: {user: admin}\n", "sources: {trustRemote: true}\n"} {
		if _, err := remote("{userData: true}", evil, nil); err == nil {
			t.Errorf("user data may set %q", evil)
		}
		if _, err := remote("{userData: true, trustRemote: true}", "agent: {work: /work}\n", nil); err != nil {
			t.Errorf("trustRemote does not trust: %v", err)
		}
	}
	if _, err := remote(
		"{tags: true}",
		"",
		map[string]string{"azp-bootstrap.url": "https://dev.azure.com/evil"},
	); err == nil {
		t.Error("a tag may set the URL")
	}
}

func FuzzYAML(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte("agent: {name: x}\n---\nb: 1"))
	f.Add([]byte("a: &a [*a]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		l, ps := fromYAML("fuzz.yaml", data)
		if len(ps) > 0 && ps.Err() == nil {
			t.Error("problems without an error")
		}
		if len(ps) == 0 {
			loader := &Loader{local: []Layer{l}}
			if c, err := loader.Config(); err == nil {
				_ = c.Show()
			}
		}
	})
}

// FuzzTemplate expands what user data and tags may say.
func FuzzTemplate(f *testing.F) {
	f.Add("{{.ScaleSet}}-{{.InstanceIndex}}", "web")
	f.Add(`{{printf "%03s" .InstanceIndex}}{{index .Tags "role"}}`, "7")
	f.Add("{{range 9}}{{end}}", "")
	f.Add(`{{with .Tags}}{{.role}}{{end}}`, "{{.VMID}}")
	f.Fuzz(func(t *testing.T, text, fact string) {
		got, err := Expand(text, Facts{ScaleSet: fact, InstanceIndex: fact, Tags: map[string]string{"role": fact}})
		if err == nil && len(got) > 64<<10 {
			t.Errorf("%d bytes", len(got))
		}
		if err == nil && checkName(got) == "" &&
			(strings.HasPrefix(got, "-") || strings.ContainsAny(got, "\x00\n\r")) {
			t.Errorf("taken as an agent's name: %q", got)
		}
	})
}

// An identity beside which another form of it stands empty counts, however often it is read; a
// stronger source's replaces it whole, by an empty one as well.
func TestAnEmptyIdentityIsNoRival(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.yaml")
	text := `url: https://dev.azure.com/contoso
target: {pool: {name: Default}}
credential: {entra: true, identity: {clientId: 11111111-2222-3333-4444-555555555555, objectId: "", resourceId: ""}}
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for set, want := range map[string]string{
		"": "11111111-2222-3333-4444-555555555555", "credential.identity.objectId=": "", "credential.identity.clientId=": "",
	} {
		var flags []string
		if set != "" {
			flags = []string{set}
		}
		for range 50 {
			l, err := Load(file, nil, flags)
			if err != nil {
				t.Fatal(err)
			}
			c, err := l.Config()
			if err != nil {
				t.Fatal(err)
			}
			if got := c.Credential.Identity; got.ClientID != want || got.ObjectID != "" {
				t.Fatalf("%q: %+v", set, got)
			}
		}
	}
}
