package standin

import (
	"fmt"
	"os"
	"strings"
)

// The options of configure and remove: flags take no value (agent repository, CommandLine/*.cs).
var (
	flagNames  = words("unattended accepteula acceptteeeula replace environment deploymentgroup machinegroup deploymentpool adddeploymentgrouptags addmachinegrouptags addvirtualmachineresourcetags usebasicauthforproxy sslskipcertvalidation runasservice preventservicestart enableservicesidtypeunrestricted gituseschannel disableloguploads restreamlogstofiles alwaysextracttask once diagnostics version help commit")
	valueNames = words("url auth token agent work pool deploymentgroupname machinegroupname deploymentgrouptags machinegrouptags environmentname virtualmachineresourcetags projectname collectionname deploymentpoolname proxyurl proxyusername proxypassword sslcacert sslclientcert sslclientcertkey sslclientcertarchive sslclientcertpassword username password clientid tenantid clientsecret windowslogonaccount windowslogonpassword startuptype")
)

func words(s string) map[string]bool {
	m := map[string]bool{}
	for _, w := range strings.Fields(s) {
		m[w] = true
	}
	return m
}

// options are what an invocation was told, arguments before environment.
type options struct {
	command string
	flags   map[string]bool
	values  map[string]string
}

const inputPrefix = "VSTS_AGENT_INPUT_"

func parse(args []string) options {
	o := options{flags: map[string]bool{}, values: map[string]string{}}
	var unknown []string
	for i := 0; i < len(args); i++ {
		name := strings.ToLower(strings.TrimPrefix(args[i], "--"))
		switch {
		case !strings.HasPrefix(args[i], "--") && o.command == "" && i == 0:
			o.command = strings.ToLower(args[i])
		case strings.HasPrefix(args[i], "--") && flagNames[name]:
			o.flags[name] = true
		case strings.HasPrefix(args[i], "--") && valueNames[name] && i+1 < len(args) && !strings.HasPrefix(args[i+1], "--"):
			i++
			o.values[name] = strings.TrimSpace(args[i])
		default:
			unknown = append(unknown, args[i])
		}
	}
	if len(unknown) > 0 {
		fmt.Fprintf(os.Stderr, "Unrecognized command-line input arguments: '%s'. For usage refer to: .\\config.cmd --help or ./config.sh --help\n", strings.Join(unknown, ", "))
	}
	for _, kv := range os.Environ() {
		k, v, _ := strings.Cut(kv, "=")
		name, ok := strings.CutPrefix(strings.ToUpper(k), inputPrefix)
		if !ok {
			continue
		}
		name = strings.ToLower(name)
		if _, given := o.values[name]; !given && valueNames[name] {
			o.values[name] = strings.TrimSpace(v)
		} else if flagNames[name] && strings.EqualFold(strings.TrimSpace(v), "true") {
			o.flags[name] = true
		}
		_ = os.Unsetenv(k) // before capabilities are scanned
	}
	return o
}

// failure is an error that ends an unattended configuration.
type failure string

func (f failure) Error() string { return string(f) }

// need returns a value that configuring cannot do without.
func (o options) need(name string) string {
	v := o.values[name]
	if v == "" {
		panic(failure("Invalid configuration provided for " + name + ". Terminating unattended configuration."))
	}
	return v
}

func tags(s string) (out []string) {
	seen := map[string]bool{}
	for _, t := range strings.Split(s, ",") {
		if t = strings.TrimSpace(t); t != "" && !seen[strings.ToLower(t)] {
			seen[strings.ToLower(t)] = true
			out = append(out, t)
		}
	}
	return out
}
