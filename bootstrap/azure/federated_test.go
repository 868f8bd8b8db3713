package azure

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/secret"
)

const (
	testTenant = "33333333-4444-4555-8666-777777777777"
	testApp    = "88888888-9999-4aaa-8bbb-cccccccccccc"
)

// A login is what answers as Microsoft Entra.
type login struct {
	status    int
	body      string
	discovery string // "" = the true one
	err       error
	asked     []string
	form      url.Values
}

func (l *login) RoundTrip(r *http.Request) (*http.Response, error) {
	l.asked = append(l.asked, r.URL.String())
	if l.err != nil {
		return nil, l.err
	}
	status, body := l.status, l.body
	if strings.HasSuffix(r.URL.Path, "/openid-configuration") {
		base := "https://" + LoginHost + "/" + testTenant
		status, body = http.StatusOK, l.discovery
		if body == "" {
			body = `{"token_endpoint":"` + base + `/oauth2/v2.0/token","authorization_endpoint":"` + base +
				`/oauth2/v2.0/authorize","issuer":"` + base + `/v2.0"}`
		}
	} else if data, err := io.ReadAll(r.Body); err == nil {
		l.form, _ = url.ParseQuery(string(data))
	}
	return &http.Response{
		StatusCode: status, Header: http.Header{"Content-Type": {"application/json"}}, Request: r, ProtoMajor: 1,
		Body: io.NopCloser(strings.NewReader(body)),
	}, nil
}

func (l *login) exchange(t *testing.T, young bool) (secret.PAT, *fault.Error) {
	t.Helper()
	assertion, err := secret.NewPAT("assertion-of-a-test")
	if err != nil {
		t.Fatal(err)
	}
	pat, err := Application{testTenant, testApp}.Exchange(t.Context(), &http.Client{Transport: l}, assertion, "resource", young)
	return pat, fault.From(err)
}

func TestAnAssertionIsExchanged(t *testing.T) {
	t.Setenv("AZURE_AUTHORITY_HOST", "https://evil.example")
	l := &login{status: http.StatusOK, body: `{"token_type":"Bearer","expires_in":3599,"access_token":"token-of-a-test"}`}
	pat, err := l.exchange(t, false)
	if err != nil || pat.Reveal() != "token-of-a-test" {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"grant_type": "client_credentials", "client_id": testApp, "client_assertion": "assertion-of-a-test",
		"client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
	} {
		if l.form.Get(name) != want {
			t.Errorf("%s is %q", name, l.form.Get(name))
		}
	}
	if !strings.Contains(l.form.Get("scope"), "resource/.default") {
		t.Errorf("scope %q", l.form.Get("scope"))
	}
	for _, asked := range l.asked {
		if !strings.HasPrefix(asked, "https://"+LoginHost+"/"+testTenant+"/") {
			t.Errorf("asked: %s", asked)
		}
	}
}

// The assertion is shown to Microsoft Entra's own host, whatever an answer says.
func TestNobodyElseIsShownTheAssertion(t *testing.T) {
	for _, elsewhere := range []string{
		"https://evil.example/token", "http://" + LoginHost + "/token", "https://" + LoginHost + ".evil.example/token",
		"https://" + LoginHost + ":8443/token",
	} {
		l := &login{discovery: `{"token_endpoint":"` + elsewhere + `","authorization_endpoint":"https://` + LoginHost +
			`/a","issuer":"https://` + LoginHost + `/` + testTenant + `/v2.0"}`}
		_, err := l.exchange(t, false)
		if err == nil || err.Class != fault.Identity || !strings.Contains(err.Error(), "which is not asked") || err.Advice == "" {
			t.Errorf("%s: %v", elsewhere, err)
		}
		if len(l.asked) != 1 {
			t.Errorf("%s: asked %v", elsewhere, l.asked)
		}
	}
}

func TestWhatMicrosoftEntraRefuses(t *testing.T) {
	aad := func(kind, code, text string) string {
		return `{"error":"` + kind + `","error_description":"AADSTS` + code + `: ` + text + ` Trace ID: 1 Correlation ID: 2","error_codes":[` + code + `]}`
	}
	for name, c := range map[string]struct {
		status int
		body   string
		young  bool
		says   string
		hint   string
		waits  bool
	}{
		"unknown application":     {400, aad("unauthorized_client", "700016", "Application with identifier 'x' was not found"), false, "does not know the application", "adminconsent", false},
		"unknown tenant":          {400, aad("invalid_request", "90002", "Tenant 'x' not found."), false, "there is no tenant", "tenantId", false},
		"another subject":         {401, aad("invalid_client", "700213", "No matching federated identity record found"), false, "has no federated credential", "object ID", false},
		"another subject, as yet": {401, aad("invalid_client", "700213", "No matching federated identity record found"), true, "has no federated credential", "object ID", true},
		"in older words":          {401, aad("unauthorized_client", "70021", "No matching federated identity record found"), false, "has no federated credential", "subject", false},
		"an expression":           {401, aad("invalid_client", "7002131", "No matching federated identity record found"), false, "has no federated credential", "subject", false},
		"another issuer":          {401, aad("invalid_client", "700211", "No matching federated identity record found"), false, "has no federated credential", "issuer", false},
		"another audience":        {401, aad("invalid_client", "700212", "No matching federated identity record found"), true, "for another audience", "api://AzureADTokenExchange", false},
		"of its own tenant":       {401, aad("invalid_client", "700236", "Entra ID tokens issued by issuer"), false, "takes no token", "user-assigned", false},
		"unknown resource":        {400, aad("invalid_resource", "500011", "The resource principal named x"), false, "does not know Azure DevOps", "tenantId", false},
		"a code of another day":   {400, aad("invalid_grant", "53003", "Access has been blocked"), false, "AADSTS53003: Access has been blocked)", "error?code=53003", false},
		"throttled":               {429, aad("temporarily_unavailable", "50196", "loop"), false, "now", "by itself", true},
		"a fault":                 {503, "busy", false, "now", "by itself", true},
		"a portal":                {200, "<html>Welcome</html>", false, "no token for", "Something else", false},
		"an empty answer":         {200, "", false, "no token for", "Something else", false},
		"another refusal":         {403, "<html>Forbidden</html>", false, "no token for", "Something else", false},
	} {
		_, err := (&login{status: c.status, body: c.body}).exchange(t, c.young)
		if err == nil || err.Class != fault.Identity || !strings.Contains(err.Error(), c.says) || err.Wait != c.waits ||
			!strings.Contains(err.Advice, c.hint) || strings.Contains(err.Error(), "Trace ID") {
			t.Errorf("%s: %v (%s), waits: %v", name, err, err.Advice, err.Wait)
		}
		if strings.Contains(err.Error(), "assertion-of-a-test") {
			t.Errorf("%s: it shows the assertion", name)
		}
	}
}

// What a network does is told as elsewhere: with the host, and what to do.
func TestMicrosoftEntraIsNotReached(t *testing.T) {
	for name, cause := range map[string]error{
		"no name":  &net.DNSError{Err: "no such host", Name: LoginHost, IsNotFound: true},
		"refused":  &net.OpError{Op: "dial", Err: errors.New("connection refused")},
		"by proxy": &fault.ProxyError{Proxy: "proxy:3128", Target: LoginHost, Status: 403},
	} {
		_, err := (&login{err: cause}).exchange(t, false)
		if err == nil || err.Advice == "" || !strings.Contains(err.Error(), LoginHost) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
