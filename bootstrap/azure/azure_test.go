package azure

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"azp-bootstrap/bootstrap/fault"
)

// An answerer stands in for the network: what it returns is what came from outside.
type answerer func(*http.Request) *http.Response

func (a answerer) RoundTrip(r *http.Request) (*http.Response, error) { return a(r), nil }

func answer(r *http.Request, status int, header http.Header, body string) *http.Response {
	if header == nil {
		header = http.Header{}
	}
	return &http.Response{
		StatusCode: status,
		Header:     header,
		Body:       io.NopCloser(strings.NewReader(body)),
		Request:    r,
		ProtoMajor: 1,
	}
}

// metadata is an IMDS that gives a token for whatever is asked, and notes for what.
func metadata(t testing.TB, asked *[]string) *IMDS {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Metadata") != "true" {
			t.Error("a request to IMDS without Metadata: true")
		}
		*asked = append(*asked, r.URL.Query().Get("resource"))
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).
			Encode(map[string]string{"access_token": "managed-identity-token", "expires_in": "3600", "expires_on": "32503680000", "resource": r.URL.Query().Get("resource"), "token_type": "Bearer"})
	}))
	t.Cleanup(s.Close)
	return NewIMDS(s.URL, nil)
}

func ask(t testing.TB, imds *IMDS, then func(*http.Request) *http.Response) (Secret, error) {
	v, err := NewVault(
		"https://contoso.vault.azure.net",
		imds,
		Identity{},
		&http.Client{Transport: answerer(func(r *http.Request) *http.Response {
			if r.Header.Get("Authorization") == "" {
				t.Error("the vault was asked without a token")
			}
			return then(r)
		})},
	)
	if err != nil {
		t.Fatal(err)
	}
	return v.Secret(context.Background(), "azp-pat", "", false)
}

func secretAnswer(r *http.Request) *http.Response {
	return answer(
		r,
		200,
		http.Header{"Content-Type": {"application/json"}},
		`{"value":"opaque-token","id":"https://contoso.vault.azure.net/secrets/azp-pat/v1","attributes":{"enabled":true}}`,
	)
}

// A vault's challenge decides nothing: the token is asked for its domain before it is spoken to.
func TestChallengesAreNotBelieved(t *testing.T) {
	var asked []string
	imds := metadata(t, &asked)
	if s, err := ask(t, imds, secretAnswer); err != nil || s.PAT.Reveal() != "opaque-token" || s.Version != "v1" {
		t.Fatalf("got %+v, %v", s, err)
	}
	for _, c := range []string{"", "Bearer", "Basic realm=x", `Bearer authorization="https:", resource="https://vault.azure.net"`, `Bearer authorization="", resource=""`,
		`Bearer authorization="https://login.microsoftonline.com/t", resource="https://evil.example"`, `Bearer authorization="%zz", scope="%zz"`, strings.Repeat("Bearer ", 1000),
		`Bearer error="insufficient_claims", claims="eyJhIjoxfQ=="`} {
		_, err := ask(t, imds, func(r *http.Request) *http.Response {
			return answer(
				r,
				401,
				http.Header{"Www-Authenticate": {c}},
				`{"error":{"code":"Unauthorized","message":"x"}}`,
			)
		})
		if f := fault.From(err); err == nil || f.Class != fault.Vault || f.Advice == "" {
			t.Errorf("%.60q became %v", c, err)
		}
	}
	for _, resource := range asked {
		if resource != "https://vault.azure.net" {
			t.Errorf("a token was asked for %q", resource)
		}
	}
}

// Key Vault's table of errors, and what is no Key Vault.
func TestVaultAnswers(t *testing.T) {
	var asked []string
	imds := metadata(t, &asked)
	for _, c := range []struct {
		status int
		body   string
		says   string
		wait   bool
	}{
		{403, `{"error":{"code":"Forbidden","message":"m","innererror":{"code":"ForbiddenByRbac"}}}`, "access denied", false},
		{403, `{"error":{"code":"Forbidden","message":"m","innererror":{"code":"AccessDenied"}}}`, "access denied", false},
		{403, `{"error":{"code":"Forbidden","message":"m","innererror":{"code":"ForbiddenByFirewall"}}}`, "firewall", false},
		{403, `{"error":{"code":"Forbidden","message":"m","innererror":{"code":"SecretDisabled"}}}`, "disabled", false},
		{404, `{"error":{"code":"SecretNotFound","message":"m"}}`, "no such secret", false},
		{404, `<html>`, "not a Key Vault", false},
		{429, `{"error":{"code":"Throttled","message":"m"}}`, "does not serve us now", true},
		{503, ``, "does not serve us now", true},
		{400, `{"error":{"code":"BadParameter","message":"m"}}`, "refuses the request", false},
		{200, `<html>`, "not a Key Vault", false},
		{200, `{}`, "holds no value", false},
		{200, `{"value":""}`, "holds no PAT", false},
		{200, `{"value":"two words"}`, "holds no PAT", false},
		{200, `{"value":"x","attributes":{"exp":1}}`, "expired on 1970", false},
		{200, `{"value":"x","attributes":{"nbf":32503680000}}`, "not valid before 3000", false},
		{200, `{"value":"x","attributes":{"enabled":false}}`, "disabled", false},
		{200, `{"value":7}`, "not a Key Vault", false},
		{302, ``, "not a Key Vault", false},
	} {
		asked := 0
		_, err := ask(t, imds, func(r *http.Request) *http.Response {
			asked++
			return answer(r, c.status, http.Header{"Content-Type": {"application/json"}, "Retry-After": {"2"}}, c.body)
		})
		f := fault.From(err)
		if err == nil || f.Class != fault.Vault || f.Wait != c.wait || f.Advice == "" ||
			!strings.Contains(f.Error(), c.says) ||
			c.wait && f.After != 2*time.Second ||
			asked != 1 { // who waits, and for how long, is not the SDK's to say
			t.Errorf("%d %s became %v (wait %v, after %s)", c.status, c.body, err, f != nil && f.Wait, f.After)
		}
	}
}

// The vault's clock decides what has expired, not the VM's.
func TestExpiryByTheVaultsClock(t *testing.T) {
	var asked []string
	imds := metadata(t, &asked)
	_, err := ask(t, imds, func(r *http.Request) *http.Response {
		return answer(
			r,
			200,
			http.Header{"Content-Type": {"application/json"}, "Date": {"Mon, 02 Jan 2006 15:04:05 GMT"}},
			`{"value":"opaque-token","attributes":{"exp":1136300000}}`,
		)
	})
	if err != nil {
		t.Error(err)
	}
}

// Each of these leads azidentity away from IMDS (managed_identity_client.go and the SDKs below it).
func TestCleanEnvironment(t *testing.T) {
	names := []string{
		"IDENTITY_ENDPOINT",
		"IDENTITY_HEADER",
		"IDENTITY_SERVER_THUMBPRINT",
		"IMDS_ENDPOINT",
		"MSI_ENDPOINT",
		"MSI_SECRET",
		"AZURE_POD_IDENTITY_AUTHORITY_HOST",
		"AZURE_REGIONAL_AUTHORITY_NAME",
	}
	for _, name := range names {
		t.Setenv(name, "http://evil")
	}
	removed := CleanEnvironment()
	for _, name := range names {
		if _, set := os.LookupEnv(name); set || !slices.Contains(removed, name) {
			t.Errorf("%s is still set, or nobody says that it was", name)
		}
	}
	if again := CleanEnvironment(); len(again) != 0 {
		t.Errorf("removed again: %v", again)
	}
}

func TestIMDSIgnoresProxies(t *testing.T) {
	var asked []string
	imds := metadata(t, &asked)
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:9")
	t.Setenv("http_proxy", "http://127.0.0.1:9")
	if _, err := imds.Instance(
		context.Background(),
	); fault.From(err).Class != fault.IMDS ||
		!strings.Contains(err.Error(), "without a vmId") {
		t.Errorf("got %v", err) // it answered, if not as IMDS would
	}
}

func TestInstance(t *testing.T) {
	for _, c := range []struct {
		status int
		body   string
		wait   bool
	}{{404, "", true}, {410, "", true}, {429, "", true}, {500, "", true}, {200, "<html>", false}, {200, "{}", true}, {400, "{}", false}} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(c.status)
			_, _ = io.WriteString(w, c.body)
		}))
		_, err := NewIMDS(s.URL, nil).Instance(context.Background())
		s.Close()
		if f := fault.From(err); err == nil || f.Class != fault.IMDS || f.Advice == "" || f.Wait != c.wait {
			t.Errorf("%d %q became %v", c.status, c.body, err)
		}
	}
}

// A boot that is ahead of the VM's network by a moment loses no second; one that waits for long
// asks each second.
func TestIMDSThatIsNotThereYet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := NewIMDS(
			"http://169.254.169.254",
			func(context.Context, string, string) (net.Conn, error) { return nil, syscall.ENETUNREACH },
		)
		after := func() time.Duration {
			_, err := i.Instance(t.Context())
			f := fault.From(err)
			if f.Class != fault.IMDS || !f.Wait {
				t.Fatal(err)
			}
			return f.After
		}
		asked := 0
		for begin := time.Now(); time.Since(begin) < 10*time.Second; asked++ {
			d := after()
			if asked == 0 && d > 50*time.Millisecond || d > time.Second {
				t.Errorf("after %s: %s", time.Since(begin), d)
			}
			<-time.After(d)
		}
		if asked < 15 || asked > 40 {
			t.Errorf("asked %d times in ten seconds", asked)
		}
	})
}

func TestAnswersAreBounded(t *testing.T) {
	c := &http.Client{Transport: bounded{answerer(func(r *http.Request) *http.Response {
		res := answer(r, 200, nil, "")
		res.Body = io.NopCloser(io.LimitReader(zeros{}, 1<<40))
		return res
	}), maxBody}}
	res, err := c.Get("https://x/")
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, res.Body); !errors.Is(err, fault.ErrTooLarge) || n != maxBody {
		t.Errorf("%d bytes, %v", n, err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func FuzzVault(f *testing.F) {
	f.Add(
		`Bearer authorization="https://login.microsoftonline.com/t", resource="https://vault.azure.net"`,
		401,
		`{"value":"x"}`,
	)
	f.Add(`Bearer authorization="https:", resource=""`, 403, `{"error":{}}`)
	var asked []string
	imds := metadata(f, &asked)
	f.Fuzz(func(t *testing.T, challenge string, status int, body string) {
		s, err := ask(t, imds, func(r *http.Request) *http.Response {
			return answer(
				r,
				200+(status&0x7fffffff)%400,
				http.Header{"Content-Type": {"application/json"}, "Www-Authenticate": {challenge}},
				body,
			)
		})
		if err == nil && s.PAT.Reveal() == "" {
			t.Error("no secret and no error")
		}
		if fl := fault.From(err); err != nil && fl.Class == fault.Internal {
			t.Errorf("nobody classified %v", err)
		}
	})
}

// FuzzMetadata gives whatever IMDS might answer, for the instance and for the token.
func FuzzMetadata(f *testing.F) {
	f.Add(
		200,
		"application/json",
		`{"compute":{"vmId":"5c7a1b1e-0001-4d3a-9a00-000000000001","name":"web_1","tagsList":[{"name":"a","value":"b"}],"osProfile":{"computerName":"web-1"}}}`,
	)
	f.Add(200, "application/json", `{"access_token":"x","expires_in":"1","expires_on":"x"}`)
	f.Add(200, "text/html", "<html>")
	f.Add(400, "application/json", `{"error":"invalid_request","error_description":"Identity not found"}`)
	f.Add(429, "", "")
	f.Fuzz(func(t *testing.T, status int, kind, body string) {
		imds := &IMDS{client: &http.Client{Transport: answerer(func(r *http.Request) *http.Response {
			return answer(r, 200+(status&0x7fffffff)%400, http.Header{"Content-Type": {kind}}, body)
		})}}
		vm, err := imds.Instance(context.Background())
		if fl := fault.From(err); err != nil && (fl.Class != fault.IMDS || fl.Advice == "") {
			t.Errorf("not classified: %v", err)
		}
		if err == nil && !vmID.MatchString(vm.VMID) {
			t.Errorf("taken as an instance ID: %q", vm.VMID)
		}
		token, err := AccessToken(context.Background(), imds, Identity{}, "https://vault.azure.net")
		if fl := fault.From(err); err != nil && (fl.Class != fault.Identity || fl.Advice == "") {
			t.Errorf("not classified: %v", err)
		}
		if err == nil && token.Reveal() == "" {
			t.Error("no token and no error")
		}
	})
}

// What IMDS says when it gives no token, in the words of a person.
func TestIdentityAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		id           Identity
		status       int
		error, says  string
		text, advice string
	}{
		"no identity": {Identity{}, 400, "invalid_request", "Identity not found", "has no managed identity", "az vm identity assign"},
		"another one": {Identity{ClientID: "c"}, 400, "invalid_request", "Identity not found", "not assigned to this VM", "az vm identity assign"},
		"several": {Identity{}, 400, "invalid_request", "Multiple user assigned identities exist, please specify the clientId / resourceId",
			"several managed identities", "credential.identity"},
		"of another tenant": {Identity{}, 400, "unauthorized_client", "AADSTS700016: Application with identifier 'x' was not found",
			"Microsoft Entra gives", "assign it anew"},
		"resource unknown": {Identity{}, 400, "invalid_resource", "AADSTS500011: The resource principal named https://vault.azure.net was not found",
			"Microsoft Entra gives", "connect the organization"},
		"something else": {Identity{}, 400, "invalid_request", "Required query variable 'resource' is missing", "refuses to give a token", "az vm identity show"},
	} {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(c.status)
				_ = json.NewEncoder(w).Encode(map[string]string{"error": c.error, "error_description": c.says})
			}))
			defer s.Close()
			_, err := AccessToken(t.Context(), NewIMDS(s.URL, nil), c.id, "https://vault.azure.net")
			f := fault.From(err)
			if f.Class != fault.Identity || f.Wait || !strings.Contains(f.Error(), c.text) || !strings.Contains(f.Advice, c.advice) {
				t.Errorf("%v\n%s", f, f.Advice)
			}
		})
	}
}

// Messages name the address that was asked, which the configuration may have changed.
func TestMessagesNameTheAddressThatWasAsked(t *testing.T) {
	for endpoint, want := range map[string]string{"http://127.0.0.1:1": "127.0.0.1:1", "http://127.0.0.2": "127.0.0.2"} {
		refused := func(context.Context, string, string) (net.Conn, error) { return nil, syscall.ECONNREFUSED }
		imds := NewIMDS(endpoint, refused)
		_, instance := imds.Instance(t.Context())
		_, token := AccessToken(t.Context(), imds, Identity{}, "https://vault.azure.net")
		for what, err := range map[string]error{"instance": instance, "token": token, "event": imds.Acknowledge(t.Context(), "1")} {
			if said := err.Error(); !strings.Contains(said, want) || strings.Contains(said, "to "+imdsHost) {
				t.Errorf("%s, %s: %s", endpoint, what, said)
			}
		}
	}
}

// Whether a VM stands in a standby pool, IMDS says as a text or a word of JSON's; of what it does not know there is none.
func TestInStandbyPool(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		body   string
		in     bool
		fails  bool
	}{
		"a text":            {200, `{"isVmInStandbyPool":"true"}`, true, false},
		"a text of Azure's": {200, `{"isVmInStandbyPool":"True"}`, true, false},
		"a word":            {200, `{"isVmInStandbyPool":true}`, true, false},
		"not":               {200, `{"isVmInStandbyPool":"false"}`, false, false},
		"not, as a word":    {200, `{"isVmInStandbyPool":false}`, false, false},
		"empty":             {200, `{"isVmInStandbyPool":""}`, false, false},
		"null":              {200, `{"isVmInStandbyPool":null}`, false, false},
		"no field":          {200, `{"vmId":"1"}`, false, false},
		"something else":    {200, `{"isVmInStandbyPool":{"x":1}}`, false, false},
		"no such version":   {400, `{"error":"Bad request. api-version is invalid"}`, false, false},
		"being updated":     {410, ``, false, true},
		"not found":         {404, ``, false, true},
		"forbidden":         {403, `no`, false, true},
		"a portal":          {200, `<html>`, false, true},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Metadata") != "true" || r.URL.Query().Get("api-version") != "2023-11-15" {
				t.Errorf("%s: asked %s", name, r.URL)
			}
			w.WriteHeader(c.status)
			_, _ = io.WriteString(w, c.body)
		}))
		in, err := NewIMDS(server.URL, nil).InStandbyPool(t.Context())
		server.Close()
		if in != c.in || (err != nil) != c.fails {
			t.Errorf("%s: %v, %v", name, in, err)
		}
	}
}
