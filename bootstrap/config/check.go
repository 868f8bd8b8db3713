package config

import (
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"azp-bootstrap/bootstrap/azure"
	"azp-bootstrap/bootstrap/line"
)

// VaultDomains are the DNS suffixes of Key Vault by cloud (learn.microsoft.com, "About keys,
// secrets and certificates", table of DNS suffixes).
var VaultDomains = map[string]string{
	"public":       "vault.azure.net",
	"usgovernment": "vault.usgovcloudapi.net",
	"china":        "vault.azure.cn",
}

var (
	secretName    = regexp.MustCompile(`^[0-9A-Za-z-]+$`)
	secretVersion = regexp.MustCompile(`^[0-9A-Za-z]*$`)
	guid          = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)
)

// check looks at the merged configuration as a whole. targetAwaited: a source that is still to come
// may name the target. patGiven: the caller has a PAT, so none need be configured.
func (c *Config) check(targetAwaited, patGiven bool) Problems {
	f := &findings{of: c}
	c.checkTexts(f)
	if c.URL == "" {
		f.bad("url", "is missing", "Write for example url: https://dev.azure.com/contoso.")
	} else if s, text, fix := serverOf(c.URL, c.Collection); text != "" {
		f.bad("url", text, fix)
	} else {
		c.Server = s
	}
	if c.Target.Kind() != "" {
		c.checkTarget(f)
	} else if !targetAwaited {
		f.bad("target", "is missing", "Set exactly one of target.environment, target.deploymentGroup and target.pool.")
	}
	c.checkAgent(f)
	c.checkStart(f)
	c.checkRetire(f)
	c.checkHooks(f)
	for _, key := range []string{"disk.min", "disk.minInodes"} {
		if off := c.Values[key].Any; !watchesDisk && off != Size(0) && off != Percent(0) && off != nil {
			f.bad(key, "is not for Windows", "Leave it out.")
		}
	}
	f.oneOf("cloud", c.Cloud)
	if c.Deadline <= 0 {
		f.bad("deadline", "is not more than zero", "Write for example 30m.")
	}
	c.checkEntraIn(f.bad)
	switch {
	case patGiven:
	case c.Credential.Entra:
		c.checkEntra(f.bad)
	default:
		c.checkVault(f.bad)
	}
	c.checkIdentity(f.bad)
	c.checkNetwork(f.bad)
	if variable, value := azure.EnvironmentProxy(); c.Network.Proxy == "" {
		if _, wrong, fix := azure.ParseProxy(value); wrong != "" {
			f.all = append(f.all, Problem{"environment " + variable, "", "the proxy " + wrong, fix})
		}
	}
	return f.all
}

// findings are the problems of a configuration.
type findings struct {
	of  *Config
	all Problems
}

func (f *findings) where(key string) string { return f.of.Values[key].Where }

func (f *findings) bad(key, text, fix string) {
	where := f.where(key)
	if where == "" {
		where = "configuration"
	}
	f.all = append(f.all, Problem{where, key, text, fix})
}

func (f *findings) oneOf(key, got string) {
	want := choices[key]
	if !slices.Contains(want, got) {
		f.bad(key, fmt.Sprintf("unknown value %q", got), "Write one of: "+strings.Join(want, ", ")+".")
	}
}

// checkTexts refuses what cannot stand in one line.
func (c *Config) checkTexts(f *findings) {
	for _, key := range Keys() {
		for _, text := range textOf(c.Values[key].Any) {
			if strings.Contains(text, "{{") && (key == "agent.name" || key == "agent.capabilities" || strings.HasSuffix(key, ".tags")) {
				continue // a template: what it becomes is checked
			}
			if wrong := line.Wrong(text, line.Longest); wrong != "" {
				f.bad(key, wrong, "Write it in one line, as plain text.")
			}
		}
	}
}

func (c *Config) checkTarget(f *findings) {
	kind := c.Target.Kind()
	if kind != KindPool && c.Target.Project() == "" {
		f.bad("target."+kind+".project", "is missing", "Name the project.")
	}
	if c.Target.Name() == "" {
		f.bad("target."+kind+".name", "is missing", "Name it as Azure DevOps shows it.")
	}
	for _, key := range []string{"project", "name"} {
		full := "target." + kind + "." + key
		if v, _ := c.Values[full].Any.(string); strings.HasPrefix(strings.TrimSpace(v), "-") {
			f.bad(full, "begins with -", "Azure DevOps has no such names.")
		}
	}
	key := "target." + kind + ".tags"
	for _, t := range c.Target.Tags() {
		f.all = append(f.all, checkTemplate(f.where(key), key, t)...)
		if strings.Contains(t, "{{") {
			continue
		}
		if text := checkTag(strings.TrimSpace(t)); text != "" {
			f.bad(key, text, "Write it without; a comma parts two tags.")
		}
	}
}

// variable is a line of agent.environment, reserved those that others say.
var (
	variable = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*=`)
	reserved = regexp.MustCompile(`(?i)^(AZP_BOOTSTRAP_|VSTS_AGENT_INPUT_|[A-Z]+_PROXY=)`)
)

func (c *Config) checkAgent(f *findings) {
	if p := checkTemplate(f.where("agent.name"), "agent.name", c.Agent.Name); p != nil {
		f.all = append(f.all, p...)
	} else if !strings.Contains(c.Agent.Name, "{{") {
		if text := checkName(c.Agent.Name); text != "" {
			f.bad("agent.name", text, "Choose another name.")
		}
	}
	if !filepath.IsAbs(c.Agent.Dir) || filepath.Clean(c.Agent.Dir) == "/" {
		f.bad("agent.dir", "not an absolute path of a folder of its own", "Write for example /opt/azp-agent.")
	}
	c.Agent.Dir = filepath.Clean(c.Agent.Dir)
	switch work := filepath.Clean(c.Agent.Work); {
	case c.Agent.Work == "", !filepath.IsAbs(work) && (work == "." || !filepath.IsLocal(work)):
		f.bad("agent.work", "not the name of a folder in agent.dir, nor an absolute path", "Write for example _work.")
	case filepath.IsAbs(work) && (work == c.Agent.Dir || isAbove(work, c.Agent.Dir)):
		f.bad("agent.work", "all of agent.dir would be the jobs' work folder", "Write for example _work, or /mnt/azp-work.")
	case isSystems(work):
		f.bad("agent.work", "a folder of the system's, which jobs would own", "Write for example _work, or /mnt/azp-work.")
	}
	if c.Agent.User == "root" {
		f.bad("agent.user", "jobs would run as root", "Name an account of its own, such as azp.")
	} else if c.Agent.User != "" && !accountName.MatchString(c.Agent.User) {
		f.bad("agent.user", "not an account name", "Name an account such as azp.")
	}
	for _, v := range c.Agent.Environment {
		if !variable.MatchString(v) || reserved.MatchString(v) {
			name, _, _ := strings.Cut(v, "=")
			f.bad("agent.environment", fmt.Sprintf("%q is no variable for jobs", line.Shown(name)),
				"Write NAME=value. Proxies are network.proxy's to say, and AZP_BOOTSTRAP_ is azp-bootstrap's own.")
		}
	}
	named := map[string]bool{}
	for _, v := range c.Agent.Capabilities {
		name, _, _ := strings.Cut(v, "=")
		if lower := strings.ToLower(name); named[lower] {
			f.bad("agent.capabilities", fmt.Sprintf("%q is named twice", line.Shown(name)),
				"Keep one: upper and lower case count as the same.")
		} else {
			named[lower] = true
		}
		if p := checkTemplate(f.where("agent.capabilities"), "agent.capabilities", v); p != nil {
			f.all = append(f.all, p...)
		} else if wrong := checkCapability(v); wrong != "" {
			f.bad("agent.capabilities", wrong, "Write NAME=value; only the value may be a template.")
		}
	}
	c.checkGroups(f)
	f.oneOf("agent.service", c.Agent.Service)
	f.oneOf("agent.replace", c.Agent.Replace)
	f.oneOf("agent.metadata", c.Agent.Metadata)
	if c.Agent.Metadata == Deny && runtime.GOOS == "windows" {
		f.bad("agent.metadata", "deny is not for Windows", "Delete it. Azure's Metadata Security Protocol works there.")
	}
	if c.Agent.ConfigureTimeout <= 0 {
		f.bad("agent.configureTimeout", "is not more than zero", "Write for example 5m.")
	}
	f.oneOf("agent.registration", c.Agent.Registration)
	if c.Agent.Registration == ByRest && runtime.GOOS != "linux" {
		f.bad("agent.registration", "rest is for Linux only: elsewhere the agent keeps its key, or a proxy's password, in a store of the "+
			"system's, and config.cmd makes the service", "Write script, or leave it out.")
	}
	if c.Agent.OnlineTimeout <= 0 {
		f.bad("agent.onlineTimeout", "is not more than zero", "Write for example 2m.")
	}
}

// checkCapability says what is wrong with NAME=value; "" = nothing. The agent takes what is before the first = for
// the name (UserCapabilitiesProvider.cs); its own names begin with Agent.
func checkCapability(text string) string {
	name, _, parted := strings.Cut(text, "=")
	lower := strings.ToLower(name)
	switch {
	case !parted || name == "" || strings.TrimSpace(name) != name || strings.Contains(name, "{{"):
		return fmt.Sprintf("%q is no capability", line.Shown(text))
	case strings.HasPrefix(lower, "azp_bootstrap_"), strings.HasPrefix(lower, "agent."):
		return fmt.Sprintf("the name %q is not free", line.Shown(name))
	}
	return ""
}

func (c *Config) checkStart(f *findings) {
	for _, what := range c.Start.After {
		f.oneOf("start.after", what)
	}
	if c.Start.Run != "" && !filepath.IsAbs(c.Start.Run) {
		f.bad("start.run", "not an absolute path", `Write for example /etc/azp-bootstrap/start.d, or "" for no scripts.`)
	}
	f.oneOf("start.hold", c.Start.Hold)
	if c.Start.Timeout <= 0 {
		f.bad("start.timeout", "is not more than zero", "Write for example 10m.")
	}
	if gated := len(c.Start.After) > 0 || c.Start.Run != ""; gated && runtime.GOOS == "windows" {
		f.bad("start", "is not for Windows", "Delete it, and let the scripts end before azp-bootstrap is installed.")
	}
}

func (c *Config) checkHooks(f *findings) {
	if c.Hooks.Run != "" && !filepath.IsAbs(c.Hooks.Run) {
		f.bad("hooks.run", "not an absolute path", `Write for example /etc/azp-bootstrap/hooks.d, or "" for no hooks.`)
	}
	if c.Hooks.Timeout <= 0 {
		f.bad("hooks.timeout", "is not more than zero", "Write for example 1m.")
	}
	if c.Hooks.Run != "" && runtime.GOOS == "windows" {
		f.bad("hooks.run", "is not for Windows", "Leave it out.")
	}
}

func (c *Config) checkIdentity(bad func(key, text, fix string)) {
	id := c.Credential.Identity
	if id.ClientID != "" && !guid.MatchString(id.ClientID) {
		bad(
			"credential.identity.clientId",
			"not a client ID",
			"Write the GUID that `az identity show --query clientId` prints.",
		)
	}
	if id.ObjectID != "" && !guid.MatchString(id.ObjectID) {
		bad(
			"credential.identity.objectId",
			"not an object ID",
			"Write the GUID that `az identity show --query principalId` prints.",
		)
	}
	if id.ResourceID != "" && !strings.HasPrefix(strings.ToLower(id.ResourceID), "/subscriptions/") {
		bad(
			"credential.identity.resourceId",
			"not a resource ID",
			"Write the path that `az identity show --query id` prints: /subscriptions/….",
		)
	}
}

const orPAT = "Set credential.keyVault to a vault that holds a PAT, and delete credential.entra."

// checkEntra: only Azure DevOps Services takes tokens of Microsoft Entra, and only the public
// cloud's
// (learn.microsoft.com/azure/devops/integrate/get-started/authentication/service-principal-managed-identity).
func (c *Config) checkEntra(bad func(key, text, fix string)) {
	switch {
	case c.Server.Base != "" && !c.Server.Hosted:
		bad("credential.entra", "Azure DevOps Server and TFS take no tokens of Microsoft Entra", orPAT)
	case c.Cloud == "usgovernment" || c.Cloud == "china":
		bad("credential.entra", "Azure DevOps Services takes no tokens of the cloud "+c.Cloud, orPAT)
	}
	for _, key := range []string{"credential.keyVault.url", "credential.keyVault.secret"} {
		if _, set := c.Values[key]; set {
			bad(
				key,
				"a vault is named and credential.entra is on",
				"Keep one of the two: with credential.entra nothing is read from a vault.",
			)
		}
	}
}

func (c *Config) checkVault(bad func(key, text, fix string)) {
	kv := c.Credential.KeyVault
	u, err := url.Parse(kv.URL)
	const fix = "Write for example https://contoso.vault.azure.net."
	switch {
	case kv.URL == "":
		bad("credential.keyVault.url", "is missing", fix+" Without a PAT, on Azure DevOps Services: credential.entra: true.")
	case err != nil || u.Hostname() == "":
		bad("credential.keyVault.url", "not a URL", fix)
	case u.Scheme != "https":
		bad(
			"credential.keyVault.url",
			"the scheme is not https",
			"Write https://: the PAT and the identity's token travel here.",
		)
	case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil || (u.Port() != "" && u.Port() != "443"):
		bad(
			"credential.keyVault.url",
			"has more after the vault's name",
			"Write https://"+u.Hostname()+" and name the secret in credential.keyVault.secret.",
		)
	default:
		if text := vaultDomain(u.Hostname(), c.Cloud); text != "" {
			bad("credential.keyVault.url", text, fix)
		}
	}
	switch {
	case kv.Secret == "":
		bad("credential.keyVault.secret", "is missing", "Name the secret that holds the PAT.")
	case len(kv.Secret) > 127 || !secretName.MatchString(kv.Secret):
		bad(
			"credential.keyVault.secret",
			"not the name of a secret",
			"Names have 1 to 127 letters, digits and dashes. (The name, not the PAT itself.)",
		)
	}
	if len(kv.Version) > 64 || !secretVersion.MatchString(kv.Version) {
		bad(
			"credential.keyVault.version",
			"not a version of a secret",
			`Write the 32 hexadecimal digits that Key Vault shows, or "" for the latest.`,
		)
	}
}

// CheckCloud compares the credential with the cloud the VM is in, as IMDS names it
// (compute.azEnvironment).
func (c *Config) CheckCloud(azEnvironment string) error {
	cloud := map[string]string{
		"AzurePublicCloud": "public", "AzureUSGovernmentCloud": "usgovernment", "AzureChinaCloud": "china",
	}[azEnvironment]
	if cloud == "" {
		return nil
	}
	if c.Credential.Entra {
		if cloud == "public" {
			return nil
		}
		v := c.Values["credential.entra"]
		return Problems{
			{
				v.Where,
				"credential.entra",
				"Azure DevOps Services takes no tokens of " + azEnvironment + ", which this VM is in",
				orPAT,
			},
		}.Err()
	}
	u, err := url.Parse(c.Credential.KeyVault.URL)
	if c.Cloud != "auto" || err != nil {
		return nil
	}
	if text := vaultDomain(u.Hostname(), cloud); text != "" {
		v := c.Values["credential.keyVault.url"]
		return Problems{
			{
				v.Where,
				"credential.keyVault.url",
				text + " (this VM is in " + azEnvironment + ")",
				"Name a vault of this cloud: https://NAME." + VaultDomains[cloud] + ".",
			},
		}.Err()
	}
	return nil
}

// vaultDomain makes sure that the identity's token goes to a vault of the right cloud only.
func vaultDomain(host, cloud string) string {
	for name, domain := range VaultDomains {
		label, ok := strings.CutSuffix(strings.ToLower(host), "."+domain)
		switch {
		case !ok:
			continue
		case label == "" || strings.Contains(label, "."):
			return "not a vault's name: " + host
		case cloud != "auto" && VaultDomains[cloud] != "" && cloud != name:
			return "a vault of the cloud " + name + ", while cloud is " + cloud
		}
		return ""
	}
	return host + " is not a Key Vault (vault.azure.net, vault.usgovcloudapi.net, vault.azure.cn)"
}

func (c *Config) checkNetwork(bad func(key, text, fix string)) {
	if c.Network.Proxy != "" {
		if _, wrong, fix := azure.ParseProxy(c.Network.Proxy); wrong != "" {
			bad("network.proxy", wrong, fix)
		}
	}
	if wrong, fix := azure.CheckNoProxy(c.Network.NoProxy); wrong != "" {
		bad("network.noProxy", wrong, fix)
	}
	u, err := url.Parse(c.IMDS.Endpoint)
	switch {
	case err != nil || u.Scheme != "http" || u.Host == "" || strings.Trim(u.Path, "/") != "":
		bad("imds.endpoint", "not http://ADDRESS", "Write http://169.254.169.254, or leave the key out.")
	case !loopback(u.Hostname()) && !net.ParseIP(u.Hostname()).IsLinkLocalUnicast():
		bad(
			"imds.endpoint",
			"neither link-local nor loopback",
			"Tokens come from here unencrypted: it must not leave the machine.",
		)
	}
	if l := c.Health.Listen; l != "" {
		if _, _, err := net.SplitHostPort(l); err != nil {
			bad("health.listen", "not ADDRESS:PORT", `Write for example 127.0.0.1:8484, or "" to switch it off.`)
		}
	}
}

// isAbove reports whether a folder is above another one.
func isAbove(folder, other string) bool {
	return strings.HasPrefix(other, strings.TrimSuffix(folder, string(filepath.Separator))+string(filepath.Separator))
}

// isSystems reports whether a path lies where systems keep what is theirs alone (file-hierarchy(7)), or is one
// of the folders that hold other programs'.
func isSystems(path string) bool {
	for _, of := range []string{"/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/root", "/sbin", "/sys", "/usr"} {
		if path == of || isAbove(of, path) {
			return true
		}
	}
	return slices.Contains([]string{"/home", "/media", "/opt", "/run", "/srv", "/tmp", "/var", "/var/cache", "/var/lib", "/var/log",
		"/var/spool", "/var/tmp"}, path)
}
