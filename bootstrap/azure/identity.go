package azure

import (
	"context"
	"errors"
	"net/http"
	"os"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/secret"
)

// Identity names a managed identity; all empty = the system-assigned one.
type Identity struct{ ClientID, ObjectID, ResourceID string }

func (i Identity) String() string {
	for _, f := range [][2]string{{"client ID ", i.ClientID}, {"object ID ", i.ObjectID}, {"resource ID ", i.ResourceID}} {
		if f[1] != "" {
			return "the managed identity with " + f[0] + f[1]
		}
	}
	return "the VM's managed identity"
}

// misleading are the variables by which azidentity would look for tokens elsewhere than at IMDS
// (App Service, Arc, Service Fabric, Azure ML); a left-over or hostile one must not decide where
// the token comes from.
var misleading = []string{
	"IDENTITY_ENDPOINT",
	"IDENTITY_HEADER",
	"IDENTITY_SERVER_THUMBPRINT",
	"IMDS_ENDPOINT",
	"MSI_ENDPOINT",
	"MSI_SECRET",
	"AZURE_POD_IDENTITY_AUTHORITY_HOST",
	"AZURE_REGIONAL_AUTHORITY_NAME",
}

// CleanEnvironment removes these variables from this process and returns the names it found.
func CleanEnvironment() (removed []string) {
	for _, name := range misleading {
		if _, set := os.LookupEnv(name); set {
			removed = append(removed, name)
			_ = os.Unsetenv(name)
		}
	}
	return removed
}

// credential gives tokens of the managed identity, with this house's errors.
type credential struct {
	azcore.TokenCredential
	id   Identity
	host string // of IMDS, for messages
}

// options for every SDK client: no retries inside, because the one retry loop knows the deadline.
func options(t policy.Transporter) policy.ClientOptions {
	return policy.ClientOptions{
		Transport: t,
		Retry:     policy.RetryOptions{MaxRetries: -1},
		Telemetry: policy.TelemetryOptions{ApplicationID: "azp-bootstrap"},
	}
}

func newCredential(imds *IMDS, id Identity) (*credential, error) {
	o := &azidentity.ManagedIdentityCredentialOptions{ClientOptions: options(imds.client)}
	switch {
	case id.ClientID != "":
		o.ID = azidentity.ClientID(id.ClientID)
	case id.ObjectID != "":
		o.ID = azidentity.ObjectID(id.ObjectID)
	case id.ResourceID != "":
		o.ID = azidentity.ResourceID(id.ResourceID)
	}
	c, err := azidentity.NewManagedIdentityCredential(o)
	if err != nil {
		return nil, fault.New(fault.Identity, "%s", id).Because(err)
	}
	return &credential{TokenCredential: c, id: id, host: imds.host}, nil
}

// GetToken asks IMDS for a token of the identity. Claims make the SDK's cache be passed over, which
// lives as long as the process (microsoft-authentication-library-for-go, apps/managedidentity): a
// token that a vault rejects, or that was for an identity since replaced, would be shown again for
// a day. IMDS has a cache of its own and is not sent the claims.
func (c *credential) GetToken(ctx context.Context, o policy.TokenRequestOptions) (t azcore.AccessToken, err error) {
	if o.Claims == "" {
		o.Claims = "{}"
	}
	var answer *http.Response
	t, err = c.TokenCredential.GetToken(policy.WithCaptureResponse(ctx, &answer), o)
	if err == nil {
		return t, nil
	}
	var failed *azidentity.AuthenticationFailedError
	if answer == nil && errors.As(err, &failed) {
		answer = failed.RawResponse
	}
	return t, c.explain(err, answer)
}

// AccessToken asks IMDS for the identity's token for a resource.
func AccessToken(ctx context.Context, imds *IMDS, id Identity, resource string) (secret.PAT, error) {
	c, err := newCredential(imds, id)
	if err != nil {
		return secret.PAT{}, err
	}
	t, err := c.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{resource + "/.default"}})
	if err != nil {
		return secret.PAT{}, err
	}
	pat, err := secret.NewPAT(t.Token)
	if err != nil {
		return secret.PAT{}, fault.New(fault.Identity, "what IMDS gave as the token of %s is none: %s", id, err).
			Hint("Something else than Azure's metadata service may answer at %s.", imds.host)
	}
	return pat, nil
}

func (c *credential) explain(err error, answer *http.Response) error {
	text := err.Error()
	status := 0
	if answer != nil {
		status = answer.StatusCode
		if body, e := runtime.Payload(answer); e == nil {
			text = snippet(body)
		}
	}
	lower := strings.ToLower(text)
	switch {
	case strings.Contains(lower, "multiple user assigned identities"):
		return fault.New(fault.Identity, "the VM has several managed identities and the configuration names none "+
			"(IMDS: %s)", text).
			Hint("Set one of credential.identity.clientId, objectId and resourceId.")
	case strings.Contains(lower, "aadsts"):
		return fault.New(fault.Identity, "Microsoft Entra gives %s no token (IMDS answered %d: %s)", c.id, status, text).
			Hint("AADSTS700016: the identity was deleted, or is of another tenant: assign it anew. AADSTS500011: its " +
				"tenant does not know what the token is for: connect the organization to that tenant, or name a vault " +
				"of it. Others: https://login.microsoftonline.com/error")
	case status == http.StatusBadRequest && !strings.Contains(lower, "identity not found"):
		return fault.New(fault.Identity, "IMDS refuses to give a token for %s (400: %s)", c.id, text).
			Hint("Correct credential.identity; see whether the identity is assigned to this VM: az vm identity show.")
	case status == http.StatusBadRequest && c.id != (Identity{}):
		return fault.New(fault.Identity, "%s is not assigned to this VM (IMDS answered 400: %s)", c.id, text).
			Hint("Assign it (az vm identity assign, az vmss identity assign), or correct credential.identity.")
	case strings.Contains(lower, "identity not found"):
		return fault.New(fault.Identity, "the VM has no managed identity (IMDS answered %d: %s)", status, text).
			Hint("Give it one: az vm identity assign (scale sets: az vmss identity assign, then upgrade the " +
				"instances).")
	case status == http.StatusNotFound || fault.PassingStatus(status):
		return fault.New(fault.Identity, "no token for %s yet (IMDS answered %d: %s)", c.id, status, text).
			Passing().
			Retry(fault.RetryAfter(answer.Header)).
			Hint("IMDS is busy or being updated; if it lasts, look at the VM's health in the portal.")
	case status >= 300:
		return fault.New(fault.Identity, "no token for %s (IMDS answered %d: %s)", c.id, status, text).
			Hint("Something else than Azure's metadata service may answer at %s.", c.host)
	case status == http.StatusOK && !errors.Is(err, fault.ErrTooLarge):
		e := fault.New(fault.Identity, "no token for %s: IMDS answered something that is not a token", c.id).
			Hint("Something else than Azure's metadata service may answer at %s.", c.host)
		if strings.HasPrefix(answer.Header.Get("Content-Type"), "application/json") {
			return e.Passing() // cut short
		}
		return e
	}
	return fault.Connection(fault.Identity, "no token for "+c.id.String(), c.host, err)
}
