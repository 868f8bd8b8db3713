package access

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"azp-bootstrap/bootstrap/azure"
	"azp-bootstrap/bootstrap/config"
	"azp-bootstrap/bootstrap/secret"
)

type trip func(*http.Request) (*http.Response, error)

func (f trip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// For an organization of another tenant the identity's token is for the exchange alone, and Azure DevOps sees the
// application's, which nobody reads in what is said.
func TestAnApplicationOfAnotherTenant(t *testing.T) {
	const assertion, given = "opaque-assertion-of-a-test", "opaque-token-of-an-application"
	asked := ""
	imds := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.URL.Query().Get("resource")
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"access_token":"`+assertion+`","expires_in":"86400","resource":"x","token_type":"Bearer"}`)
	}))
	defer imds.Close()
	shown := ""
	client := &http.Client{Transport: trip(func(r *http.Request) (*http.Response, error) {
		body := `{"authenticatedUser":{"id":"1","providerDisplayName":"Build"}}`
		switch {
		case r.URL.Host == "dev.azure.com":
			shown = r.Header.Get("Authorization")
		case r.Method == http.MethodPost:
			body = `{"token_type":"Bearer","expires_in":3599,"access_token":"` + given + `"}`
		default:
			base := "https://login.microsoftonline.com/t"
			body = `{"token_endpoint":"` + base + `/token","authorization_endpoint":"` + base + `/a","issuer":"` + base + `"}`
		}
		return &http.Response{
			StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, Request: r, ProtoMajor: 1,
			Body: io.NopCloser(strings.NewReader(body)),
		}, nil
	})}
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, imds.Listener.Addr().String())
	}
	a := New(Way{
		Credential: config.Credential{Entra: true, EntraIn: config.EntraIn{
			TenantID: "33333333-4444-4555-8666-777777777777", ClientID: "88888888-9999-4aaa-8bbb-cccccccccccc",
		}},
		Server:   config.Server{Hosted: true, Name: "contoso", Base: "https://dev.azure.com/contoso"},
		IMDS:     azure.NewIMDS("http://169.254.169.254", dial),
		Client:   client,
		Redactor: &secret.Redactor{},
	})
	c, err := a.DevOps(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.WhoAmI(t.Context()); err != nil || shown != "Bearer "+given || asked != azure.TokenExchange {
		t.Errorf("%v; IMDS was asked for %q", err, asked)
	}
	if said := a.way.Redactor.Redact("with " + given); strings.Contains(said, "opaque") {
		t.Errorf("it says %q", said)
	}
	if a.Drop(); a.Holds() {
		t.Error("something is held")
	}
}
