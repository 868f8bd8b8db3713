package azure

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"

	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/secret"
)

// A Vault reads secrets of one Key Vault as one managed identity.
type Vault struct {
	client *azsecrets.Client
	host   string
	id     Identity
}

// NewVault makes a client. The token is asked for the vault's own domain, whatever the vault says.
func NewVault(vaultURL string, imds *IMDS, id Identity, client *http.Client) (*Vault, error) {
	u, err := url.Parse(vaultURL)
	if err != nil {
		return nil, fault.New(fault.Config, "credential.keyVault.url").Because(err)
	}
	cred, err := newCredential(imds, id)
	if err != nil {
		return nil, err
	}
	c, err := azsecrets.NewClient(
		"https://"+u.Hostname(),
		cred,
		&azsecrets.ClientOptions{ClientOptions: options(challenged{client, u.Hostname()})},
	)
	if err != nil {
		return nil, fault.New(fault.Vault, "the vault %s", u.Hostname()).Because(err)
	}
	return &Vault{c, u.Hostname(), id}, nil
}

// resourceOf is what tokens for a vault are for: its domain.
func resourceOf(host string) string {
	_, domain, _ := strings.Cut(host, ".")
	return "https://" + domain
}

// challenged answers the request without a token, by which the SDK asks which token the vault wants
// (keyvault/internal, challenge_policy.go), in the vault's place: for a vault it is its domain's,
// as the SDK itself verifies. It spares each VM a round trip, a vault that serves thousands half of
// its transactions, and the SDK a challenge that somebody else wrote.
type challenged struct {
	policy.Transporter
	host string
}

func (c challenged) Do(r *http.Request) (*http.Response, error) {
	if r.Header.Get("Authorization") != "" {
		return c.Transporter.Do(r)
	}
	// A managed identity's tenant is its own: the one named here is not used.
	challenge := `Bearer authorization="https://login.microsoftonline.com/common", resource="` + resourceOf(
		c.host,
	) + `"`
	return &http.Response{
		Status:     "401 Unauthorized",
		StatusCode: http.StatusUnauthorized,
		Proto:      "HTTP/1.1",
		ProtoMajor: 1,
		ProtoMinor: 1,
		Header:     http.Header{"Www-Authenticate": {challenge}},
		Body:       http.NoBody,
		Request:    r,
	}, nil
}

// A Secret is the PAT with what the vault says about it.
type Secret struct {
	PAT     secret.PAT
	Version string
	Expires time.Time // zero = never
	Asked   time.Time // when, by the vault's clock
}

// OfSecret is the subject of faults that are about the secret itself rather than its vault.
const OfSecret = "secret"

// Secret reads a secret; version "" is the latest. young says that role assignments may not have
// spread yet: then a refusal passes.
func (v *Vault) Secret(ctx context.Context, name, version string, young bool) (s Secret, err error) {
	what := fmt.Sprintf("the secret %s in the vault %s", name, v.host)
	var answer *http.Response
	got, err := v.client.GetSecret(policy.WithCaptureResponse(ctx, &answer), name, version, nil)
	if err != nil {
		return Secret{}, v.explain(what, name, err, young)
	}
	if got.Value == nil {
		if body, e := runtime.Payload(answer); e == nil && len(body) == 0 {
			return Secret{}, v.cutShort(what)
		}
		return Secret{}, v.notAVault(what, "the answer holds no value")
	}
	if got.ID != nil {
		s.Version = got.ID.Version()
	}
	now := time.Now()
	if answer != nil { // the vault's clock: this VM's may still be in 1970
		if t, err := http.ParseTime(answer.Header.Get("Date")); err == nil {
			now = t
		}
	}
	s.Asked = now
	if a := got.Attributes; a != nil {
		if a.Enabled != nil && !*a.Enabled {
			return Secret{}, disabled(what)
		}
		if a.Expires != nil {
			s.Expires = *a.Expires
			if !now.Before(s.Expires) {
				return Secret{}, fault.New(fault.Vault, "%s expired on %s", what, s.Expires.UTC().Format(time.RFC3339)).
					About(OfSecret).
					Hint("Store a new PAT as a new version of the secret; the VM takes it by itself.")
			}
		}
		if a.NotBefore != nil && now.Before(*a.NotBefore) {
			return Secret{}, fault.New(fault.Vault, "%s is not valid before %s", what, a.NotBefore.UTC().Format(time.RFC3339)).
				About(OfSecret).
				Hint("Wait until then, or correct the secret's activation date.")
		}
	}
	s.PAT, err = secret.NewPAT(*got.Value)
	if err != nil {
		return Secret{}, fault.New(fault.Vault, "%s holds no PAT: %s", what, err).About(OfSecret).
			Hint("Store the token alone as the secret's value: az keyvault secret set --vault-name NAME --name %s "+
				"--file FILE (not --value: argument lists are for everyone to read).", name)
	}
	return s, nil
}

func disabled(what string) error {
	return fault.New(fault.Vault, "%s is disabled", what).About(OfSecret).
		Hint("Enable it (az keyvault secret set-attributes --enabled true) or store a new version.")
}

func (v *Vault) cutShort(what string) *fault.Error {
	return fault.New(fault.Vault, "%s: the answer was cut short", what).
		Passing().
		Hint("A firewall or proxy may be closing connections to %s.", v.host)
}

func (v *Vault) notAVault(what, why string) *fault.Error {
	return fault.New(fault.Vault, "%s: what answers there is not a Key Vault: %s", what, why).
		Hint("Check credential.keyVault.url, DNS (a private endpoint's zone) and the proxy: something else answers "+
			"as %s.", v.host)
}

func (v *Vault) explain(what, name string, err error, young bool) error {
	var own *fault.Error
	if errors.As(err, &own) { // the identity's
		return own
	}
	var answer *azcore.ResponseError
	if errors.As(err, &answer) {
		return v.explainAnswer(what, name, answer, young)
	}
	text := err.Error()
	var uerr *url.Error
	if errors.As(err, &uerr) {
		return fault.Connection(fault.Vault, what, v.host, uerr.Err)
	}
	var syntax *json.SyntaxError
	var typ *json.UnmarshalTypeError
	switch {
	case strings.Contains(text, "unexpected EOF"), strings.Contains(text, "unexpected end of JSON"):
		return v.cutShort(what).Because(err)
	case errors.As(err, &syntax), errors.As(err, &typ), strings.Contains(text, "unmarshal"):
		return v.notAVault(what, snippet([]byte(text)))
	}
	return fault.Connection(fault.Vault, what, v.host, err)
}

// explainAnswer reads Key Vault's error codes
// (learn.microsoft.com/azure/key-vault/general/rest-error-codes).
func (v *Vault) explainAnswer(what, name string, answer *azcore.ResponseError, young bool) error {
	body, _ := runtime.Payload(answer.RawResponse)
	var parsed struct {
		Error struct {
			Code, Message string
			Inner         struct{ Code string } `json:"innererror"`
		}
	}
	_ = json.Unmarshal(body, &parsed)
	inner, message := parsed.Error.Inner.Code, snippet([]byte(parsed.Error.Message))
	status := answer.StatusCode
	new := func(format string, args ...any) *fault.Error {
		return fault.New(
			fault.Vault,
			"%s: %s (%d %s: %s)",
			what,
			fmt.Sprintf(format, args...),
			status,
			strings.TrimSpace(parsed.Error.Code+" "+inner),
			message,
		)
	}
	switch {
	case fault.PassingStatus(status):
		return new("the vault does not serve us now").Passing().Retry(fault.RetryAfter(answer.RawResponse.Header)).
			Hint("Key Vault is throttling or has a fault; it is asked again by itself.")
	case parsed.Error.Code == "":
		return v.notAVault(what, fmt.Sprintf("it answered %d: %s", status, snippet(body)))
	case status == http.StatusForbidden && inner == "SecretDisabled":
		return disabled(what)
	case status == http.StatusForbidden && (inner == "ForbiddenByFirewall" || inner == "ForbiddenByConnection"):
		return new("the vault's firewall refuses this VM").
			Hint("Allow the VM's subnet in the vault's networking settings (service endpoint Microsoft.KeyVault), " +
				"or use a private endpoint.")
	case status == http.StatusForbidden:
		e := new("access denied to %s", v.id).
			Hint("Give the identity the role \"Key Vault Secrets User\" on this secret (or, with access policies, "+
				"the secret permission Get): az role assignment create --role \"Key Vault Secrets User\" --assignee-object-id PRINCIPAL --scope VAULT_ID/secrets/%s. Assignments take up to 10 minutes to spread.", name)
		if young {
			return e.Passing()
		}
		return e
	case status == http.StatusNotFound:
		return new(
			"there is no such secret",
		).About(OfSecret).
			Hint("Check credential.keyVault.secret and version; create it with az keyvault secret set.")
	case status == http.StatusUnauthorized:
		return new(
			"the vault rejects the token of %s",
			v.id,
		).Hint("The vault and the identity must be in the same Microsoft Entra tenant.")
	}
	return new("the vault refuses the request").Hint("Look the code up in Key Vault's REST API error codes.")
}
