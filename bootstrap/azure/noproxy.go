package azure

import (
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"unicode"

	"golang.org/x/net/http/httpproxy"

	"azp-bootstrap/bootstrap/line"
)

// A direct is one entry of a NO_PROXY list: an address that is asked directly, past the proxy. It
// is said once for Go's httpproxy, which the daemon goes by, and once for the agent and its jobs,
// so that all three decide alike.
type direct struct {
	entry   string // lower case, as httpproxy takes it
	pattern string // an expression of .proxybypass, over scheme://host[:port if not the scheme's], or a whole URL
}

// readNoProxy reads a list as people write it, separated by commas or spaces. What the agent cannot
// be told is refused: wrong and fix are those of the first such entry, and usable are the others.
//
// httpproxy's rules: golang.org/x/net/http/httpproxy, Config.NoProxy. The agent's:
// microsoft/azure-pipelines-agent, VstsAgentWebProxy.cs, IsMatchInBypassList, over scheme, host and
// port. It hands the expressions on to tasks, whose libraries hold them against the whole URL:
// azure-pipelines-task-lib, task.ts, getHttpProxyConfiguration; typed-rest-client, HttpClient.ts.
func readNoProxy(given string) (usable []direct, wrong, fix string) {
	separates := func(r rune) bool { return r == ',' || unicode.IsSpace(r) }
	for _, entry := range strings.FieldsFunc(given, separates) {
		d, w, f := readDirect(strings.ToLower(entry))
		switch {
		case w == "":
			usable = append(usable, d)
		case wrong == "":
			wrong, fix = w, f
		}
	}
	return usable, wrong, fix
}

// anyPort, anyOctet and end are parts of expressions; end is behind an address, or before a URL's path.
const anyPort, anyOctet, end = `(:[0-9]+)?`, `(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])`, `(/|$)`

var isDomain = regexp.MustCompile(`^(\*?\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?$`)

// digits: a name whose last part is a number is none (RFC 1123); httpproxy would hold it against
// names alone, and the agent against addresses as well.
var digits = regexp.MustCompile(`(^|\.)[0-9]+\.?$`)

func readDirect(entry string) (d direct, wrong, fix string) {
	const example = "Write hosts (devops.corp), domains (.corp), addresses or IPv4 ranges (10.0.0.0/8), " +
		"each with :PORT if only that is meant, separated by commas."
	if line.Wrong(entry, line.Longest) != "" {
		return d, "has an entry that no host is named by", example
	}
	if entry == "*" {
		return direct{entry, "^https?://"}, "", ""
	}
	if r, err := netip.ParsePrefix(entry); err == nil {
		if !r.Addr().Is4() {
			return d, fmt.Sprintf("has the range %s, and the agent knows no IPv6 ranges", entry),
				"Name the hosts, or their domain."
		}
		return direct{r.Masked().String(), "^https?://" + octets(r.Masked()) + anyPort + end}, "", ""
	}
	if strings.Contains(entry, "://") {
		return d, fmt.Sprintf("has the entry %q, a URL", line.Shown(entry)), "Write its host alone. " + example
	}
	host, port := entry, ""
	if h, p, err := net.SplitHostPort(entry); err == nil {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil || n == 0 {
			return d, fmt.Sprintf("has the entry %q, whose port is none", line.Shown(entry)), example
		}
		host, port = h, strconv.FormatUint(n, 10)
	}
	ip, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"))
	switch {
	case err == nil && (ip.Zone() != "" || ip.Is4In6()):
		return d, fmt.Sprintf("has the address %s, which the agent writes otherwise", host), "Write the plain address."
	case err == nil:
		if host = ip.String(); port != "" {
			host = net.JoinHostPort(host, port)
		}
		shown := ip.String()
		if ip.Is6() {
			shown = "[" + shown + "]"
		}
		return direct{host, expression(regexp.QuoteMeta(shown), port)}, "", ""
	case !isDomain.MatchString(host), digits.MatchString(host):
		return d, fmt.Sprintf("has the entry %q, which names no host", line.Shown(entry)), example
	}
	labels := `([^/:]+\.)?`
	domain, below := strings.CutPrefix(strings.TrimPrefix(host, "*"), ".")
	if below {
		labels = `[^/:]+\.`
	}
	if d.entry = host; port != "" {
		d.entry += ":" + port
	}
	d.pattern = expression(labels+regexp.QuoteMeta(domain), port)
	return d, "", ""
}

// expression is for a host, itself an expression, and its port; "" = any.
func expression(host, port string) string {
	switch port {
	case "":
		return "^https?://" + host + anyPort + end
	case "443":
		return "^(https://" + host + "(:443)?|http://" + host + ":443)" + end
	case "80":
		return "^(http://" + host + "(:80)?|https://" + host + ":80)" + end
	}
	return "^https?://" + host + ":" + port + end
}

// octets is an expression for the addresses of an IPv4 range.
func octets(r netip.Prefix) string {
	var parts []string
	bits := r.Bits()
	for _, octet := range r.Addr().As4() {
		switch {
		case bits >= 8:
			parts = append(parts, strconv.Itoa(int(octet)))
		case bits <= 0:
			parts = append(parts, anyOctet)
		default:
			var some []string
			for i := range 1 << (8 - bits) {
				some = append(some, strconv.Itoa(int(octet)+i))
			}
			parts = append(parts, "("+strings.Join(some, "|")+")")
		}
		bits -= 8
	}
	return strings.Join(parts, `\.`)
}

// CheckNoProxy says what is wrong with a NO_PROXY list, and how to write it; "" if nothing is.
func CheckNoProxy(given string) (wrong, fix string) {
	_, wrong, fix = readNoProxy(given)
	return wrong, fix
}

// EnvironmentNoProxy is the list that the environment gives, NO_PROXY or no_proxy, without what the
// agent cannot be told: that goes through the proxy, whoever asks. wrong says what this is.
func EnvironmentNoProxy() (usable, wrong, fix string) {
	list, wrong, fix := readNoProxy(httpproxy.FromEnvironment().NoProxy)
	return joined(list), wrong, fix
}

// joined is a list as httpproxy takes it.
func joined(list []direct) string {
	var entries []string
	for _, d := range list {
		entries = append(entries, d.entry)
	}
	return strings.Join(entries, ",")
}

// Bypass is n.NoProxy as the agent takes it: regular expressions, one for each entry.
func (n Network) Bypass() []string {
	list, _, _ := readNoProxy(n.NoProxy)
	var patterns []string
	for _, d := range list {
		patterns = append(patterns, d.pattern)
	}
	return patterns
}
