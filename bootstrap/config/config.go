// Package config knows the configuration: its schema, where values come from and which source wins,
// and what is refused, with file, line and the fix. It needs no Azure.
package config

import (
	"runtime"
	"time"
)

// Config is the effective configuration. The keys are those of the file; see docs/configuration.md.
type Config struct {
	URL        string        `key:"url"`
	Collection string        `key:"collection"`
	Target     Target        `key:"target"`
	Agent      Agent         `key:"agent"`
	Start      Start         `key:"start"`
	Hooks      Hooks         `key:"hooks"`
	Credential Credential    `key:"credential"`
	Cloud      string        `key:"cloud"`
	Network    Network       `key:"network"`
	IMDS       IMDS          `key:"imds"`
	Deadline   time.Duration `key:"deadline"`
	Health     Health        `key:"health"`
	Drain      Drain         `key:"drain"`
	Disk       Disk          `key:"disk"`
	Retire     Retire        `key:"retire"`
	Sources    Sources       `key:"sources"`

	// Server is URL and Collection, understood.
	Server Server `key:"-"`
	// Values are the effective values by key, each with its source.
	Values map[string]Value `key:"-"`
}

// Target is what the VM joins: exactly one of the three.
type Target struct {
	Environment     *Environment     `key:"environment"`
	DeploymentGroup *DeploymentGroup `key:"deploymentGroup"`
	Pool            *Pool            `key:"pool"`
}

// Environment is an Azure Pipelines environment; the VM becomes a virtual machine resource of it.
type Environment struct {
	Project string   `key:"project"`
	Name    string   `key:"name"`
	Tags    []string `key:"tags"`
}

// DeploymentGroup is a deployment group; the VM becomes a target of it.
type DeploymentGroup struct {
	Project string   `key:"project"`
	Name    string   `key:"name"`
	Tags    []string `key:"tags"`
}

// Pool is an agent pool; the VM becomes an agent of it.
type Pool struct {
	Name string `key:"name"`
}

// Agent says how the Azure Pipelines agent is set up on this VM.
type Agent struct {
	Name             string        `key:"name"`
	Dir              string        `key:"dir"`
	Work             string        `key:"work"`
	User             string        `key:"user"`
	Service          string        `key:"service"`
	Replace          string        `key:"replace"`
	Reregister       bool          `key:"reregister"`
	ConfigureTimeout time.Duration `key:"configureTimeout"`
	Registration     string        `key:"registration"`  // Script or Rest
	OnlineTimeout    time.Duration `key:"onlineTimeout"` // of an agent that was registered by Rest
	Environment      []string      `key:"environment"`
	Capabilities     []string      `key:"capabilities"`
	Groups           []string      `key:"groups"` // that the agent and its jobs are in besides the account's own
	Metadata         string        `key:"metadata"`
}

// What agent.metadata says of jobs that ask the metadata service.
const (
	Deny  = "deny"
	Allow = "allow"
)

// What registers the agent, as the configuration and state.json have it: its config.sh, or the daemon itself.
const (
	ByScript = "script"
	ByRest   = "rest"
)

// Start is the gate before the first job of a boot: what must have ended before the agent starts.
type Start struct {
	After   []string      `key:"after"`
	Run     string        `key:"run"` // a folder of scripts; "" = none
	Timeout time.Duration `key:"timeout"`
	Hold    string        `key:"hold"` // auto: the agent does not start in a standby pool; never
}

// Hooks are scripts that run at events of this VM.
type Hooks struct {
	Run     string        `key:"run"` // a folder with one for each event; "" = none
	Timeout time.Duration `key:"timeout"`
}

// Holds reports whether the agent's start waits until the VM has left a standby pool. On Windows the service
// starts by itself.
func (s Start) Holds() bool { return s.Hold == "auto" && runtime.GOOS != "windows" }

// CloudInit is a word of start.after: cloud-init has ended.
const CloudInit = "cloudInit"

// Credential says where the PAT is and which managed identity may read it; with Entra there is no
// PAT.
type Credential struct {
	// Entra: the managed identity's own Microsoft Entra token stands in for a PAT.
	Entra bool `key:"entra"`
	// EntraIn: for an organization of another tenant; written below credential.entra, in place of true.
	EntraIn  EntraIn  `key:"entraIn" as:"entra"`
	KeyVault KeyVault `key:"keyVault"`
	Identity Identity `key:"identity"`
	// WarnBefore is how long before the secret's end it is warned of.
	WarnBefore time.Duration `key:"warnBefore"`
}

// EntraIn is an application that takes the managed identity's tokens for its own, and the tenant of the
// organization.
type EntraIn struct {
	TenantID string `key:"tenantId"`
	ClientID string `key:"clientId"`
}

// KeyVault names a secret; an empty version is the latest.
type KeyVault struct {
	URL     string `key:"url"`
	Secret  string `key:"secret"`
	Version string `key:"version"`
}

// Identity picks the managed identity: none set is the system-assigned one.
type Identity struct {
	ClientID   string `key:"clientId"`
	ObjectID   string `key:"objectId"`
	ResourceID string `key:"resourceId"`
}

// Network is the way out, besides HTTPS_PROXY, NO_PROXY and SSL_CERT_FILE.
type Network struct {
	Proxy   string `key:"proxy"`
	NoProxy string `key:"noProxy"`
	CAFile  string `key:"caFile"`
}

// IMDS is where the Instance Metadata Service answers.
type IMDS struct {
	Endpoint string `key:"endpoint"`
}

// Health is where health, status and metrics are served; "" = nowhere.
type Health struct {
	Listen string        `key:"listen"`
	Grace  time.Duration `key:"grace"`
}

// Drain says how a running job is waited for before the VM goes.
type Drain struct {
	Enabled    bool          `key:"enabled"`
	Timeout    time.Duration `key:"timeout"`
	OnShutdown bool          `key:"onShutdown"`
}

// Sources switches the remote sources on.
type Sources struct {
	UserData    bool `key:"userData"`
	Tags        bool `key:"tags"`
	TrustRemote bool `key:"trustRemote"`
}

// defaults are the weakest source, by key.
var defaults = map[string]any{
	"collection":                  "",
	"credential.entra":            false,
	"credential.keyVault.version": "",
	"credential.warnBefore":       14 * 24 * time.Hour,
	"network.proxy":               "",
	"network.noProxy":             "",
	"network.caFile":              "",
	"agent.name":                  "{{.ComputerName}}",
	"agent.dir":                   defaultDir,
	"agent.work":                  "_work",
	"agent.environment":           []string{},
	"agent.capabilities":          []string{},
	"agent.groups":                []string{},
	"agent.user":                  defaultUser,
	"agent.metadata":              defaultMetadata,
	"agent.service":               "auto",
	"agent.replace":               "offline",
	"agent.configureTimeout":      5 * time.Minute,
	"agent.registration":          ByScript,
	"agent.onlineTimeout":         2 * time.Minute,
	"start.after":                 []string{},
	"start.run":                   defaultStart,
	"start.timeout":               10 * time.Minute,
	"hooks.run":                   defaultHooks,
	"hooks.timeout":               time.Minute,
	"start.hold":                  "auto",
	"cloud":                       "auto",
	"imds.endpoint":               "http://169.254.169.254",
	"deadline":                    30 * time.Minute,
	"health.listen":               "127.0.0.1:8484",
	"health.grace":                30 * time.Minute,
	"drain.enabled":               true,
	"drain.timeout":               15 * time.Minute,
	"drain.onShutdown":            false,
	"disk.min":                    Size(0),
	"disk.minInodes":              Percent(0),
	"retire.jobs":                 Count(0),
	"retire.idle":                 time.Duration(0),
	"retire.age":                  time.Duration(0),
	"retire.keep":                 Count(0),
	"retire.then":                 ThenDelete,
	"agent.reregister":            true,
	"sources.userData":            false,
	"sources.tags":                false,
	"sources.trustRemote":         false,
}

// DefaultHealth is how health is served when the configuration cannot be read.
func DefaultHealth() Health {
	listen, _ := defaults["health.listen"].(string)
	grace, _ := defaults["health.grace"].(time.Duration)
	return Health{listen, grace}
}

// DefaultHooks are the hooks when the configuration cannot be read.
func DefaultHooks() Hooks {
	run, _ := defaults["hooks.run"].(string)
	timeout, _ := defaults["hooks.timeout"].(time.Duration)
	return Hooks{run, timeout}
}

// DefaultIMDS is where IMDS answers when the configuration cannot be read.
func DefaultIMDS() string {
	endpoint, _ := defaults["imds.endpoint"].(string)
	return endpoint
}

// The kinds of target, as in the configuration and in state.json.
const (
	KindEnvironment     = "environment"
	KindDeploymentGroup = "deploymentGroup"
	KindPool            = "pool"
)

// Kind says which of the three is set; "" if none.
func (t Target) Kind() string {
	switch {
	case t.Environment != nil:
		return KindEnvironment
	case t.DeploymentGroup != nil:
		return KindDeploymentGroup
	case t.Pool != nil:
		return KindPool
	}
	return ""
}

// Project is the project of an environment or deployment group; a pool has none.
func (t Target) Project() string {
	switch {
	case t.Environment != nil:
		return t.Environment.Project
	case t.DeploymentGroup != nil:
		return t.DeploymentGroup.Project
	}
	return ""
}

// Name is the name of the environment, deployment group or pool.
func (t Target) Name() string {
	switch {
	case t.Environment != nil:
		return t.Environment.Name
	case t.DeploymentGroup != nil:
		return t.DeploymentGroup.Name
	case t.Pool != nil:
		return t.Pool.Name
	}
	return ""
}

// Tags are the tag templates of an environment or deployment group; a pool's agents have none.
func (t Target) Tags() []string {
	switch {
	case t.Environment != nil:
		return t.Environment.Tags
	case t.DeploymentGroup != nil:
		return t.DeploymentGroup.Tags
	}
	return nil
}
