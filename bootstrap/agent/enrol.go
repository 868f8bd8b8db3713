package agent

import (
	"cmp"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"runtime"
	"strings"

	"azp-bootstrap/bootstrap/fault"
)

// This file registers without config.sh (agent.registration: rest). No process but the daemon ever
// has the PAT, and the daemon does not need it here: the server is told by whoever calls Enrol. What
// is written is what config.sh leaves, as read in microsoft/azure-pipelines-agent at 42bde98
// (2026-08-21); each function names its file there.

// A Newcomer is what the server is told of an agent that registers.
type Newcomer struct {
	Key           PublicKey
	Version       string
	OSDescription string
	Capabilities  map[string]string
}

// An Enrolment is what the server says of an agent that it has registered, and of where.
type Enrolment struct {
	ID         int
	ResourceID int // of the VM resource in an environment
	TargetID   int // of the environment or deployment group; a pool has none
	PoolID     int
	PoolName   string // "" of an environment
	ProjectID  string
	ServerURL  string // by which the agent is to reach the server; "" = as configured
	ClientID   string
	AuthURL    string // where the agent gets tokens
	OnPremises bool   // the agent reaches all of the server by the configured scheme, host and port
}

// OfPackage is the subject of faults of a package that can be registered by its config.sh alone.
const OfPackage = "package"

// Enrol lays the folder fresh, makes the agent's key, lets add tell the server of it, and writes what
// config.sh would. .agent comes last, when all else is on disk and the service user's: a folder with
// it is whole, and one without it is not registered, wherever this is cut off.
func (h Home) Enrol(
	ctx context.Context,
	r Registration,
	add func(context.Context, Newcomer) (Enrolment, error),
) (id int, err error) {
	if runtime.GOOS != "linux" { // the configuration has said so
		return 0, fault.New(fault.Config, "agent.registration: rest is for Linux only").Hint("Set agent.registration: script.")
	}
	if err := r.check(); err != nil {
		return 0, err
	}
	if err := h.Guarded(); err != nil {
		return 0, err
	}
	m, err := h.lay()
	if err != nil {
		return 0, err
	}
	if m.Version == "" {
		return 0, fault.New(fault.Agent, "the agent package %s does not tell its version", m.File).About(OfPackage).
			Hint("Prepare the image with the file under its own name, vsts-agent-linux-x64-VERSION.tar.gz.")
	}
	if err := h.setLayout(layout{SHA256: m.SHA256, InstanceID: r.InstanceID}); err != nil {
		return 0, err
	}
	if err := h.furnish(r); err != nil {
		return 0, err
	}
	key, err := newKey()
	if err != nil {
		return 0, fault.New(fault.Agent, "the agent's key").Because(err).Hint("Report this, with the log.")
	}
	made, err := add(ctx, Newcomer{key.public(), m.Version, systemName(), h.shown(r, m)})
	if err != nil {
		return 0, err
	}
	if err := h.writeRegistration(r, made, key); err != nil {
		return 0, err
	}
	if err := h.settle(".env", capabilitiesFile, ".path", ".proxy", ".proxybypass", ".proxycredentials", caBundle); err != nil {
		return 0, err
	}
	if err := h.handOver(); err != nil {
		return 0, err
	}
	return made.ID, h.putJSON(".agent", settingsOf(r, made), 0o644, h.own)
}

// settle lets files of the folder outlive a cut of the power, as .agent will: with it they count as whole. The
// folder is still root's, so what is opened is what was written.
func (h Home) settle(names ...string) error {
	root, err := os.OpenRoot(h.Dir)
	if err != nil {
		return diskFault(err, h.Dir)
	}
	defer root.Close() //nolint:errcheck // nothing was written by it
	for _, name := range names {
		f, err := root.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return diskFault(err, h.path(name))
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return diskFault(err, h.path(name))
		}
	}
	return nil
}

// writeRegistration writes all but .agent. The folder is still root's.
func (h Home) writeRegistration(r Registration, made Enrolment, key keyFile) error {
	roots := func(*os.File) error { return nil }
	if err := h.putJSON(".credentials_rsaparams", key, 0o600, roots); err != nil {
		return err
	}
	credentials, err := credentialsOf(r, made)
	if err != nil {
		return err
	}
	if err := h.putJSON(".credentials", credentials, 0o644, roots); err != nil {
		return err
	}
	if err := h.writeProxy(r.Proxy); err != nil {
		return err
	}
	if len(r.Trusted) > 0 { // AgentCertificateManager.cs, SaveCertificateSetting
		setting := struct {
			SkipServerCertValidation bool   `json:"skipServerCertValidation"`
			CACert                   string `json:"caCert"`
		}{CACert: h.path(caBundle)}
		if err := h.putJSON(".certificates", setting, 0o644, roots); err != nil {
			return err
		}
	}
	path := h.jobs(r.Environment)["PATH"]
	if path == "" { // env.sh: that of config.sh
		base, err := h.baseEnvironment()
		if err != nil {
			return err
		}
		path = valueOf(base, "PATH")
	}
	return h.put(".path", path+"\n", 0o644)
}

func valueOf(env []string, name string) string {
	for _, kv := range env {
		if n, value, _ := strings.Cut(kv, "="); n == name {
			return value
		}
	}
	return ""
}

// settings are .agent (ConfigurationStore.cs, AgentSettings): what is empty is left out.
type settings struct {
	AcceptTeeEula           bool   `json:"acceptTeeEula,omitempty"`
	AgentID                 int    `json:"agentId,omitempty"`
	AgentName               string `json:"agentName,omitempty"`
	PoolID                  int    `json:"poolId,omitempty"`
	PoolName                string `json:"poolName,omitempty"`
	ServerURL               string `json:"serverUrl,omitempty"`
	WorkFolder              string `json:"workFolder,omitempty"`
	ProjectName             string `json:"projectName,omitempty"`
	DeploymentGroupID       int    `json:"deploymentGroupId,omitempty"`
	ProjectID               string `json:"projectId,omitempty"`
	CollectionName          string `json:"collectionName,omitempty"`
	EnvironmentID           int    `json:"environmentId,omitempty"`
	EnvironmentVMResourceID int    `json:"environmentVMResourceId,omitempty"`
	EnvironmentName         string `json:"environmentName,omitempty"`
}

// settingsOf is what each kind of target leaves in .agent (ConfigurationProvider.cs, GetPoolIdAndName,
// AddAgentAsync and UpdateAgentAsync; ConfigurationManager.cs, ConfigureAsync).
func settingsOf(r Registration, made Enrolment) settings {
	s := settings{
		AcceptTeeEula: true, AgentID: made.ID, AgentName: r.AgentName, PoolID: made.PoolID, PoolName: made.PoolName,
		ServerURL: serverURL(r.URL, made.ServerURL), WorkFolder: r.Work, CollectionName: r.Collection,
	}
	switch r.Kind {
	case "environment":
		s.PoolName = ""
		s.EnvironmentID, s.EnvironmentName, s.EnvironmentVMResourceID = made.TargetID, r.Name, made.ResourceID
		s.ProjectID, s.ProjectName = made.ProjectID, r.Project
	case "deploymentGroup":
		s.DeploymentGroupID, s.ProjectID = made.TargetID, made.ProjectID
	}
	return s
}

// serverURL is the server's word for where it is, by the scheme, host and port that were configured
// (ConfigurationManager.cs, "respect the serverUrl resolve by server").
func serverURL(configured, told string) string {
	if told == "" {
		return configured
	}
	return sameOrigin(told, configured)
}

// sameOrigin is an address with the scheme, host and port of another.
func sameOrigin(address, as string) string {
	u, err := url.Parse(address)
	to, err2 := url.Parse(as)
	if err != nil || err2 != nil {
		return address
	}
	if strings.EqualFold(u.Scheme, to.Scheme) && strings.EqualFold(u.Hostname(), to.Hostname()) && port(u) == port(to) {
		return address
	}
	u.Scheme, u.Host = to.Scheme, to.Host
	return absolute(u.String())
}

// absolute is an address as .NET writes it, which compares those of token services as texts (Uri.AbsoluteUri): the host
// in lower case, no port that goes without saying, and a path.
func absolute(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return address
	}
	if u.Host = strings.ToLower(u.Host); u.Port() != "" && port(u) == port(&url.URL{Scheme: u.Scheme}) {
		u.Host = strings.TrimSuffix(u.Host, ":"+u.Port())
	}
	if u.Path == "" {
		u.Path = "/"
	}
	return u.String()
}

func port(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	return map[string]string{"http": "80", "https": "443"}[strings.ToLower(u.Scheme)]
}

// credentials are .credentials (CredentialData.cs).
type credentials struct {
	Scheme string            `json:"scheme"`
	Data   map[string]string `json:"data"`
}

// credentialsOf is how the agent gets tokens of its own (ConfigurationManager.cs, UpdateCredentialData):
// the address of the token service is the audience; on premises it is reached as the server is.
func credentialsOf(r Registration, made Enrolment) (credentials, error) {
	if made.ClientID == "" || made.AuthURL == "" { // who called has looked
		return credentials{}, fault.New(fault.Internal, "an agent without a token service is to be written")
	}
	audience := absolute(made.AuthURL)
	endpoint := audience
	if made.OnPremises {
		endpoint = sameOrigin(endpoint, serverURL(r.URL, made.ServerURL))
	}
	return credentials{"OAuth", map[string]string{
		"clientId": made.ClientID, "authorizationUrl": audience, "oauthEndpointUrl": endpoint,
	}}, nil
}

// writeProxy writes what VstsAgentWebProxy.cs does (SaveProxySetting).
func (h Home) writeProxy(p *url.URL) error {
	if p == nil {
		return nil
	}
	if err := h.put(".proxy", (&url.URL{Scheme: p.Scheme, Host: p.Host}).String(), 0o644); err != nil {
		return err
	}
	password, _ := p.User.Password()
	if p.User.Username() == "" || password == "" {
		return nil
	}
	key, err := lookupKey()
	if err != nil {
		return err
	}
	hidden, err := storedPassword(password, machineID())
	if err != nil {
		return err
	}
	store := map[string]storedCredential{"VSTS_AGENT_PROXY_" + key: {p.User.Username(), hidden}}
	if err := h.putJSON(credentialStore, store, 0o600, func(*os.File) error { return nil }); err != nil {
		return err
	}
	return h.put(".proxycredentials", key, 0o644)
}

// credentialStore is where the agent keeps a proxy's password on Linux (HostContext.cs,
// WellKnownConfigFile.CredentialStore).
const credentialStore = ".credential_store"

type storedCredential struct {
	UserName string `json:"userName"`
	Password string `json:"password"`
}

// lookupKey is a GUID as the agent writes it, in upper case.
func lookupKey() (string, error) {
	var b [16]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", err
	}
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80 // RFC 9562, version 4
	return strings.ToUpper(fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])), nil
}

// storeIV is the agent's own, for all passwords on all machines (LinuxAgentCredentialStore.cs).
const storeIV = "6d73667476737473" // the digits, not what they stand for

// storedPassword hides a password as LinuxAgentCredentialStore.cs does (Encrypt): by AES-256 with the
// machine's ID, which everybody may read, for a key. It keeps a password from being seen by accident,
// and no more.
func storedPassword(password, machineID string) (string, error) {
	block, err := aes.NewCipher([]byte(machineID))
	if err != nil {
		return "", err
	}
	data := []byte(password)
	pad := aes.BlockSize - len(data)%aes.BlockSize // PKCS #7
	for range pad {
		data = append(data, byte(pad))
	}
	cipher.NewCBCEncrypter(block, []byte(storeIV)).CryptBlocks(data, data)
	return base64.StdEncoding.EncodeToString(data), nil
}

// machineID is the key of the agent's store: the first line of /etc/machine-id, or, if that is none
// of 32 letters, one of the agent's own.
func machineID() string {
	data, _ := os.ReadFile("/etc/machine-id")
	id, _, _ := strings.Cut(string(data), "\n")
	id = strings.TrimSuffix(id, "\r")
	ascii := strings.IndexFunc(id, func(r rune) bool { return r > 127 }) < 0
	if len(id) != 32 || !ascii {
		return "5f767374735f6167656e745f63726564"
	}
	return id
}

// systemName is this system's, as .NET has it (RuntimeInformation.OSDescription since .NET 8): the
// agent tells the server its own with each session.
func systemName() string { return cmp.Or(here().name, "Linux") }

// shown are the capabilities that matter before the agent's first session, which brings all of them
// (MessageListener.cs, CreateSessionAsync): whose the agent is, what an operator has configured, and
// those of AgentCapabilitiesProvider.cs, which count more than any other.
func (h Home) shown(r Registration, m Manifest) map[string]string {
	all := map[string]string{}
	add := func(lines []string) {
		for _, l := range lines {
			name, value, _ := strings.Cut(l, "=")
			all[name] = value
		}
	}
	add(variables("", r.Marks.lines()))
	add(r.Capabilities)
	computer, _ := os.Hostname()
	add([]string{
		"Agent.Name=" + r.AgentName, "Agent.OS=Linux", "Agent.OSArchitecture=" + architecture(),
		"Agent.Version=" + m.Version, "Agent.ComputerName=" + computer, "Agent.HomeDirectory=" + h.Dir,
	})
	return all
}

// architecture is .NET's word for the processor (VarUtil.cs).
func architecture() string {
	if a := map[string]string{"amd64": "X64", "arm64": "ARM64", "arm": "ARM", "386": "X86"}[runtime.GOARCH]; a != "" {
		return a
	}
	return strings.ToUpper(runtime.GOARCH)
}

// byteOrderMark begins what .NET writes with Encoding.UTF8 (IOUtil.cs, SaveObject).
const byteOrderMark = "\xef\xbb\xbf"

// putJSON writes a file as the agent's IOUtil.SaveObject does, and waits until it is on disk.
func (h Home) putJSON(name string, v any, mode fs.FileMode, own func(*os.File) error) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return h.write(name, byteOrderMark+string(data), mode, func(f *os.File) error {
		if err := own(f); err != nil {
			return err
		}
		return f.Sync()
	})
}
