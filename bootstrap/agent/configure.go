package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/line"
	"azp-bootstrap/bootstrap/secret"
)

// A Registration is what config.sh is told.
type Registration struct {
	Kind       string // environment, deploymentGroup, pool
	Project    string
	Name       string // of the target
	Tags       []string
	URL        string // organization, collection, or the server's root
	Collection string // on premises, for environments and deployment groups
	AgentName  string
	Work       string
	Replace    bool
	Proxy      *url.URL // whole and checked; may carry a user and a password; nil = none
	NoProxy    string
	CAFile     string
	SystemCAs  string // file of the system's certificates; "" = there is none
	InstanceID string
	// Where in Azure the VM is. The agent shows it, beside the instance ID, so that a sweep can be limited.
	ScaleSet, ResourceGroup, SubscriptionID string

	ScopeHint string // what to do if the server refuses the registration
	Timeout   time.Duration
	// Await, if set, is called when all is ready for config.sh, which begins only if it returns nil: what decides
	// about the registration may be asked beside the preparations.
	Await func() error
}

// inputs are the variables in which the agent's listener looks for each of its options
// (microsoft/azure-pipelines-agent, CommandSettings.cs). It cuts white space off a value, and takes an empty one for
// none.
const inputs = "VSTS_AGENT_INPUT_"

const caBundle = "azp-bootstrap-ca.pem" // under the agent's root, where --sslcacert wants it

// The options, as CommandLine/ConfigureAgent.cs and ConfigureOrRemoveBase.cs name them. Values go by the environment:
// there none can be read as an option, whatever it begins with, and no quoting of a shell's reaches it.

// Args are the arguments of config.sh: options without a value, and not a word that comes from outside.
func (r Registration) Args() []string {
	args := []string{"--unattended", "--acceptTeeEula"}
	if r.Replace {
		args = append(args, "--replace")
	}
	switch r.Kind {
	case "environment":
		args = append(args, "--environment")
		if len(r.Tags) > 0 {
			args = append(args, "--addvirtualmachineresourcetags")
		}
	case "deploymentGroup":
		args = append(args, "--deploymentgroup")
		if len(r.Tags) > 0 {
			args = append(args, "--adddeploymentgrouptags")
		}
	}
	return args
}

// values are the options that have one, but for the PAT.
func (r Registration) values() map[string]string {
	v := map[string]string{"url": r.URL, "auth": "PAT", "agent": r.AgentName, "work": r.Work}
	group := func(name, tags string) {
		v[name], v["projectname"], v["collectionname"], v[tags] = r.Name, r.Project, r.Collection, strings.Join(r.Tags, ",")
	}
	switch r.Kind {
	case "environment":
		group("environmentname", "virtualmachineresourcetags")
	case "deploymentGroup":
		group("deploymentgroupname", "deploymentgrouptags")
	default:
		v["pool"] = r.Name
	}
	if p := r.Proxy; p != nil {
		v["proxyurl"] = (&url.URL{Scheme: p.Scheme, Host: p.Host}).String()
		v["proxyusername"] = p.User.Username()
		v["proxypassword"], _ = p.User.Password()
	}
	if r.CAFile != "" {
		v["sslcacert"] = caBundle
	}
	return v
}

// marks are what is known of the VM, as lines of .env: each shows among the agent's capabilities. The daemon and sweep
// know by them whose an agent is. REGISTERED: an agent that is taken over keeps its createdOn.
func (r Registration) marks() map[string]string {
	return map[string]string{
		"AZP_BOOTSTRAP_INSTANCE_ID":     r.InstanceID,
		"AZP_BOOTSTRAP_SCALE_SET":       r.ScaleSet,
		"AZP_BOOTSTRAP_RESOURCE_GROUP":  r.ResourceGroup,
		"AZP_BOOTSTRAP_SUBSCRIPTION_ID": r.SubscriptionID,
		"AZP_BOOTSTRAP_REGISTERED":      time.Now().UTC().Format(time.RFC3339),
	}
}

// check refuses what could not be said to the agent as it is.
func (r Registration) check() error {
	for _, all := range []map[string]string{r.values(), r.marks()} {
		for name, value := range all {
			if wrong := line.Wrong(value, line.Longest); wrong != "" && name != "proxypassword" {
				return fault.New(fault.Config, "the %s of this VM's agent, %q, %s", name, line.Shown(prefix(value, 100)), wrong).
					Hint("Correct what it is made of: the configuration, the VM's tags, or the VM itself.")
			} else if wrong != "" {
				return fault.New(fault.Config, "the proxy's password %s", wrong).Hint("Correct network.proxy (or HTTPS_PROXY).")
			}
		}
	}
	return nil
}

// environ is the whole environment of config.sh: nothing of the daemon's own reaches it.
func (h Home) environ(r Registration, pat secret.PAT) ([]string, error) {
	env, err := h.baseEnvironment()
	if err != nil {
		return nil, err
	}
	env = append(env, variables(inputs, r.values(), h.serviceValues())...)
	return append(append(env, inputs+"TOKEN="+pat.Reveal()), h.trust(r.CAFile)...), nil
}

// variables are lines NAME=value, in an order of their own.
func variables(prefix string, all ...map[string]string) (lines []string) {
	for _, values := range all {
		for name, value := range values {
			if value != "" {
				lines = append(lines, prefix+strings.ToUpper(name)+"="+value)
			}
		}
	}
	slices.Sort(lines)
	return lines
}

// trust points TLS clients of every make at the same bundle, so that one setting serves the daemon,
// the agent and its jobs (azure-pipelines-agent issue 5164: the CA set twice). .NET on Linux reads
// SSL_CERT_FILE, node NODE_EXTRA_CA_CERTS.
func (h Home) trust(caFile string) []string {
	if caFile == "" {
		return nil
	}
	bundle := h.path(caBundle)
	return []string{"SSL_CERT_FILE=" + bundle, "NODE_EXTRA_CA_CERTS=" + bundle, "GIT_SSL_CAINFO=" + bundle, "CURL_CA_BUNDLE=" + bundle, "REQUESTS_CA_BUNDLE=" + bundle}
}

// furnish writes what config.sh is to find: the instance ID, network settings and certificates. The
// folder is fresh and still root's here.
func (h Home) furnish(r Registration) error {
	if err := h.furnishService(); err != nil {
		return err
	}
	lines := append(append(variables("", r.marks()), "LANG=C.UTF-8"), h.trust(r.CAFile)...)
	if err := h.put(".env", strings.Join(lines, "\n")+"\n", 0o644); err != nil {
		return err
	}
	bypass := ""
	if r.Proxy != nil {
		// One regular expression per line (VstsAgentWebProxy.cs). Configuring a deployment group asks
		// IMDS, which must not go through a proxy.
		lines := []string{`169\.254\.169\.254`}
		for _, n := range strings.FieldsFunc(r.NoProxy, func(r rune) bool { return r == ',' || r == ' ' }) {
			lines = append(lines, regexp.QuoteMeta(strings.TrimPrefix(n, "*")))
		}
		bypass = strings.Join(lines, "\n") + "\n"
	}
	if err := h.put(".proxybypass", bypass, 0o644); err != nil {
		return err
	}
	if r.CAFile == "" {
		return h.put(caBundle, "", 0o644)
	}
	var all bytes.Buffer
	if data, err := os.ReadFile(r.SystemCAs); err == nil { //nolint:gosec // the system's
		all.Write(data)
	}
	own, err := os.ReadFile(r.CAFile)
	if err != nil {
		return fault.New(fault.Config, "network.caFile").Because(err).Hint("Name a PEM file that root can read.")
	}
	all.WriteByte('\n')
	all.Write(own)
	return h.put(caBundle, all.String(), 0o644)
}

// put writes a file of the agent's folder, replacing what stands there; without content there is none afterwards. It
// follows no link: the folder may be the service user's.
func (h Home) put(name, content string, mode fs.FileMode) error {
	root, err := os.OpenRoot(h.Dir)
	if err != nil {
		return diskFault(err, h.Dir)
	}
	defer root.Close() //nolint:errcheck // the file's own Close reports
	if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return diskFault(err, h.path(name))
	}
	if content == "" {
		return nil
	}
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return diskFault(err, h.path(name))
	}
	_, err = f.WriteString(content)
	if e := h.own(f); err == nil {
		err = e
	}
	if e := f.Close(); err == nil {
		err = e
	}
	return diskFault(err, h.path(name))
}

// Configure lays the folder fresh, runs config.sh there as the service user, once r.Await allows it, and reads its
// result. The PAT is in the environment of that process tree alone. Each line of output goes to said,
// redacted.
func (h Runner) Configure(ctx context.Context, r Registration, pat secret.PAT, redactor *secret.Redactor, said func(string)) (id int, err error) {
	if err := r.check(); err != nil {
		return 0, err
	}
	if n := h.endStrangers(); n > 0 {
		said(fmt.Sprintf("%d processes of %s were ended: what earlier jobs left behind must not see the PAT", n, h.User))
	}
	m, err := h.lay()
	if err != nil {
		return 0, err
	}
	if err := h.furnish(r); err != nil {
		return 0, err
	}
	env, err := h.environ(r, pat)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	p := process{Dir: h.Dir, User: h.User, Env: env, Argv: append([]string{h.path(Script)}, append(r.Args(), h.serviceArgs()...)...), Record: h.configureRecord()}
	var refused error
	p.Ready = func() error {
		if r.Await != nil {
			refused = r.Await()
		}
		if refused == nil {
			refused = h.hand(m, r.InstanceID)
		}
		return refused
	}
	reader := &outputReader{replacing: r.Replace}
	begin := time.Now()
	exit, err := p.run(ctx, func(out io.Reader, stop func()) {
		_ = redactor.Lines(out, func(s string) {
			said(s)
			if reader.read(s) {
				stop()
			}
		})
	})
	if refused != nil {
		return 0, refused
	}
	if err := h.hunt(pat, begin); err != nil {
		return 0, err
	}
	if verdict := reader.verdict(r, exit, err, ctx); verdict != nil {
		return 0, verdict
	}
	id, err = h.Registered()
	if err == nil && id == 0 {
		err = fault.New(fault.Agent, "config.sh ended well but wrote no .agent").Passing().Hint("Look at its output in the log; the folder is laid anew.")
	}
	return id, err
}

// ErrKeptPAT says that the agent kept the PAT because the server offers no key exchange.
var ErrKeptPAT = errors.New("it was wiped at once")

// hunt looks for the PAT in what config.sh wrote. It is the wall behind the agent's own masking:
// whatever holds the PAT is wiped at once, before any job can run.
func (h Home) hunt(pat secret.PAT, since time.Time) error {
	found := h.keptPAT(pat)
	forms := pat.Forms()
	_ = filepath.WalkDir(h.Dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || found {
			return nil //nolint:nilerr // unreadable entries are not config.sh's work
		}
		if d.IsDir() && (name == h.path("bin") || name == h.path("externals")) {
			return filepath.SkipDir // programs, from the package
		}
		if !d.Type().IsRegular() {
			return nil
		}
		if fi, err := d.Info(); err == nil && fi.Size() < 16<<20 && fi.ModTime().After(since.Add(-2*time.Second)) {
			rel, _ := filepath.Rel(h.Dir, name)
			data, err := h.read(rel)
			found = err == nil && slices.ContainsFunc(forms, func(f string) bool { return bytes.Contains(data, []byte(f)) })
		}
		return nil
	})
	if !found {
		return nil
	}
	if err := h.Wipe(); err != nil {
		return err
	}
	return fault.New(fault.Agent, "the agent kept the PAT on disk, which is what it does with servers that offer no key exchange (TFS 2015)").
		Because(ErrKeptPAT).Hint("Upgrade the server to TFS 2017 or newer: this one cannot be joined without leaving the PAT where jobs can read it.")
}

// Wipe removes the local registration: the folder is no longer configured, and the next Lay makes it
// anew. The server is not told.
func (h Home) Wipe() error {
	root, err := os.OpenRoot(h.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return diskFault(err, h.Dir)
	}
	defer root.Close() //nolint:errcheck // nothing pending
	for _, n := range []string{".credentials", ".credentials_rsaparams", ".credentials_migrated", ".agent", ".agent_migrated", ".service", ".proxycredentials", ".env"} {
		if err := root.Remove(n); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return diskFault(err, h.path(n))
		}
	}
	if _, err := os.Stat(h.keep()); errors.Is(err, fs.ErrNotExist) {
		return nil // somebody deleted the package: there is no layout to keep, and the VM may leave all the same
	}
	l := h.layout()
	return h.setLayout(layout{SHA256: l.SHA256})
}

func (r Registration) String() string {
	switch r.Kind {
	case "environment":
		return fmt.Sprintf("environment %q of project %q", r.Name, r.Project)
	case "deploymentGroup":
		return fmt.Sprintf("deployment group %q of project %q", r.Name, r.Project)
	}
	return fmt.Sprintf("agent pool %q", r.Name)
}
