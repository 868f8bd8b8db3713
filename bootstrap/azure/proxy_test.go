package azure

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"azp-bootstrap/bootstrap/fault"
)

func TestParseProxy(t *testing.T) {
	for given, want := range map[string][3]string{ // URL without credentials, user, password
		"proxy:3128":                         {"http://proxy:3128"},
		"10.0.0.1:3128":                      {"http://10.0.0.1:3128"},
		"proxy":                              {"http://proxy"},
		"http://proxy:3128/":                 {"http://proxy:3128"},
		"HTTP://Proxy:3128":                  {"http://Proxy:3128"},
		"https://proxy":                      {"https://proxy"},
		"http://[fd00::1]:3128":              {"http://[fd00::1]:3128"},
		" http://proxy:3128\n":               {"http://proxy:3128"},
		"@proxy:3128":                        {"http://proxy:3128"},
		"agents:Sesame1@proxy:3128":          {"http://proxy:3128", "agents", "Sesame1"},
		"http://agents:Sesame1@proxy:3128":   {"http://proxy:3128", "agents", "Sesame1"},
		`http://CORP\agents:Sesame1@proxy:1`: {"http://proxy:1", `CORP\agents`, "Sesame1"},
		`CORP\agents:Ses\ame@proxy:1`:        {"http://proxy:1", `CORP\agents`, `Ses\ame`},
		"http://CORP%5Cagents:S%23e@proxy:1": {"http://proxy:1", `CORP\agents`, "S#e"},
		"agents@corp.com:p@ss@proxy:1":       {"http://proxy:1", "agents@corp.com", "p@ss"},
		"agents:p:w:x@proxy:1":               {"http://proxy:1", "agents", "p:w:x"},
		"agents:p%25w%2F%3F%20x@proxy:1":     {"http://proxy:1", "agents", "p%w/? x"},
		"agents:pässwörd@proxy:1":            {"http://proxy:1", "agents", "pässwörd"},
		"agents:--sslskipcertvalidation@p:1": {"http://p:1", "agents", "--sslskipcertvalidation"},
		"agents:\"'$(x)`;&|<>^[]{}!*=,+@p:1": {"http://p:1", "agents", "\"'$(x)`;&|<>^[]{}!*=,+"},
	} {
		u, wrong, _ := ParseProxy(given)
		if wrong != "" {
			t.Errorf("%q: %s", given, wrong)
			continue
		}
		password, _ := u.User.Password()
		if got := [3]string{
			(&url.URL{Scheme: u.Scheme, Host: u.Host}).String(),
			u.User.Username(),
			password,
		}; got != want {
			t.Errorf("%q: %q, want %q", given, got, want)
		}
		if again, wrong, _ := ParseProxy(u.String()); wrong != "" || again.String() != u.String() {
			t.Errorf("%q becomes %q, which becomes %q %s", given, u, again, wrong)
		}
		// The daemon's own connections: the transport reads it as it is meant.
		tr, err := Network{Proxy: given}.transport()
		if err != nil {
			t.Errorf("%q: %v", given, err)
			continue
		}
		p, err := tr.Proxy(&http.Request{URL: &url.URL{Scheme: "https", Host: "dev.azure.com"}})
		if err != nil || p.String() != u.String() {
			t.Errorf("%q: the daemon goes through %v, %v", given, p, err)
		}
	}
	if u, wrong, _ := ParseProxy(" "); u != nil || wrong != "" {
		t.Errorf("no proxy became %v %s", u, wrong)
	}
}

func TestParseProxyRefuses(t *testing.T) {
	const pass = "Sesame1"
	for given, fix := range map[string]string{ // and a part of what mends it
		"http://agents:Sesame1#w@proxy:3128":                       "%23",
		"http://agents:Sesame1/w@proxy:3128":                       "%2F",
		"http://agents:Sesame1?w@proxy:3128":                       "%3F",
		"http://agents:Sesame1 w@proxy:3128":                       "%20",
		"http://agents:Sesame1%w@proxy:3128":                       "%25",
		"http://agents:Sesame1%@proxy:3128":                        "%25",
		"Sesame1#w:x@proxy:3128":                                   "%23",
		"http://agents:Sesame1%0aw@proxy:3128":                     "another",
		"http://agents:%20Sesame1@proxy:3128":                      "another",
		"http://agents:Sesame1\nw@proxy:3128":                      "proxy.corp",
		"http://agents:Sesame1\x00w@proxy:3128":                    "proxy.corp",
		"http://agents:Sesame1\xffw@proxy:3128":                    "proxy.corp",
		"http://Sesame1@proxy:3128":                                "both",
		"http://:Sesame1@proxy:3128":                               "both",
		"socks5://agents:Sesame1@proxy:1080":                       "http://",
		"http://agents:Sesame1@proxy:3128/path":                    "proxy.corp",
		"http://proxy:3128?Sesame1":                                "proxy.corp",
		"http://agents:Sesame1@proxy:port":                         "proxy.corp",
		"http://agents:Sesame1@proxy:99999":                        "proxy.corp",
		"http://agents:Sesame1@proxy:0":                            "proxy.corp",
		"http://agents:Sesame1@proxy:":                             "proxy.corp",
		"http://agents:Sesame1@":                                   "proxy.corp",
		"http://agents:Sesame1@pro xy:1":                           "proxy.corp",
		`http://agents:Sesame1@CORP\proxy:1`:                       "proxy.corp",
		"http://agents:Sesame1@pro%20xy:1":                         "proxy.corp",
		"http://agents:Sesame1@:3128":                              "proxy.corp",
		"http://":                                                  "proxy.corp",
		"http://agents:Sesame1@pröxy:3128":                         "xn--",
		"http://agents:" + strings.Repeat(pass, 1000) + "@proxy:1": "proxy.corp",
	} {
		u, wrong, advice := ParseProxy(given)
		if wrong == "" || !strings.Contains(advice, fix) || strings.Contains(wrong+advice, pass) ||
			strings.Contains(wrong+advice, "agents") {
			t.Errorf("%.60q: %v; %s; %s", given, u, wrong, advice)
		}
		for _, source := range []string{"network.proxy", "HTTPS_PROXY", "https_proxy"} {
			t.Setenv("HTTPS_PROXY", "")
			t.Setenv("https_proxy", "")
			if runtime.GOOS == "windows" && source == "https_proxy" {
				continue // the same as the other there
			}
			n := Network{}
			if source == "network.proxy" {
				n.Proxy = given
			} else if strings.Contains(given, "\x00") || runtime.GOOS == "windows" && !utf8.ValidString(given) {
				continue // no environment holds it
			} else {
				t.Setenv(source, given)
			}
			_, err := n.FromEnvironment()
			if f := fault.From(
				err,
			); err == nil || f.Class != fault.Config || !strings.Contains(f.Error(), source) ||
				strings.Contains(f.Error()+f.Advice, pass) {
				t.Errorf("%.60q by %s: %v", given, source, err)
			}
		}
	}
}

// Whatever is taken is taken whole: it means the same again, and nothing of the credentials is left
// in the host.
func FuzzParseProxy(f *testing.F) {
	f.Add("http://CORP\\agents:p@ss%23@proxy:3128/")
	f.Add("agents:p://w@host:3128")
	f.Add("À")
	f.Fuzz(func(t *testing.T, given string) {
		u, wrong, fix := ParseProxy(given)
		if wrong != "" || u == nil {
			if wrong != "" && fix == "" {
				t.Errorf("%q: %s, and no fix", given, wrong)
			}
			return
		}
		again, wrong, _ := ParseProxy(u.String())
		if wrong != "" || again.String() != u.String() || strings.ContainsAny(u.Host, "@/ \\\n\x00") ||
			u.Hostname() == "" {
			t.Errorf("%q became %q, then %v %s", given, u, again, wrong)
		}
	})
}

// The configuration names the proxy; user and password may come from the environment, where a password belongs,
// if that names the same one.
func TestCredentialsOfTheConfiguredProxyComeFromTheEnvironment(t *testing.T) {
	for name, c := range map[string]struct{ configured, environment, want string }{
		"the same":          {"http://proxy.corp:3128", "http://u:p@proxy.corp:3128", "http://u:p@proxy.corp:3128"},
		"without a scheme":  {"proxy.corp:80", "u:p@proxy.corp", "http://u:p@proxy.corp:80"},
		"another port":      {"http://proxy.corp:3128", "http://u:p@proxy.corp:8080", "http://proxy.corp:3128"},
		"another host":      {"http://proxy.corp:3128", "http://u:p@evil.corp:3128", "http://proxy.corp:3128"},
		"malformed":         {"http://proxy.corp:3128", "http://u:p@proxy.corp:x", "http://proxy.corp:3128"},
		"another scheme":    {"http://proxy.corp:443", "https://u:p@proxy.corp", "http://proxy.corp:443"},
		"another case":      {"http://PROXY.corp:3128", "http://u:p@proxy.corp:3128", "http://u:p@PROXY.corp:3128"},
		"nothing there":     {"http://proxy.corp:3128", "", "http://proxy.corp:3128"},
		"configured itself": {"http://a:b@proxy.corp:3128", "http://u:p@proxy.corp:3128", "http://a:b@proxy.corp:3128"},
		"environment alone": {"", "http://u:p@proxy.corp:3128", "http://u:p@proxy.corp:3128"},
	} {
		t.Setenv("https_proxy", "")
		t.Setenv("HTTPS_PROXY", c.environment) // last: on Windows the other is this one
		n, err := Network{Proxy: c.configured}.FromEnvironment()
		if err != nil || n.Proxy != c.want {
			t.Errorf("%s: %q, %v", name, n.Proxy, err)
		}
	}
}

// A name that only the proxy could resolve, but is asked without it, is explained by the list that says so.
func TestNamesThatAreAskedWithoutTheProxy(t *testing.T) {
	unknown := func(_ context.Context, _, addr string) (net.Conn, error) {
		host, _, _ := net.SplitHostPort(addr)
		return nil, &net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}}
	}
	for name, c := range map[string]struct {
		proxy, list string
		aside       bool
	}{
		"in the list": {"http://proxy.corp:3128", ".corp", true}, "no proxy": {"", ".corp", false}, "not in the list": {"http://proxy.corp:3128", "other", false},
	} {
		client, err := Network{Proxy: c.proxy, NoProxy: c.list, Dial: unknown}.Client()
		if err != nil {
			t.Fatal(err)
		}
		_, err = client.Get("https://devops.corp/") //nolint:bodyclose // there is none
		f := fault.Connection(fault.Network, "the collection", "devops.corp", err)
		if said := strings.Contains(f.Advice, "network.noProxy"); said != c.aside || !f.Wait {
			t.Errorf("%s: %s / %s (passing %v)", name, f, f.Advice, f.Wait)
		}
	}
}

// A proxy that takes connections and never answers is what is told, not the host behind it.
func TestASilentProxyIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		silent := func(context.Context, string, string) (net.Conn, error) {
			here, there := net.Pipe()
			go func() { _, _ = io.Copy(io.Discard, there) }()
			return here, nil
		}
		client, err := Network{Proxy: "http://proxy.corp:3128", Dial: silent}.Client()
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		_, err = client.Get("https://devops.corp/") //nolint:bodyclose // there is none
		f := fault.Connection(fault.Network, "the collection", "devops.corp", err)
		if took := time.Since(begin); !strings.Contains(f.Error(), "the proxy does not answer") || !f.Wait || took > time.Minute {
			t.Errorf("after %s: %s (passing %v)", took, f, f.Wait)
		}
	})
}
