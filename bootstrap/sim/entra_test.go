package sim

import (
	"encoding/json"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

// Microsoft Entra gives a token for a federated credential that fits in all, and for nothing less.
func TestEntra(t *testing.T) {
	const in, app, subject = "33333333-4444-4555-8666-777777777777", "88888888-9999-4aaa-8bbb-cccccccccccc", "bbbbbbbb-0000-4000-8000-000000000001"
	w := newWorld(t)
	w.apply(`
applications:
  - clientId: ` + app + `
    tenants: [{id: ` + in + `, objectId: dddddddd-0000-4000-8000-000000000001}]
    federated: [{subject: ` + subject + `}]
`)
	w.sim.tokens["good"] = token{subject, exchange, time.Now().Add(time.Hour)}
	w.sim.tokens["late"] = token{subject, exchange, time.Now().Add(-time.Hour)}
	w.sim.tokens["vault"] = token{subject, "https://vault.azure.net", time.Now().Add(time.Hour)}
	w.sim.tokens["other"] = token{"bbbbbbbb-0000-4000-8000-000000000002", exchange, time.Now().Add(time.Hour)}
	ask := func(method, path string, form url.Values) (status int, body map[string]any) {
		r := httptest.NewRequest(method, "https://"+loginHost+path, strings.NewReader(form.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		rec := httptest.NewRecorder()
		w.sim.front(rec, r)
		_ = json.Unmarshal(rec.Body.Bytes(), &body)
		return rec.Code, body
	}
	const path = "/" + in + "/oauth2/v2.0/token"
	for name, c := range map[string]struct {
		path    string
		changes []string // of the request: name, value; "" = left out
		method  string
		status  int
		says    string
	}{
		"it fits":                  {status: 200},
		"another method":           {method: "GET", status: 400, says: "AADSTS900561"},
		"no grant":                 {changes: []string{"grant_type", ""}, status: 400, says: "AADSTS900144: The request body must contain the following parameter: 'grant_type'"},
		"another grant":            {changes: []string{"grant_type", "password"}, status: 400, says: "AADSTS70003"},
		"no scope":                 {changes: []string{"scope", ""}, status: 400, says: "'scope'"},
		"a scope of the old kind":  {changes: []string{"scope", devOpsResource}, status: 400, says: "AADSTS1002012"},
		"another resource":         {changes: []string{"scope", "https://vault.azure.net/.default"}, status: 400, says: "AADSTS500011"},
		"no assertion":             {changes: []string{"client_assertion", ""}, status: 401, says: "AADSTS7000218"},
		"no type":                  {changes: []string{"client_assertion_type", ""}, status: 401, says: "AADSTS7000218"},
		"another type":             {changes: []string{"client_assertion_type", "saml"}, status: 401, says: "AADSTS7000218"},
		"no token":                 {changes: []string{"client_assertion", "a.b.c"}, status: 400, says: "AADSTS50027"},
		"a token that has ended":   {changes: []string{"client_assertion", "late"}, status: 401, says: "AADSTS700024"},
		"a token for the vault":    {changes: []string{"client_assertion", "vault"}, status: 401, says: "AADSTS700212: No matching federated identity record found for presented assertion audience 'https://vault.azure.net'"},
		"another identity's token": {changes: []string{"client_assertion", "other"}, status: 401, says: "AADSTS700213"},
		"another application":      {changes: []string{"client_id", "00000000-9999-4aaa-8bbb-cccccccccccc"}, status: 400, says: "AADSTS700016: Application with identifier '00000000"},
		"a tenant of nobody":       {path: "/00000000-4444-4555-8666-777777777777/oauth2/v2.0/token", status: 400, says: "AADSTS90002"},
		"the VMs' own tenant":      {path: "/" + tenant + "/oauth2/v2.0/token", status: 400, says: "AADSTS700016"},
		"another path":             {path: "/" + in + "/oauth2/token", status: 404},
	} {
		form := url.Values{
			"grant_type": {"client_credentials"}, "client_id": {app}, "scope": {devOpsResource + "/.default"},
			"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}, "client_assertion": {"good"},
		}
		for i := 0; i+1 < len(c.changes); i += 2 {
			if form.Set(c.changes[i], c.changes[i+1]); c.changes[i+1] == "" {
				form.Del(c.changes[i])
			}
		}
		at, method := c.path, c.method
		if at == "" {
			at = path
		}
		if method == "" {
			method = "POST"
		}
		status, body := ask(method, at, form)
		description, _ := body["error_description"].(string)
		if status != c.status || !strings.Contains(description, c.says) {
			t.Errorf("%s: %d %v", name, status, body)
		}
		if given, _ := body["access_token"].(string); (given != "") != (c.status == 200) {
			t.Errorf("%s: a token %v", name, given != "")
		}
	}
	if status, body := ask("GET", "/"+in+"/v2.0/.well-known/openid-configuration", nil); status != 200 || body["token_endpoint"] != "https://"+loginHost+path {
		t.Errorf("%d %v", status, body)
	}
}
