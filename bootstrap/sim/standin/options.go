package standin

import (
	"fmt"
	"os"
	"strings"
)

// The options of configure and remove: flags take no value (agent repository, CommandLine/*.cs).
var (
	flagNames = words(
		"unattended accepteula acceptteeeula replace environment deploymentgroup machinegroup deploymentpool " +
			"adddeploymentgrouptags addmachinegrouptags addvirtualmachineresourcetags usebasicauthforproxy sslskipcertvalidation runasservice preventservicestart enableservicesidtypeunrestricted gituseschannel disableloguploads restreamlogstofiles alwaysextracttask once diagnostics version help commit",
	)
	valueNames = words(
		"url auth token agent work pool deploymentgroupname machinegroupname deploymentgrouptags machinegrouptags " +
			"environmentname virtualmachineresourcetags projectname collectionname deploymentpoolname proxyurl proxyusername proxypassword sslcacert sslclientcert sslclientcertkey sslclientcertarchive sslclientcertpassword username password clientid tenantid clientsecret windowslogonaccount windowslogonpassword startuptype",
	)
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

// parse reads arguments as the agent's parser does (commandlineparser, Tokenizer.cs): what begins
// with a dash is an option and never the value of the one before it, but for a dash alone and a
// negative number; --name=value is one unless the value is empty or begins with a space. An option
// without its value is not given.
func parse(args []string) options {
	o := options{flags: map[string]bool{}, values: map[string]string{}}
	var unknown []string
	for i := 0; i < len(args); i++ {
		name, value, joined := strings.Cut(strings.ToLower(strings.TrimPrefix(args[i], "--")), "=")
		long := strings.HasPrefix(args[i], "--") && !(joined && (value == "" || value[0] == ' '))
		switch {
		case !isOption(args[i]) && o.command == "" && i == 0:
			o.command = strings.ToLower(args[i])
		case long && flagNames[name] && !joined:
			o.flags[name] = true
		case long && valueNames[name] && joined:
			_, o.values[name], _ = strings.Cut(args[i], "=")
		case long && valueNames[name] && i+1 < len(args) && !isOption(args[i+1]):
			i++
			o.values[name] = args[i]
		default:
			unknown = append(unknown, args[i])
		}
	}
	if len(unknown) > 0 {
		fmt.Fprintf(
			os.Stderr,
			"Unrecognized command-line input arguments: '%s'. For usage refer to: .\\config.cmd --help or "+
				"./config.sh --help\n",
			strings.Join(unknown, ", "),
		)
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

func isOption(arg string) bool {
	return len(arg) > 1 && arg[0] == '-' && (arg[1] < '0' || arg[1] > '9')
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
