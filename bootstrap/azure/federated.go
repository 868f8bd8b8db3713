package azure

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/secret"
)

// TokenExchange is what a managed identity's token must be for to stand in for an application's secret
// (learn.microsoft.com/entra/workload-id/workload-identity-federation-config-app-trust-managed-identity).
const TokenExchange = "api://AzureADTokenExchange"

// LoginHost is Microsoft Entra of the public cloud, the only one whose tokens Azure DevOps Services takes.
const LoginHost = "login.microsoftonline.com"

// An Application is an app registration that takes the managed identity's tokens for its own, in the tenant
// of the organization.
type Application struct{ TenantID, ClientID string }

func (a Application) String() string {
	return "the application " + a.ClientID + " in the tenant " + a.TenantID
}

// Exchange lets Microsoft Entra give a token for a resource, of an application in its tenant, for an
// assertion: the token of a managed identity for TokenExchange. It is shown to LoginHost alone, whatever an
// answer says. young says that a federated credential may not have spread yet: then a refusal passes.
func (a Application) Exchange(
	ctx context.Context, client *http.Client, assertion secret.PAT, resource string, young bool,
) (secret.PAT, error) {
	login := &loginAlone{Transporter: client}
	o := options(login)
	// Whatever the environment says.
	o.Cloud = cloud.Configuration{ActiveDirectoryAuthorityHost: "https://" + LoginHost + "/"}
	c, err := azidentity.NewClientAssertionCredential(a.TenantID, a.ClientID,
		func(context.Context) (string, error) { return assertion.Reveal(), nil },
		&azidentity.ClientAssertionCredentialOptions{ClientOptions: o, DisableInstanceDiscovery: true})
	if err != nil {
		return secret.PAT{}, fault.New(fault.Config, "credential.entra").Because(err).
			Hint("Correct credential.entra.tenantId and clientId.")
	}
	var answer *http.Response
	t, err := c.GetToken(policy.WithCaptureResponse(ctx, &answer), policy.TokenRequestOptions{
		Scopes: []string{resource + "/.default"},
	})
	if err != nil {
		return secret.PAT{}, a.explain(err, login.failed, answer, young)
	}
	pat, err := secret.NewPAT(t.Token)
	if err != nil {
		return secret.PAT{}, fault.New(fault.Identity, "what %s gave as the token of %s is none: %s", LoginHost, a, err).
			Hint("%s", notEntra)
	}
	return pat, nil
}

const notEntra = "Something else than Microsoft Entra may answer as " + LoginHost + ": check DNS, the proxy and " +
	"network.caFile."

// loginAlone asks nobody but LoginHost: where to ask for tokens is an answer's word to the SDK, which keeps
// of an error no more than its text.
type loginAlone struct {
	policy.Transporter
	failed error // the last request
}

func (l *loginAlone) Do(r *http.Request) (res *http.Response, err error) {
	if r.URL.Scheme != "https" || r.URL.Host != LoginHost {
		err = fault.New(fault.Identity, "%s names another host for tokens, which is not asked: %s", LoginHost,
			snippet([]byte(r.URL.Host))).Hint("%s", notEntra)
	} else {
		res, err = l.Transporter.Do(r)
	}
	l.failed = err
	return res, err
}

var aadsts = regexp.MustCompile(`AADSTS[0-9]+`)

// explain reads Microsoft Entra's error codes
// (learn.microsoft.com/entra/identity-platform/reference-error-codes, workload-identity-federation).
func (a Application) explain(err, unanswered error, answer *http.Response, young bool) error {
	var own *fault.Error
	if errors.As(unanswered, &own) {
		return own
	}
	var failed *azidentity.AuthenticationFailedError
	if errors.As(err, &failed) && failed.RawResponse != nil {
		answer = failed.RawResponse
	}
	var uerr *url.Error
	if errors.As(unanswered, &uerr) {
		unanswered = uerr.Err
	}
	if unanswered == nil && answer == nil {
		unanswered = err
	}
	if unanswered != nil {
		return fault.Connection(fault.Identity, "a token for "+a.String(), LoginHost, unanswered)
	}
	text := ""
	if body, e := runtime.Payload(answer); e == nil {
		text = words(body)
	}
	code := aadsts.FindString(text)
	new := func(what string) *fault.Error {
		return fault.New(fault.Identity, "%s (%s answered %d: %s)", what, LoginHost, answer.StatusCode, text)
	}
	switch {
	case fault.PassingStatus(answer.StatusCode), code == "AADSTS90033", code == "AADSTS50196":
		return new("Microsoft Entra gives no token for " + a.String() + " now").Passing().
			Retry(fault.RetryAfter(answer.Header)).
			Hint("It is throttling or has a fault; it is asked again by itself.")
	case code == "AADSTS90002", code == "AADSTS900023", code == "AADSTS900021":
		return new("there is no tenant " + a.TenantID).
			Hint("Correct credential.entra.tenantId: the ID of the Microsoft Entra tenant that the organization is connected to " +
				"(Organization settings, Microsoft Entra).")
	case code == "AADSTS700016":
		return new("the tenant "+a.TenantID+" does not know the application "+a.ClientID).
			Hint("Correct credential.entra.clientId; or let an administrator of that tenant admit the application: "+
				"https://%s/%s/adminconsent?client_id=%s, or az ad sp create --id %s there. Its registration must allow "+
				"accounts in any organizational directory.", LoginHost, a.TenantID, a.ClientID, a.ClientID)
	case code == "AADSTS700212", code == "AADSTS7002121":
		return new("the federated credential of "+a.String()+" is for another audience").
			Hint("Set its audience to %s (az ad app federated-credential update).", TokenExchange)
	case strings.HasPrefix(code, "AADSTS70021"):
		e := new(a.String()+" has no federated credential for this VM's managed identity").
			Hint("Add one to the app registration (Certificates & secrets, Federated credentials, Managed identity): issuer "+
				"https://%s/TENANT_OF_THE_VM/v2.0, subject the identity's object ID (az identity show --query principalId), "+
				"audience %s. Compare them with the words above, letter by letter. A new one takes minutes to spread.",
				LoginHost, TokenExchange)
		if young {
			return e.Passing()
		}
		return e
	case code == "AADSTS700222", code == "AADSTS700226", code == "AADSTS700227", code == "AADSTS700236":
		return new("Microsoft Entra takes no token of this VM's managed identity for " + a.String()).
			Hint("The application must be registered in the tenant of the VM's managed identity, for accounts in any " +
				"organizational directory, and the identity must be a user-assigned one: name it in credential.identity.")
	case code == "AADSTS500011":
		return new("the tenant " + a.TenantID + " does not know Azure DevOps").
			Hint("Correct credential.entra.tenantId: the tenant that the organization is connected to.")
	case code != "":
		return new("Microsoft Entra gives no token for "+a.String()).
			Hint("Look the code up: https://%s/error?code=%s", LoginHost, strings.TrimPrefix(code, "AADSTS"))
	}
	return new("no token for "+a.String()).Hint("%s", notEntra)
}

// words are what an answer of Microsoft Entra's says, without what tells one answer from the next.
func words(body []byte) string {
	text := snippet(body)
	if m := description.FindStringSubmatch(string(body[:min(len(body), 8<<10)])); m != nil {
		text = strings.NewReplacer(`\r\n`, " ", `\n`, " ", `\/`, "/", `\"`, `"`).Replace(m[1])
	}
	text, _, _ = strings.Cut(text, " Trace ID: ")
	if len(text) > 600 {
		text = strings.ToValidUTF8(text[:600], "") + "…"
	}
	return strings.Join(strings.Fields(text), " ")
}

var description = regexp.MustCompile(`"error_description"\s*:\s*"((?:[^"\\]|\\.)*)"`)
