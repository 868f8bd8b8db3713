// Package sim is Azure on a laptop: the Instance Metadata Service, managed identities, Key Vault
// and Azure DevOps (Services, Server, TFS), as a product under test meets them: same names, same
// TLS, same status codes and error bodies. It imports nothing of the product, so that it does not
// share the product's mistakes.
package sim

import (
	"bytes"
	_ "embed"
	"fmt"
	"net/url"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// DefaultScenario is what azp-sim serves when it is given no scenario of its own.
//
//go:embed default.yaml
var DefaultScenario []byte

// A Scenario says what stands in this Azure.
type Scenario struct {
	VMs     []VM     `yaml:"vms"`
	Vaults  []Vault  `yaml:"vaults"`
	Servers []Server `yaml:"servers"`
	PATs    []PAT    `yaml:"pats"`
	Proxy   Proxy    `yaml:"proxy"`
	Roles   []Role   `yaml:"roles"` // assignments at Azure Resource Manager
	// Applications are app registrations in Microsoft Entra, for organizations of other tenants than the VMs'.
	Applications []Application `yaml:"applications"`
	Faults       []Fault       `yaml:"faults"`
	// Certificates says which hosts show a bad certificate: expired, notYetValid, wrongHost,
	// unknownCA.
	Certificates map[string]string `yaml:"certificates"`
	// Quirks gives refusals of Azure DevOps another status, as 500: accessDenied, jobStillRunning,
	// notFound, environmentPoolNotFound. The type key stays.
	Quirks map[string]int `yaml:"quirks"`
}

// A VM has an IMDS of its own.
type VM struct {
	ID             string            `yaml:"id"`
	Name           string            `yaml:"name"`
	ComputerName   string            `yaml:"computerName"`
	ScaleSet       string            `yaml:"scaleSet"`
	Location       string            `yaml:"location"`
	Zone           string            `yaml:"zone"`
	ResourceGroup  string            `yaml:"resourceGroup"`
	SubscriptionID string            `yaml:"subscriptionId"`
	Priority       string            `yaml:"priority"` // Spot, or empty
	Standby        string            `yaml:"standby"`  // in a standby pool: "true", "false", or empty
	Image          string            `yaml:"image"`    // ID of a gallery image's version
	Flexible       bool              `yaml:"flexible"` // of a flexible scale set: a VM that stands for itself
	Cloud          string            `yaml:"cloud"`    // as compute.azEnvironment
	Tags           map[string]string `yaml:"tags"`
	UserData       string            `yaml:"userData"` // plain; served in base64
	Identities     []Identity        `yaml:"identities"`
	// TerminateNotice is how long before it is deleted a VM hears of it; 0 = not at all.
	TerminateNotice time.Duration `yaml:"terminateNotice"`
}

// An Identity is a managed identity of a VM: kind system or user.
type Identity struct {
	Kind       string `yaml:"kind"`
	ClientID   string `yaml:"clientId"`
	ObjectID   string `yaml:"objectId"`
	ResourceID string `yaml:"resourceId"`
}

// A Vault is a Key Vault: its host name, who may read its secrets (object IDs), and the secrets.
type Vault struct {
	Host      string            `yaml:"host"`
	Readers   []string          `yaml:"readers"`
	Firewall  string            `yaml:"firewall"`  // deny = refuses every network
	Challenge string            `yaml:"challenge"` // in place of the true WWW-Authenticate
	Secrets   map[string]Secret `yaml:"secrets"`
}

// A Secret of a vault.
type Secret struct {
	Value     string    `yaml:"value"`
	Disabled  bool      `yaml:"disabled"`
	Expires   time.Time `yaml:"expires"`
	NotBefore time.Time `yaml:"notBefore"`

	version string // "" = the first
}

// A Server is one organization of Services, or one collection on premises.
type Server struct {
	URL           string    `yaml:"url"`
	APIVersion    string    `yaml:"apiVersion"`    // the newest it serves
	NoKeyExchange bool      `yaml:"noKeyExchange"` // as TFS 2015
	PublicURL     string    `yaml:"publicUrl"`     // where the server itself believes to be; "" = at URL
	Agent         string    `yaml:"agent"`         // the version that it offers; "" = none
	Pools         []string  `yaml:"pools"`
	Projects      []Project `yaml:"projects"`
}

// A Project with its environments and deployment groups.
type Project struct {
	Name             string   `yaml:"name"`
	Environments     []string `yaml:"environments"`
	DeploymentGroups []string `yaml:"deploymentGroups"`
}

// A PAT with its scopes: full, agentPools, agentPools.read, deploymentGroup, deploymentGroup.read,
// environment, environment.read (without .read: read and manage).
type PAT struct {
	Value         string    `yaml:"value"`
	ObjectID      string    `yaml:"objectId"` // a managed identity in place of a PAT: its tokens count, scopes are its rights
	User          string    `yaml:"user"`
	Scopes        []string  `yaml:"scopes"`
	Organizations []string  `yaml:"organizations"` // empty = All accessible organizations
	Expires       time.Time `yaml:"expires"`
	// The rights that its owner lacks, as patterns of pool names: environment-* are the pools
	// behind environments.
	NoView   []string `yaml:"noView"`
	NoManage []string `yaml:"noManage"`
	Hidden   string   `yaml:"hidden"` // a pool without View: notFound (also if this is not set), or empty
}

// A Proxy may want a user name and password.
type Proxy struct {
	User     string `yaml:"user"`
	Password string `yaml:"password"`
}

// A Fault answers in place of a service.
type Fault struct {
	Service    string            `yaml:"service"` // imds, identity, vault, devops, arm, entra, download, proxy
	Method     string            `yaml:"method"`
	Path       string            `yaml:"path"` // regular expression over host and path
	Status     int               `yaml:"status"`
	Body       string            `yaml:"body"`
	Type       string            `yaml:"contentType"`
	Headers    map[string]string `yaml:"headers"`
	RetryAfter string            `yaml:"retryAfter"`
	Delay      time.Duration     `yaml:"delay"`
	Cut        bool              `yaml:"cut"`   // cut the connection without an answer
	Skip       int               `yaml:"skip"`  // let so many pass first
	Times      int               `yaml:"times"` // then strike so often; 0 = for ever

	match *regexp.Regexp
	seen  int
}

// ScaleSet is the default scenario with so many VMs.
func ScaleSet(vms int) []byte {
	first := regexp.MustCompile(`(?s)  - id: .*?vaults:\n`).Find(DefaultScenario)
	one := strings.TrimSuffix(string(first), "vaults:\n")
	all := one
	for n := 2; n <= vms; n++ {
		next := strings.NewReplacer(
			"5c7a1b1e-0001-4d3a-9a00-000000000001", fmt.Sprintf("5c7a1b1e-%04d-4d3a-9a00-%012d", n, n),
			"web_1", fmt.Sprintf("web_%d", n), "web-000001", fmt.Sprintf("web-%06d", n),
		).Replace(one)
		all += next
	}
	return []byte(strings.Replace(string(DefaultScenario), one, all, 1))
}

// Load reads a scenario; a key that does not exist is refused.
func Load(file string) (*Scenario, error) {
	data := DefaultScenario
	if file != "" {
		var err error
		if data, err = os.ReadFile(file); err != nil { //nolint:gosec // the user names it
			return nil, err
		}
	}
	var s Scenario
	d := yaml.NewDecoder(bytes.NewReader(data))
	d.KnownFields(true)
	if err := d.Decode(&s); err != nil {
		return nil, fmt.Errorf("scenario %s: %w", file, err)
	}
	return &s, s.check()
}

func (s *Scenario) check() error {
	for i := range s.Faults {
		f := &s.Faults[i]
		var err error
		if f.match, err = regexp.Compile(f.Path); err != nil {
			return fmt.Errorf("fault %d: %w", i+1, err)
		}
		if !strings.Contains(" imds identity vault devops arm entra download proxy ", " "+f.Service+" ") {
			return fmt.Errorf("fault %d: unknown service %q", i+1, f.Service)
		}
	}
	for i, p := range s.PATs {
		for _, pattern := range append(append([]string{}, p.NoView...), p.NoManage...) {
			if _, err := path.Match(pattern, ""); err != nil {
				return fmt.Errorf("PAT %d: %q: %w", i+1, pattern, err)
			}
		}
		for _, s := range p.Scopes {
			if !slices.Contains([]string{"full", "agentPools", "deploymentGroup", "environment"}, strings.TrimSuffix(s, ".read")) {
				return fmt.Errorf("PAT %d: unknown scope %q (full, agentPools, deploymentGroup, environment; each with .read behind)", i+1, s)
			}
		}
		if !slices.Contains([]string{"", "notFound", "empty"}, p.Hidden) {
			return fmt.Errorf("PAT %d: hidden is notFound or empty, not %q", i+1, p.Hidden)
		}
	}
	for i := range s.Applications {
		s.Applications[i].complete()
	}
	for i, v := range s.Vaults {
		if v.Host == "" || strings.ContainsAny(v.Host, ":/") {
			return fmt.Errorf("vault %d: host is a name, such as contoso.vault.azure.net, not %q", i+1, v.Host)
		}
	}
	for q := range s.Quirks {
		if !slices.Contains([]string{"accessDenied", "jobStillRunning", "notFound", "environmentPoolNotFound"}, q) {
			return fmt.Errorf("unknown quirk %q", q)
		}
	}
	names := map[string]bool{}
	for i := range s.VMs {
		v := &s.VMs[i]
		if v.ID == "" || v.Name == "" || names[v.Name] {
			return fmt.Errorf("VM %d needs an id and a name of its own", i+1)
		}
		names[v.Name] = true
		if v.Cloud == "" {
			v.Cloud = "AzurePublicCloud"
		}
	}
	for i := range s.Servers {
		v := &s.Servers[i]
		u, err := url.Parse(v.URL)
		if err != nil || u.Host == "" {
			return fmt.Errorf("server %d: %q is not a URL", i+1, v.URL)
		}
		v.URL = strings.TrimRight(v.URL, "/")
		if v.APIVersion == "" {
			v.APIVersion = "7.1"
		}
	}
	return nil
}

func (v Server) hosted() bool {
	u, _ := url.Parse(v.URL)
	return u.Hostname() == "dev.azure.com" || strings.HasSuffix(u.Hostname(), ".visualstudio.com")
}

func (v Server) host() string {
	u, _ := url.Parse(v.URL)
	return u.Host
}

// root is the server's root on premises: the URL without the collection.
func (v Server) root() string { return v.URL[:strings.LastIndex(v.URL, "/")] }

// name is that of the organization or collection.
func (v Server) name() string {
	if u, _ := url.Parse(v.URL); strings.HasSuffix(u.Hostname(), ".visualstudio.com") {
		return strings.TrimSuffix(u.Hostname(), ".visualstudio.com")
	}
	return v.URL[strings.LastIndex(v.URL, "/")+1:]
}
