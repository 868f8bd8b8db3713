package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"azp-bootstrap/bootstrap/fault"
)

// says lists phrases in lower case, any of which has the meaning. Plain phrases, because a runaway
// config.sh may write hundreds of megabytes, which regular expressions would take minutes to read.
func says(phrases ...string) []string { return phrases }

const taken = "already contains an agent with name"

// ErrInPool says that config.sh met an agent of the name in the pool behind an environment or
// deployment group, which may not list it.
var ErrInPool = errors.New("the pool behind the target has an agent of this name")

// What config.sh says, and what it means. The texts are those of the agent's strings.json (en-US)
// and of config.sh; LANG is fixed so that they are the ones we get.
var meanings = []struct {
	text []string
	cut  bool // the agent would go on for ever: end it
	make func(line string, r Registration) *fault.Error
}{
	{says("verify whether you have (network) access to"), true, func(_ string, r Registration) *fault.Error {
		return fault.New(fault.Network, "config.sh cannot connect to %s", r.URL).Passing().
			Hint("The daemon could: check that the agent gets the same proxy and certificates (network.proxy, " +
				"network.caFile), and the firewall.")
	}},
	{says("failed to replace the agent"), true, func(string, Registration) *fault.Error {
		return fault.New(fault.Agent, "config.sh could not replace the agent of this name on the server").Passing().
			Hint("Look at the lines before it; if it lasts, delete the old agent in Azure DevOps.")
	}},
	{
		says("already contains a machine with name", "already contains a virtual machine resource with name"),
		false,
		tookTheName,
	},
	{says(taken), false, func(line string, r Registration) *fault.Error {
		if r.Kind == "pool" {
			return tookTheName(line, r)
		}
		return fault.New(fault.Target, "an agent named %s stands in the pool behind the %s", r.AgentName, r).
			Passing().
			Because(ErrInPool).
			Hint("A resource that was deleted on the target's page can leave its agent there; it is looked at by " +
				"itself.")
	}},
	{
		says("agent pool not found: '", "deployment group not found: '", "environment not found: '"),
		false,
		func(_ string, r Registration) *fault.Error {
			return fault.New(fault.Target, "config.sh does not find the %s", r).
				Hint("Create it or correct target; the PAT's owner must see it.")
		},
	},
	{says("clock may be out of sync"), false, func(string, Registration) *fault.Error { return OfClock() }},
	{says("must not run with sudo"), false, func(string, Registration) *fault.Error {
		return fault.New(fault.Agent, "config.sh refuses to run as root").Hint("Name an account in agent.user.")
	}},
	{
		says("dependencies is missing", "dependencies missing", "icu-libs are missing", "can not find 'ld"),
		false,
		func(string, Registration) *fault.Error {
			return fault.New(fault.Agent, "libraries that the agent needs are missing").
				Hint("Install them at image time: %s.", cmp.Or(here().libraries(), allLibraries))
		},
	},
	{says("because it is already configured"), false, func(string, Registration) *fault.Error {
		return fault.New(fault.Agent, "config.sh finds itself configured already").
			Passing().
			Hint("The folder is recreated by itself.")
	}},
	{says("invalid configuration provided for"), false, func(line string, _ Registration) *fault.Error {
		return fault.New(fault.Agent, "config.sh refuses its arguments").
			Hint("The agent package may be too old or too new for this daemon: pin another version.")
	}},
	{
		says(
			"vs30063",
			"tf400813",
			"tf50309",
			"not authorized",
			"access denied",
			"unauthorized",
			"forbidden",
			"invalid_client",
		),
		false,
		func(_ string, r Registration) *fault.Error {
			return fault.New(fault.Scope, "the server refuses to register this VM in the %s", r).
				Hint("%s", r.ScopeHint)
		},
	},
	{
		says("ssl connection could not be established", "remotecertificate", "untrustedroot", "partialchain"),
		false,
		func(_ string, r Registration) *fault.Error {
			return fault.New(fault.Network, "config.sh does not trust the certificate of %s", r.URL).
				Hint("Set network.caFile to your authority's PEM file; it is handed on to the agent.")
		},
	},
	{passingWords, false, func(_ string, r Registration) *fault.Error {
		return fault.New(fault.Network, "config.sh met a fault of the network or of the server that passes, at %s", r.URL).
			Passing().
			Hint("It is tried again by itself. If it lasts: status.dev.azure.com, DNS, proxy and firewall.")
	}},
}

// passingWords are what .NET and the server say of faults that pass (System.Net.Http, System.Net.Sockets:
// the texts of SocketError; TF400898 is the server's "An Internal Error Occurred").
var passingWords = says(
	"tf400898", "service unavailable", "bad gateway", "gateway timeout", "internal server error", "too many requests",
	"name or service not known", "temporary failure in name resolution", "resource temporarily unavailable",
	"no such host is known", "connection reset", "connection refused", "connection timed out", "network is unreachable",
	"no route to host", "response ended prematurely", "error occurred while sending the request",
	"unable to read data from the transport connection", "the operation was canceled", "a task was canceled",
	"the request was canceled due to the configured httpclient.timeout", "the operation has timed out",
)

// OfWords is the subject of faults of config.sh's whose words nobody knows.
const OfWords = "words"

func tookTheName(_ string, r Registration) *fault.Error {
	return fault.New(fault.Target, "another machine took the name %s in the %s a moment ago", r.AgentName, r).
		Passing().
		Hint("Give each VM a name of its own: agent.name is a template, such as {{.ComputerName}}.")
}

// retryable is the listener's own exit code that says that another try may do (Constants.cs,
// ReturnCode.RetryableError).
const retryable = 2

// An outputReader reads config.sh's output as it comes.
type outputReader struct {
	replacing bool // with --replace

	rank int
	make func(line string, r Registration) *fault.Error
	line string
	tail []string // the last lines that say something
	cut  bool
}

// read takes one line and reports whether the agent must be ended at once.
func (o *outputReader) read(line string) (stop bool) {
	line = strings.TrimSpace(line)
	if line == "" {
		return false
	}
	lower := strings.ToLower(line[:min(len(line), 2000)])
	for i, m := range meanings {
		if m.text[0] == taken && o.replacing {
			continue // then it only announces the replacement
		}
		if slices.ContainsFunc(m.text, func(t string) bool { return strings.Contains(lower, t) }) &&
			(o.make == nil || i < o.rank) {
			o.make, o.rank, o.line = m.make, i, line
			if m.cut && !o.cut {
				o.cut = true
				o.keep(line)
				return true
			}
		}
	}
	o.keep(line)
	return false
}

func (o *outputReader) keep(line string) {
	if len(o.tail) == 6 {
		o.tail = o.tail[1:]
	}
	o.tail = append(o.tail, line)
}

// verdict is nil if config.sh did its work.
func (o *outputReader) verdict(r Registration, exit int, err error, ctx context.Context) error {
	words := o.tail
	if i := slices.Index(words, o.line); i > 0 && o.make != nil {
		words = words[i:] // what came before was going well
	}
	said := strings.Join(words, " | ")
	if len(said) > 600 {
		said = "… " + strings.ToValidUTF8(said[len(said)-600:], "")
	}
	switch {
	case o.cut:
		return o.make(o.line, r).Because(errors.New(said))
	case err == nil && exit == 0:
		return nil
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fault.New(fault.Agent, "config.sh did not end within %s and was stopped; its last "+
			"words: %s", r.Timeout, said).
			Passing().
			Hint("Look at its output in the log and at the network; agent.configureTimeout allows it more time.")
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		var own *fault.Error
		if errors.As(err, &own) {
			return own
		}
		return fault.New(fault.Agent, "config.sh cannot be run").
			Because(err).
			Hint("The package may be damaged: run azp-bootstrap prepare again.")
	case o.make != nil:
		f := o.make(o.line, r)
		if f.Cause != nil {
			return f.Because(fmt.Errorf("%w: %s", f.Cause, said))
		}
		return f.Because(errors.New(said))
	}
	how := fmt.Sprintf("with exit code %d", exit)
	if exit < 0 {
		how = "by a signal"
	}
	f := fault.New(fault.Agent, "config.sh failed %s: %s", how, said).
		Hint("Its whole output is in the log; the agent's own log is in _diag of its folder.")
	if exit < 0 || ended(exit) || exit == retryable {
		return f.Passing() // memory may have been short
	}
	if notRun(exit) {
		return f
	}
	return f.About(OfWords)
}

// OfClock is the fault of a clock by which the server accepts no agent's key.
func OfClock() *fault.Error {
	return fault.New(fault.Agent, "the VM's clock differs from the server's by more than five minutes").Passing().
		Hint("Wait for time synchronization, or fix it: timedatectl, chronyc sources.")
}
