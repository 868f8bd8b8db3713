package sim

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"strings"
	"time"
)

// oauth gives an agent a token of its own for an assertion signed with the key it registered.
func (s *Sim) oauth(w http.ResponseWriter, r *http.Request) {
	bad := func(description string) {
		reply(w, http.StatusBadRequest, object{"error": "invalid_client", "error_description": description})
	}
	parts := strings.Split(r.FormValue("client_assertion"), ".")
	if len(parts) != 3 {
		bad("The assertion is not a JWT.")
		return
	}
	var claims struct {
		Issuer    string `json:"iss"`
		Subject   string `json:"sub"`
		Audience  string `json:"aud"`
		NotBefore int64  `json:"nbf"`
		Expires   int64  `json:"exp"`
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err == nil {
		err = json.Unmarshal(payload, &claims)
	}
	signature, err2 := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil || err2 != nil {
		bad("The assertion is not a JWT.")
		return
	}
	now := time.Now()
	switch {
	case now.Before(time.Unix(claims.NotBefore, 0).Add(-5 * time.Minute)):
		bad(
			fmt.Sprintf(
				"The bearer token is not valid until %s. Current server time is %s.",
				time.Unix(claims.NotBefore, 0).UTC(),
				now.UTC(),
			),
		)
		return
	case now.After(time.Unix(claims.Expires, 0)):
		bad(
			fmt.Sprintf(
				"The bearer token expired on %s. Current server time is %s.",
				time.Unix(claims.Expires, 0).UTC(),
				now.UTC(),
			),
		)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range s.servers {
		for _, p := range v.pools {
			for _, a := range p.agents {
				if a.clientID != claims.Subject {
					continue
				}
				key, err := a.key.rsa()
				if err != nil {
					bad("The registered key is not valid.")
					return
				}
				if claims.Issuer != a.clientID || claims.Audience != a.audience {
					bad("The issuer or the audience is not that of the client " + a.clientID + ".")
					return
				}
				sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
				if rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], signature) != nil {
					bad("The signature is not that of the registered key.")
					return
				}
				t := b64([]byte("agent " + a.clientID + " " + guid()))
				s.agentTokens[t] = a
				reply(
					w,
					http.StatusOK,
					object{
						"access_token": t,
						"token_type":   "urn:ietf:params:oauth:token-type:jwt-bearer",
						"expires_in":   "3000",
					},
				)
				return
			}
		}
	}
	bad("The client " + claims.Subject + " is not known: the agent was removed.")
}

// rsa is the key, understood.
func (k publicKey) rsa() (*rsa.PublicKey, error) {
	n, err := base64.StdEncoding.DecodeString(k.Modulus)
	if err != nil {
		return nil, err
	}
	e, err := base64.StdEncoding.DecodeString(k.Exponent)
	return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}, err
}

// agentOf finds the agent of a token of its own. A token is good until it ends, whatever has become
// of the agent meanwhile: a removed one keeps it, without a session, and gets no other.
func (s *Sim) agentOf(token string) *agent {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.agentTokens[token]
}
