package access

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"azp-bootstrap/bootstrap/azure"
	"azp-bootstrap/bootstrap/config"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/secret"
)

const value = "opaque-token-of-a-test"

// A world counts what IMDS, the vault and Azure DevOps are asked.
type world struct {
	tokens, secrets, asked atomic.Int32
	refuses                atomic.Bool // the vault
	shown                  atomic.Value
}

func (w *world) RoundTrip(r *http.Request) (*http.Response, error) {
	answer := func(status int, body any) (*http.Response, error) {
		data, err := json.Marshal(body)
		return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {"application/json"}},
			Body: io.NopCloser(strings.NewReader(string(data))), Request: r, ProtoMajor: 1}, err
	}
	if r.URL.Host != "contoso.vault.azure.net" {
		w.asked.Add(1)
		w.shown.Store(r.Header.Get("Authorization"))
		return answer(
			http.StatusOK,
			map[string]any{"authenticatedUser": map[string]any{"id": "1", "providerDisplayName": "Build"}},
		)
	}
	w.secrets.Add(1)
	if w.refuses.Load() {
		return answer(http.StatusTooManyRequests, map[string]any{"error": map[string]any{"code": "Throttled"}})
	}
	return answer(
		http.StatusOK,
		map[string]any{"value": value, "id": "https://contoso.vault.azure.net/secrets/azp-pat/1"},
	)
}

func (w *world) access(t *testing.T, entra bool) *Access {
	imds := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		w.tokens.Add(1)
		rw.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(
			rw,
			`{"access_token":"`+value+`","expires_in":"86400","resource":"x","token_type":"Bearer"}`,
		)
	}))
	t.Cleanup(imds.Close)
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, imds.Listener.Addr().String())
	}
	return New(Way{
		Credential: config.Credential{
			Entra:    entra,
			KeyVault: config.KeyVault{URL: "https://contoso.vault.azure.net", Secret: "azp-pat"},
		},
		Server: config.Server{Hosted: true, Name: "contoso", Base: "https://dev.azure.com/contoso"},
		IMDS: azure.NewIMDS(
			"http://169.254.169.254",
			dial,
		),
		Client:   &http.Client{Transport: w},
		Redactor: &secret.Redactor{},
	})
}

func TestTheVaultIsAskedOnce(t *testing.T) {
	w := &world{}
	a := w.access(t, false)
	for range 3 {
		if _, err := a.DevOps(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if w.secrets.Load() != 1 || w.tokens.Load() != 1 || !a.Holds() {
		t.Errorf("%d secrets, %d tokens, holds %v", w.secrets.Load(), w.tokens.Load(), a.Holds())
	}
	if got := a.way.Redactor.Redact("it is " + value); strings.Contains(got, value) {
		t.Error("the PAT is not redacted")
	}
}

// A vault that thousands ask is not asked for a new token each time as well.
func TestTheTokenIsKeptUntilTheVaultAnswers(t *testing.T) {
	w := &world{}
	w.refuses.Store(true)
	a := w.access(t, false)
	for range 3 {
		if err := a.Fetch(t.Context()); fault.From(err).Class != fault.Vault || a.Holds() {
			t.Fatal(err, a.Holds())
		}
	}
	w.refuses.Store(false)
	if err := a.Fetch(t.Context()); err != nil || w.tokens.Load() != 1 || w.secrets.Load() != 4 {
		t.Errorf("%v; %d tokens, %d secrets", err, w.tokens.Load(), w.secrets.Load())
	}
}

func TestNothingIsHeldAfterDrop(t *testing.T) {
	for _, entra := range []bool{false, true} {
		w := &world{}
		a := w.access(t, entra)
		c, err := a.DevOps(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		other, err := a.At(t.Context(), "https://dev.azure.com/former")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := other.WhoAmI(t.Context()); err != nil {
			t.Fatal(err)
		}
		if shown := w.shown.Load().(string); strings.HasPrefix(shown, "Bearer ") != entra {
			t.Errorf("entra %v: shown as %s", entra, shown[:6])
		}
		a.Drop()
		if a.Holds() || a.vault != nil || a.server != nil {
			t.Errorf("entra %v: something is held", entra)
		}
		// Who still has a client of before shows nothing by it: the PAT's bytes are gone.
		before := w.asked.Load()
		for _, c := range []interface {
			WhoAmI(context.Context) (string, error)
		}{c, other} {
			_, _ = c.WhoAmI(t.Context())
			if w.asked.Load() != before && strings.Contains(w.shown.Load().(string), value) {
				t.Errorf("entra %v: shown after it was dropped", entra)
			}
		}
		if _, err := a.DevOps(t.Context()); err != nil || !a.Holds() {
			t.Errorf("entra %v: it is not asked for again: %v", entra, err)
		}
	}
}

// What is held has a shape that nobody knows: the redactor is told of it before anybody can write
// it.
func TestWhatIsHeldIsNotShown(t *testing.T) {
	for _, entra := range []bool{false, true} {
		a := (&world{}).access(t, entra)
		if err := a.Fetch(t.Context()); err != nil {
			t.Fatal(err)
		}
		if said := a.way.Redactor.Redact("with " + value); strings.Contains(said, value) {
			t.Errorf("entra %v: %q", entra, said)
		}
	}
}

func TestWhatIsGivenByHandComesFirst(t *testing.T) {
	w := &world{}
	a := w.access(t, true)
	given, err := secret.NewPAT(value)
	if err != nil {
		t.Fatal(err)
	}
	a.way.Given = given
	c, err := a.DevOps(t.Context())
	if err == nil {
		_, err = c.WhoAmI(t.Context())
	}
	if err != nil || w.tokens.Load() != 0 || !strings.HasPrefix(w.shown.Load().(string), "Basic ") {
		t.Errorf("%v; %d tokens, shown %v", err, w.tokens.Load(), w.shown.Load())
	}
	a.Drop()
	if err := a.Fetch(t.Context()); err != nil || !a.Holds() {
		t.Errorf("after a drop: %v", err)
	}
}

// Who wants to know hears of each secret that the vault gave; an error of theirs is the fetch's.
func TestSecretsAreNoted(t *testing.T) {
	w := &world{}
	a := w.access(t, false)
	var noted []string
	a.way.Noted = func(s azure.Secret) error {
		noted = append(noted, s.Version)
		return nil
	}
	for range 2 {
		if err := a.Fetch(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if len(noted) != 1 || noted[0] != "1" {
		t.Errorf("noted: %v", noted)
	}
	a.Drop()
	full := errors.New("no space left on device")
	a.way.Noted = func(azure.Secret) error { return full }
	if err := a.Fetch(t.Context()); !errors.Is(err, full) {
		t.Errorf("it could not be noted: %v", err)
	}
}

// The configured organization has one client, which learns; another one has a client of its own.
func TestAt(t *testing.T) {
	w := &world{}
	a := w.access(t, false)
	c, err := a.DevOps(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for base, same := range map[string]bool{"https://dev.azure.com/contoso": true, "https://dev.azure.com/former": false} {
		if at, err := a.At(t.Context(), base); err != nil || (at == c) != same {
			t.Errorf("%s: the same %v, %v", base, at == c, err)
		}
	}
	w.refuses.Store(true)
	a.Drop()
	if at, err := a.At(
		t.Context(),
		"https://dev.azure.com/former",
	); at != nil ||
		fault.From(err).Class != fault.Vault {
		t.Errorf("%v, %v", at, err)
	}
	if host := a.Vault(); host != "contoso.vault.azure.net" {
		t.Errorf("the vault is %s", host)
	}
}
