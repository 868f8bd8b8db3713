package sim

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"
)

// loginHost is Microsoft Entra of the public cloud.
const loginHost = "login.microsoftonline.com"

// An Application is an app registration in Microsoft Entra, with the tenants where it has a service
// principal, and whose tokens it takes for its own (federated credentials).
type Application struct {
	ClientID  string      `yaml:"clientId"`
	Home      string      `yaml:"home"`    // tenant that it is registered in; "" = that of the VMs
	Tenants   []Principal `yaml:"tenants"` // its own counts only if it is named as well
	Federated []Federated `yaml:"federated"`
}

// A Principal is what an application is in one tenant.
type Principal struct {
	ID       string `yaml:"id"`       // of the tenant
	ObjectID string `yaml:"objectId"` // of the service principal
}

// A Federated credential says whose token stands in for a secret; "" = what is right for this Azure.
type Federated struct {
	Issuer   string `yaml:"issuer"`
	Subject  string `yaml:"subject"` // object ID of the managed identity
	Audience string `yaml:"audience"`
}

// exchange is what a token must be for to be taken in place of a secret.
const exchange = "api://AzureADTokenExchange"

// issuerOf is who issues the tokens that managed identities get for a resource.
func issuerOf(resource string) string {
	if resource == exchange {
		return "https://" + loginHost + "/" + tenant + "/v2.0"
	}
	return "https://sts.windows.net/" + tenant + "/"
}

// tenants are all that this Microsoft Entra knows.
func (s *Scenario) tenants() (all []string) {
	all = []string{tenant}
	for _, a := range s.Applications {
		for _, t := range a.Tenants {
			all = append(all, t.ID)
		}
	}
	return all
}

var loginPath = regexp.MustCompile(`^/([^/]+)/(v2\.0/\.well-known/openid-configuration|oauth2/v2\.0/token)$`)

// entra answers as Microsoft Entra's v2.0 endpoints do
// (learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow, "Third case: Access token
// request with a federated credential"; reference-error-codes).
func (s *Sim) entra(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	refuse := func(status int, kind string, code int, format string, args ...any) {
		now := time.Now().UTC().Format("2006-01-02 15:04:05Z")
		trace, correlation := guid(), guid()
		reply(w, status, object{
			"error": kind,
			"error_description": fmt.Sprintf("AADSTS%d: ", code) + fmt.Sprintf(format, args...) +
				" Trace ID: " + trace + " Correlation ID: " + correlation + " Timestamp: " + now,
			"error_codes": []int{code}, "timestamp": now, "trace_id": trace, "correlation_id": correlation,
			"error_uri": fmt.Sprintf("https://%s/error?code=%d", loginHost, code),
		})
	}
	path := loginPath.FindStringSubmatch(r.URL.Path)
	if path == nil {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	at := path[1]
	if !slices.ContainsFunc(s.scenario.tenants(), func(t string) bool { return strings.EqualFold(t, at) }) {
		refuse(http.StatusBadRequest, "invalid_request", 90002, "Tenant '%s' not found. Check to make sure you have the "+
			"correct tenant ID and are signing into the correct cloud. Check with your subscription administrator, this "+
			"may happen if there are no active subscriptions for the tenant.", at)
		return
	}
	base := "https://" + loginHost + "/" + at
	if strings.HasPrefix(path[2], "v2.0/") {
		reply(w, http.StatusOK, object{
			"token_endpoint":         base + "/oauth2/v2.0/token",
			"authorization_endpoint": base + "/oauth2/v2.0/authorize",
			"issuer":                 base + "/v2.0",
			"jwks_uri":               base + "/discovery/v2.0/keys",
			"cloud_instance_name":    "microsoftonline.com",
		})
		return
	}
	if r.Method != http.MethodPost {
		refuse(http.StatusBadRequest, "invalid_request", 900561, "The endpoint only accepts POST requests. Received a %s "+
			"request.", r.Method)
		return
	}
	for _, name := range []string{"grant_type", "client_id", "scope"} {
		if r.PostFormValue(name) == "" {
			refuse(http.StatusBadRequest, "invalid_request", 900144, "The request body must contain the following "+
				"parameter: '%s'.", name)
			return
		}
	}
	clientID := r.PostFormValue("client_id")
	scope := strings.Fields(r.PostFormValue("scope"))
	scope = slices.DeleteFunc(scope, func(s string) bool { // MSAL's own, which this flow leaves aside
		return s == "openid" || s == "offline_access" || s == "profile"
	})
	app, principal := s.application(clientID, at)
	const check = "Please check your federated identity credential Subject, Audience and Issuer against the presented " +
		"assertion. https://learn.microsoft.com/entra/workload-id/workload-identity-federation"
	assertion, given := s.tokens[r.PostFormValue("client_assertion")]
	issuer := issuerOf(assertion.resource)
	federated := func(fits func(f Federated) bool) bool { return slices.ContainsFunc(app.Federated, fits) }
	switch {
	case r.PostFormValue("grant_type") != "client_credentials":
		refuse(http.StatusBadRequest, "unsupported_grant_type", 70003, "The app requested an unsupported grant type '%s'.",
			r.PostFormValue("grant_type"))
	case principal.ObjectID == "":
		refuse(http.StatusBadRequest, "unauthorized_client", 700016, "Application with identifier '%s' was not found in "+
			"the directory '%s'. This can happen if the application has not been installed by the administrator of the "+
			"tenant or consented to by any user in the tenant. You may have sent your authentication request to the "+
			"wrong tenant.", clientID, at)
	case r.PostFormValue("client_assertion") == "" ||
		r.PostFormValue("client_assertion_type") != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer":
		refuse(http.StatusUnauthorized, "invalid_client", 7000218, "The request body must contain the following "+
			"parameter: 'client_assertion' or 'client_secret'.")
	case len(scope) != 1 || !strings.HasSuffix(scope[0], "/.default"):
		refuse(http.StatusBadRequest, "invalid_scope", 1002012, "The provided value for scope %s is not valid. Client "+
			"credential flows must have a scope value with /.default suffixed to the resource identifier (application ID "+
			"URI).", strings.Join(scope, " "))
	case !given:
		refuse(http.StatusBadRequest, "invalid_request", 50027, "JWT token is invalid or malformed.")
	case assertion.expires.Before(time.Now()):
		refuse(http.StatusUnauthorized, "invalid_client", 700024, "Client assertion is not within its valid time range.")
	case !federated(func(f Federated) bool { return f.Audience == assertion.resource }):
		refuse(http.StatusUnauthorized, "invalid_client", 700212, "No matching federated identity record found for "+
			"presented assertion audience '%s'. %s", assertion.resource, check)
	case !federated(func(f Federated) bool { return f.Issuer == issuer }):
		refuse(http.StatusUnauthorized, "invalid_client", 700211, "No matching federated identity record found for "+
			"presented assertion issuer '%s'. %s", issuer, check)
	case !federated(func(f Federated) bool {
		return f.Issuer == issuer && f.Audience == assertion.resource && f.Subject == assertion.objectID
	}):
		refuse(http.StatusUnauthorized, "invalid_client", 700213, "No matching federated identity record found for "+
			"presented assertion subject '%s'. %s", assertion.objectID, check)
	case !strings.EqualFold(app.Home, tenant):
		refuse(http.StatusUnauthorized, "invalid_client", 700236, "Entra ID tokens issued by issuer '%s' may not be used "+
			"for federated identity credential flows for applications or managed identities registered in this tenant.", issuer)
	case scope[0] != devOpsResource+"/.default":
		resource := strings.TrimSuffix(scope[0], "/.default")
		refuse(http.StatusBadRequest, "invalid_resource", 500011, "The resource principal named %s was not found in the "+
			"tenant named %s. This can happen if the application has not been installed by the administrator of the tenant "+
			"or consented to by any user in the tenant. You might have sent your authentication request to the wrong "+
			"tenant.", resource, at)
	default:
		now := time.Now()
		t := jwt(object{
			"aud": devOpsResource, "iss": "https://sts.windows.net/" + at + "/", "tid": at, "oid": principal.ObjectID,
			"sub": principal.ObjectID, "appid": app.ClientID, "iat": now.Unix(), "nbf": now.Unix(),
			"exp": now.Add(time.Hour).Unix(), "uti": guid(),
		})
		s.tokens[t] = token{principal.ObjectID, devOpsResource, now.Add(time.Hour)}
		reply(w, http.StatusOK, object{"token_type": "Bearer", "expires_in": 3599, "ext_expires_in": 3599, "access_token": t})
	}
}

// application finds an application, and what it is in a tenant; zero if it is nothing there.
func (s *Sim) application(clientID, at string) (Application, Principal) {
	for _, a := range s.scenario.Applications {
		for _, p := range a.Tenants {
			if strings.EqualFold(a.ClientID, clientID) && strings.EqualFold(p.ID, at) {
				return a, p
			}
		}
	}
	return Application{}, Principal{}
}

// complete fills in what an application leaves out.
func (a *Application) complete() {
	if a.Home == "" {
		a.Home = tenant
	}
	for i := range a.Federated {
		f := &a.Federated[i]
		if f.Issuer == "" {
			f.Issuer = issuerOf(exchange)
		}
		if f.Audience == "" {
			f.Audience = exchange
		}
	}
}
