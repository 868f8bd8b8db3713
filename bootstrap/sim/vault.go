package sim

import (
	"cmp"
	"crypto/rand"
	"fmt"
	"maps"
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

// SetSecret makes a new version of a secret. With rotate the PAT that the old version holds is revoked,
// and the new value is one with the same rights.
func (s *Sim) SetSecret(host, name, value string, expires time.Time, disabled, rotate bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.scenario.Vaults, func(v Vault) bool { return host == "" || v.Host == host })
	if i < 0 {
		return fmt.Errorf("there is no vault %s", host)
	}
	v := &s.scenario.Vaults[i]
	old, found := v.Secrets[name]
	if value == "" {
		value = strings.ToLower(rand.Text() + rand.Text())[:52]
	}
	if rotate {
		p := slices.IndexFunc(s.scenario.PATs, func(p PAT) bool { return found && p.Value == old.Value })
		if p < 0 {
			return fmt.Errorf("the secret %s holds no PAT of the scenario", name)
		}
		pats := slices.Clone(s.scenario.PATs) // whoever reads the former list goes on with it
		pats[p].Value = value
		s.scenario.PATs = pats
	}
	if v.Secrets = maps.Clone(v.Secrets); v.Secrets == nil {
		v.Secrets = map[string]Secret{}
	}
	v.Secrets[name] = Secret{Value: value, Expires: expires, Disabled: disabled, version: strings.ToLower(rand.Text() + rand.Text())[:32]}
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
	version := cmp.Or(secret.version, secretVersion)
	if !found || len(parts) > 2 && parts[2] != "" && parts[2] != version {
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
			"id":          "https://" + v.Host + "/secrets/" + parts[1] + "/" + version,
			"attributes":  attributes,
			"contentType": "",
			"tags":        object{},
		},
	)
}
