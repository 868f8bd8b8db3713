package sim

import (
	"net/http"
	"slices"
	"strings"
	"time"
)

func (s *Sim) vault(host string) *Vault {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.scenario.Vaults {
		if s.scenario.Vaults[i].Host == host {
			v := s.scenario.Vaults[i]
			return &v
		}
	}
	return nil
}

const secretVersion = "0123456789abcdef0123456789abcdef"

func (s *Sim) answerVault(v Vault, w http.ResponseWriter, r *http.Request) {
	deny := func(status int, code, inner, message string) {
		e := object{"code": code, "message": message}
		if inner != "" {
			e["innererror"] = object{"code": inner}
		}
		reply(w, status, object{"error": e})
	}
	domain := v.Host[strings.Index(v.Host, ".")+1:]
	bearer, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	s.mu.Lock()
	t, known := s.tokens[bearer]
	s.mu.Unlock()
	if !ok || !known || t.expires.Before(time.Now()) {
		challenge := v.Challenge
		if challenge == "" {
			challenge = `Bearer authorization="https://login.microsoftonline.com/` + tenant + `", resource="https://` + domain + `"`
		}
		w.Header().Set("WWW-Authenticate", challenge)
		message := "AKV10000: Request is missing a Bearer or PoP token."
		if ok {
			message = "AKV10022: Invalid audience or unknown token."
		}
		deny(http.StatusUnauthorized, "Unauthorized", "", message)
		return
	}
	if t.resource != "https://"+domain {
		deny(
			http.StatusUnauthorized,
			"Unauthorized",
			"",
			"AKV10022: Invalid audience. Expected https://"+domain+", found: "+t.resource+".",
		)
		return
	}
	if v.Firewall == "deny" {
		deny(
			http.StatusForbidden,
			"Forbidden",
			"ForbiddenByFirewall",
			"Client address is not authorized and caller is not a trusted service.",
		)
		return
	}
	if !slices.Contains(v.Readers, t.objectID) {
		deny(
			http.StatusForbidden,
			"Forbidden",
			"ForbiddenByRbac",
			"Caller is not authorized to perform action on resource.\r\nIf role assignments, deny assignments or "+
				"role definitions were changed recently, please observe propagation time.\r\nCaller: oid="+t.objectID+"\r\nAction: 'Microsoft.KeyVault/vaults/secrets/getSecret/action'",
		)
		return
	}
	if r.URL.Query().Get("api-version") == "" {
		deny(http.StatusBadRequest, "BadParameter", "", "AKV10001: api-version must be specified")
		return
	}
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	if len(parts) < 2 || parts[0] != "secrets" || r.Method != http.MethodGet {
		deny(http.StatusNotFound, "NotFound", "", "not found")
		return
	}
	secret, found := v.Secrets[parts[1]]
	if !found || len(parts) > 2 && parts[2] != "" && parts[2] != secretVersion {
		deny(
			http.StatusNotFound,
			"SecretNotFound",
			"",
			"A secret with (name/id) "+strings.Join(
				parts[1:],
				"/",
			)+" was not found in this key vault. If you recently deleted this secret you may be able to recover it "+
				"using the correct recovery command.",
		)
		return
	}
	if secret.Disabled {
		deny(http.StatusForbidden, "Forbidden", "SecretDisabled", "Operation get is not allowed on a disabled secret.")
		return
	}
	attributes := object{
		"enabled":       true,
		"created":       1700000000,
		"updated":       1700000000,
		"recoveryLevel": "Recoverable+Purgeable",
	}
	if !secret.Expires.IsZero() {
		attributes["exp"] = secret.Expires.Unix()
	}
	if !secret.NotBefore.IsZero() {
		attributes["nbf"] = secret.NotBefore.Unix()
	}
	reply(
		w,
		http.StatusOK,
		object{
			"value":       secret.Value,
			"id":          "https://" + v.Host + "/secrets/" + parts[1] + "/" + secretVersion,
			"attributes":  attributes,
			"contentType": "",
			"tags":        object{},
		},
	)
}
