package agent

import (
	"fmt"
	"net/url"
	"strings"
	"time"

	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/line"
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
	Bypass     []string // what the proxy is not for: expressions as .proxybypass has them
	Trusted    []byte   // certificates in PEM form, besides the system's; none = those alone
	SystemCAs  string   // file of the system's certificates; "" = there is none
	Marks
	Environment  []string // NAME=value, for jobs
	Capabilities []string // NAME=value

	ScopeHint string // what to do if the server refuses the registration
	Timeout   time.Duration
}

// inputs are the variables in which the agent's listener looks for each of its options
// (microsoft/azure-pipelines-agent, CommandSettings.cs). It cuts white space off a value, and takes
// an empty one for none.
const inputs = "VSTS_AGENT_INPUT_"

const caBundle = "azp-bootstrap-ca.pem" // under the agent's root, where --sslcacert wants it

// The options, as CommandLine/ConfigureAgent.cs and ConfigureOrRemoveBase.cs name them. Values go
// by the environment: there none can be read as an option, whatever it begins with, and no quoting
// of a shell's reaches it.

// Args are the arguments of config.sh: options without a value, and not a word that comes from
// outside.
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
		v[name], v["projectname"], v["collectionname"], v[tags] = r.Name, r.Project, r.Collection, strings.Join(
			r.Tags,
			",",
		)
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
	if len(r.Trusted) > 0 {
		v["sslcacert"] = caBundle
	}
	return v
}

// check refuses what could not be said to the agent as it is.
func (r Registration) check() error {
	for _, all := range []map[string]string{r.values(), r.Marks.lines()} {
		for name, value := range all {
			if wrong := line.Wrong(value, line.Longest); wrong != "" && name != "proxypassword" {
				return fault.New(fault.Config, "the %s of this VM's agent, %q, %s", name, line.Shown(prefix(value, 100)), wrong).
					Hint("Correct what it is made of: the configuration, the VM's tags, or the VM itself.")
			} else if wrong != "" {
				return fault.New(fault.Config, "the proxy's password %s", wrong).
					Hint("Correct network.proxy (or HTTPS_PROXY).")
			}
		}
	}
	return nil
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
