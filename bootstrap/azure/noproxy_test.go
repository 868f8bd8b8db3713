package azure

import (
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"testing"
)

// goesDirectly is the agent's decision (VstsAgentWebProxy.cs: IsBypassed, IsMatchInBypassList), written anew
// from its source: it has no anchors of its own, and leaves out the scheme's port.
// taskGoesDirectly is the decision of a task's library, which holds the expressions against the whole
// URL: azure-pipelines-task-lib (task.ts) and typed-rest-client (HttpClient.ts).
func taskGoesDirectly(patterns []string, u *url.URL) bool {
	whole := u.String()
	if ip, err := netip.ParseAddr(u.Hostname()); err == nil && ip.Is6() { // as node writes it
		whole = strings.Replace(whole, "["+u.Hostname()+"]", "["+ip.String()+"]", 1)
	}
	if u.Path == "" {
		whole += "/DefaultCollection/_apis/build?api-version=7.1"
	}
	for _, p := range patterns {
		if regexp.MustCompile("(?i)" + p).MatchString(whole) {
			return true
		}
	}
	return false
}

func goesDirectly(t *testing.T, patterns []string, u *url.URL) bool {
	t.Helper()
	host := u.Hostname()
	if ip, err := netip.ParseAddr(host); err == nil {
		if ip.IsLoopback() {
			return true
		}
		if host = ip.String(); ip.Is6() {
			host = "[" + host + "]"
		}
	}
	if host == "localhost" {
		return true
	}
	shown := u.Scheme + "://" + strings.ToLower(host)
	if port := u.Port(); port != "" && (u.Scheme != "https" || port != "443") && (u.Scheme != "http" || port != "80") {
		shown += ":" + port
	}
	for _, p := range patterns {
		if regexp.MustCompile("(?i)" + p).MatchString(shown) {
			return true
		}
	}
	return false
}

// addresses are asked about with each list.
var addresses = []string{
	"https://devops.corp/DefaultCollection", "http://devops.corp", "https://devops.corp:443", "http://devops.corp:443",
	"https://devops.corp:8443", "http://devops.corp:80", "https://devops.corp:80", "https://corp",
	"https://corporate-cdn.example.com", "https://eu.devops.corp", "https://eudevops.corp", "https://DEVOPS.CORP",
	"https://devops-corp", "https://corp.example.com", "https://dev.azure.com", "https://myazure.community",
	"https://contoso.vault.azure.net", "https://10.0.0.5", "https://10.0.0.50", "https://10.1.1.20:8080", "https://10.1.1.64",
	"https://10.1.2.1", "http://11.1.1.1", "https://110.1.1.20", "https://10.1.1.200", "https://[fd00::1]/c",
	"https://[fd00::1]:8080", "https://[fd00::10]", "https://[FD00:0::1]", "https://localhost:8080", "https://127.0.0.1",
	"https://[::1]", "http://10.0.0.5:8080", "https://tfs_1.corp:8080/tfs",
}

// The daemon, which goes by Go's httpproxy, and the agent, which goes by expressions, decide alike about each
// address; direct are those that are asked past the proxy, besides the VM itself.
func TestTheDaemonAndTheAgentGoTheSameWay(t *testing.T) {
	for list, direct := range map[string]string{
		"":                        "",
		" , ,":                    "",
		"10.1.1.0/26":             "10.1.1.20:8080",
		"10.1.1.63/26":            "10.1.1.20:8080",
		"10.0.0.0/8":              "10.0.0.5 10.0.0.50 10.1.1.20:8080 10.1.1.64 10.1.2.1 10.1.1.200 http:10.0.0.5:8080",
		"10.0.0.0/7":              "10.0.0.5 10.0.0.50 10.1.1.20:8080 10.1.1.64 10.1.2.1 10.1.1.200 http:10.0.0.5:8080 http:11.1.1.1",
		"10.0.0.5/32":             "10.0.0.5 http:10.0.0.5:8080",
		"10.0.0.5":                "10.0.0.5 http:10.0.0.5:8080",
		"10.0.0.5:443":            "10.0.0.5",
		"10.0.0.5:08080":          "http:10.0.0.5:8080",
		"fd00::1":                 "[fd00::1] [fd00::1]:8080 [FD00:0::1]",
		"[fd00::1]":               "[fd00::1] [fd00::1]:8080 [FD00:0::1]",
		"[fd00:0:0::1]:8080":      "[fd00::1]:8080",
		"devops.corp:8443":        "devops.corp:8443",
		"devops.corp:443":         "devops.corp devops.corp:443 http:devops.corp:443 DEVOPS.CORP eu.devops.corp",
		"devops.corp:80":          "http:devops.corp http:devops.corp:80 devops.corp:80",
		"devops.corp":             "devops.corp http:devops.corp devops.corp:443 http:devops.corp:443 devops.corp:8443 http:devops.corp:80 devops.corp:80 eu.devops.corp DEVOPS.CORP",
		"Devops.Corp:8443":        "devops.corp:8443",
		".devops.corp":            "eu.devops.corp",
		"*.devops.corp":           "eu.devops.corp",
		".devops.corp:8443":       "",
		"corp":                    "devops.corp http:devops.corp devops.corp:443 http:devops.corp:443 devops.corp:8443 http:devops.corp:80 devops.corp:80 corp eu.devops.corp eudevops.corp DEVOPS.CORP tfs_1.corp:8080",
		"azure.com":               "dev.azure.com",
		".azure.com,10.0.0.5":     "dev.azure.com 10.0.0.5 http:10.0.0.5:8080",
		"azure.com fd00::1\n":     "dev.azure.com [fd00::1] [fd00::1]:8080 [FD00:0::1]",
		"tfs_1.corp, azure.com":   "tfs_1.corp:8080 dev.azure.com",
		"localhost,127.0.0.1,::1": "",
		"*":                       "all",
	} {
		want := map[string]bool{}
		for _, a := range strings.Fields(direct) {
			want[a] = true
		}
		if wrong, _ := CheckNoProxy(list); wrong != "" {
			t.Errorf("%q: %s", list, wrong)
		}
		n := Network{Proxy: "http://proxy:3128", NoProxy: list}
		tr, err := n.transport()
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range addresses {
			u, err := url.Parse(a)
			if err != nil {
				t.Fatal(err)
			}
			through, err := tr.Proxy(&http.Request{URL: u})
			daemon, agent := through == nil, goesDirectly(t, n.Bypass(), u)
			short := strings.TrimPrefix(u.Host, "https://")
			if u.Scheme == "http" {
				short = "http:" + short
			}
			itself := strings.Contains(u.Host, "localhost") || u.Host == "127.0.0.1" || u.Host == "[::1]"
			if should := itself || want[short] || want["all"]; err != nil || daemon != should || agent != should {
				t.Errorf("%q, %s: the daemon goes directly: %v, the agent: %v, should be %v; %v", list, a, daemon, agent, should, err)
			}
			if task := taskGoesDirectly(n.Bypass(), u); !itself && task != daemon {
				t.Errorf("%q, %s: the daemon goes directly: %v, a job's task: %v", list, a, daemon, task)
			}
		}
	}
}

// What the agent cannot be told is refused, with the way to write it; of the environment, which serves other
// programs as well, it is left out for both.
func TestWhatTheAgentCannotBeToldIsRefused(t *testing.T) {
	for list, fix := range map[string]string{
		"fd00::/8":                      "Name the hosts",
		"devops.corp; 10.0.0.7":         "commas",
		"devops.corp|tfs.corp":          "commas",
		"https://devops.corp":           "host alone",
		"devops.*":                      "commas",
		".0.5":                          "commas",
		"10.0.0.256":                    "commas",
		"10.0.0":                        "commas",
		"0.0.5:443":                     "commas",
		"*corp":                         "commas",
		"<local>":                       "commas",
		"devops.corp:port":              "commas",
		"devops.corp:0":                 "commas",
		"devops.corp:":                  "commas",
		"dévops.corp":                   "commas",
		"fe80::1%eth0":                  "plain",
		"::ffff:10.0.0.1":               "plain",
		"10.0.0.1/33":                   "commas",
		strings.Repeat("x", 10000):      "commas",
		"a\x00b":                        "commas",
		"10.0.0.5," + "devops.corp/tfs": "commas",
	} {
		wrong, advice := CheckNoProxy(list)
		if wrong == "" || !strings.Contains(advice, fix) || len(wrong) > 200 {
			t.Errorf("%.60q: %q, %q", list, wrong, advice)
		}
		if _, err := (Network{NoProxy: list}).FromEnvironment(); err == nil || !strings.Contains(err.Error(), "network.noProxy") {
			t.Errorf("%.60q is taken: %v", list, err)
		}
		if strings.Contains(list, "\x00") {
			continue // no environment holds it
		}
		t.Setenv("NO_PROXY", "azure.com,"+list)
		n, err := Network{}.FromEnvironment()
		if err != nil || !strings.HasPrefix(n.NoProxy, "azure.com") || strings.Contains(n.NoProxy, "/") {
			t.Errorf("%.60q of the environment: %q, %v", list, n.NoProxy, err)
		}
		t.Setenv("NO_PROXY", "")
	}
}

// Whatever list is taken, and whatever host is asked: both decide alike.
func FuzzNoProxy(f *testing.F) {
	f.Add("10.0.0.0/9,.corp:443", "devops.corp")
	f.Add("a.-_.,*", "x.a.-_.")
	f.Fuzz(func(t *testing.T, list, host string) {
		u, err := url.Parse("https://" + host)
		if err != nil || u.Hostname() == "" || !isDomain.MatchString(strings.ToLower(u.Hostname())) || u.Path != "" || strings.ContainsAny(u.Hostname()[:1], ".*") {
			return
		}
		n := Network{Proxy: "http://proxy:3128", NoProxy: list}
		tr, err := n.transport()
		if err != nil {
			t.Fatal(err)
		}
		through, err := tr.Proxy(&http.Request{URL: u})
		if agent := goesDirectly(t, n.Bypass(), u); err != nil || agent != (through == nil) {
			t.Errorf("%q, %s: the daemon goes through %v, the agent directly: %v; %v", list, u, through, agent, err)
		}
	})
}
