package access

import (
	"github.com/sirupsen/logrus"

	"azp-bootstrap/bootstrap/azure"
	"azp-bootstrap/bootstrap/config"
	"azp-bootstrap/bootstrap/devops"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/secret"
)

// Protect keeps the PAT that this process will hold from others, and the environment from deciding
// where tokens come from; it says what of the environment is not gone by.
func Protect(log *logrus.Logger) error {
	if err := secret.Harden(); err != nil {
		return fault.New(fault.Internal, "this process cannot be kept out of core dumps").Because(err).
			Hint("Please report it, with the kernel's version.")
	}
	for _, name := range azure.CleanEnvironment() {
		log.WithField("variable", name).Warn("ignored: it would change where the managed identity's token comes from")
	}
	if _, wrong, fix := azure.EnvironmentNoProxy(); wrong != "" {
		log.WithField("variable", "NO_PROXY").
			Warnf("%s: that goes through the proxy, for the daemon and for the agent. %s", wrong, fix)
	}
	return nil
}

// Network is the configured way out of the VM, completed by the environment; dial nil = the
// system's.
func Network(c *config.Config, dial azure.Dial) (azure.Network, error) {
	return azure.Network{
		Proxy:   c.Network.Proxy,
		NoProxy: c.Network.NoProxy,
		CAFile:  c.Network.CAFile,
		Dial:    dial,
	}.FromEnvironment()
}

// Target is the configured target in the words of Azure DevOps.
func Target(c *config.Config) devops.Target {
	return devops.Target{Kind: c.Target.Kind(), Project: c.Target.Project(), Name: c.Target.Name()}
}
