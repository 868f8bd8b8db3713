package azure

import (
	"fmt"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"unicode"

	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/line"
)

// ParseProxy reads a proxy's address as people write it, wherever they do: without a scheme, as
// curl takes it, with a domain's user (CORP\user:password@host:3128). What comes back is whole: a
// scheme, a host, and the user and the password decoded. wrong and fix say what to write otherwise,
// and nothing of what was written: it may be a password.
//
// The agent and the daemon get the same: what could be read in two ways, or what the agent would
// not take (VstsAgentWebProxy.cs), is refused here.
func ParseProxy(given string) (u *url.URL, wrong, fix string) {
	const example = "Write for example http://proxy.corp:3128, with credentials http://user:password@proxy.corp:3128."
	given = strings.TrimSpace(given)
	if given == "" {
		return nil, "", ""
	}
	if wrong := line.Wrong(given, line.Longest); wrong != "" {
		return nil, wrong, example
	}
	u = &url.URL{Scheme: "http"}
	rest := given
	if scheme, after, found := strings.Cut(given, "://"); found && isScheme.MatchString(scheme) {
		if u.Scheme, rest = strings.ToLower(scheme), after; u.Scheme != "http" && u.Scheme != "https" {
			return nil, "is neither an http:// nor an https:// " +
				"proxy", "Write http://: the agent knows no other proxies."
		}
	}
	if at := strings.LastIndex(rest, "@"); at >= 0 { // a host has none, a password may
		credentials := rest[:at]
		if rest = rest[at+1:]; credentials != "" {
			if u.User, wrong, fix = proxyUser(credentials); wrong != "" {
				return nil, wrong, fix
			}
		}
	}
	if rest = strings.TrimSuffix(rest, "/"); strings.ContainsAny(rest, `/?#`) {
		return nil, "has more after the proxy's host and port", example
	}
	if strings.IndexFunc(rest, func(r rune) bool { return r > unicode.MaxASCII }) >= 0 {
		return nil, "has a host name in letters that DNS does not know", "Write the name as DNS has it: xn--…"
	}
	host, err := url.Parse("http://" + rest)
	if err != nil || host.Hostname() == "" || strings.ContainsAny(rest, `\ %`) || !isPort(host.Port()) ||
		strings.HasSuffix(rest, ":") {
		return nil, "names no host and port", example
	}
	u.Host = host.Host
	return u, "", ""
}

var isScheme = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]*$`)

func isPort(port string) bool {
	n, err := strconv.ParseUint(port, 10, 16)
	return port == "" || err == nil && n > 0
}

// proxyUser reads a user and a password.
func proxyUser(given string) (u *url.Userinfo, wrong, fix string) {
	if i := strings.IndexAny(given, `/?# `); i >= 0 {
		return nil, fmt.Sprintf(
				"has the character %q in its user name or password, where a URL cannot hold it",
				given[i],
			),
			fmt.Sprintf(
				"Write it as %%%02X there.",
				given[i],
			)
	}
	name, password, _ := strings.Cut(given, ":")
	for _, part := range []*string{&name, &password} {
		plain, err := url.PathUnescape(*part)
		if err != nil {
			return nil, `has the character '%' in its user name or password, where it begins a character's number`, "Write it as %25 there."
		}
		switch {
		case line.Wrong(plain, line.Longest) != "":
			return nil, "has a user name or password that " + line.Wrong(
				plain,
				line.Longest,
			), "Give the proxy's account another one."
		case strings.TrimSpace(plain) != plain:
			return nil, "has a user name or password that begins or ends with a space, which the agent " +
				"cuts off", "Give the proxy's account another one."
		}
		*part = plain
	}
	if name == "" || password == "" {
		return nil, "has a user name or a password alone, and the agent uses neither without the " +
			"other", "Write both, user:password@host:port, or none."
	}
	return url.UserPassword(name, password), "", ""
}

// Through is the proxy that n names; nil = none.
func (n Network) Through() (*url.URL, error) {
	u, wrong, fix := ParseProxy(n.Proxy)
	if wrong != "" {
		return nil, fault.New(fault.Config, "the proxy of network.proxy %s", wrong).Hint("%s", fix)
	}
	return u, nil
}

// EnvironmentProxy is the proxy that the environment names for https, and the variable that does
// so. Of several, the one that Go's own clients take comes first.
func EnvironmentProxy() (variable, value string) {
	for _, variable := range []string{"HTTPS_PROXY", "https_proxy"} {
		if value := os.Getenv(variable); value != "" {
			return variable, value
		}
	}
	return "", ""
}

// FromEnvironment completes n by HTTPS_PROXY, NO_PROXY (any case) and SSL_CERT_FILE, so that the
// agent gets what the daemon itself uses, and checks the proxy.
func (n Network) FromEnvironment() (Network, error) {
	where := "network.proxy"
	if n.Proxy == "" {
		where, n.Proxy = EnvironmentProxy()
	}
	u, wrong, fix := ParseProxy(n.Proxy)
	if wrong != "" {
		return n, fault.New(fault.Config, "the proxy of %s %s", where, wrong).Hint("%s", fix)
	}
	if n.Proxy = ""; u != nil {
		// The configuration names the proxy, and the environment, where a password belongs, what it asks for.
		if _, given := EnvironmentProxy(); u.User == nil {
			if same, wrong, _ := ParseProxy(given); wrong == "" && same != nil && same.Scheme == u.Scheme && strings.EqualFold(hostPort(same), hostPort(u)) {
				u.User = same.User
			}
		}
		n.Proxy = u.String()
	}
	if wrong, fix := CheckNoProxy(n.NoProxy); wrong != "" {
		return n, fault.New(fault.Config, "network.noProxy %s", wrong).Hint("%s", fix)
	}
	if n.NoProxy == "" {
		n.NoProxy, _, _ = EnvironmentNoProxy()
	}
	if n.CAFile == "" {
		n.CAFile = os.Getenv("SSL_CERT_FILE")
	}
	return n, nil
}
