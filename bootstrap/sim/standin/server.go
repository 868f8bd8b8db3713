package standin

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"time"
)

type object = map[string]any

const mark = "\xef\xbb\xbf" // .NET begins its files with a byte order mark

// A connection to a server, with the PAT or the agent's own token.
type connection struct {
	client *http.Client
	auth   string // header
}

// newClient goes through the proxy of .proxy but for .proxybypass.
func newClient() *http.Client {
	proxy := strings.TrimSpace(firstLine(".proxy"))
	bypass := strings.Split(fileText(".proxybypass"), "\n")
	t := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots()}, Proxy: func(r *http.Request) (*url.URL, error) {
		if proxy == "" {
			return nil, nil
		}
		if bypassed(r.URL, bypass) {
			return nil, nil
		}
		u, err := url.Parse(proxy)
		if key := firstLine(".proxycredentials"); key != "" && err == nil {
			u.User, err = storedProxy(key)
		}
		return u, err
	}}
	return &http.Client{Transport: t, Timeout: 60 * time.Second}
}

// bypassed decides as VstsAgentWebProxy.cs does (IsBypassed, IsMatchInBypassList): expressions without
// anchors over scheme://host[:port if not the scheme's].
func bypassed(u *url.URL, bypass []string) bool {
	host := u.Hostname()
	if ip := net.ParseIP(host); host == "localhost" || ip != nil && ip.IsLoopback() {
		return true
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	shown := u.Scheme + "://" + host
	if port := u.Port(); port != "" && port != map[string]string{"http": "80", "https": "443"}[u.Scheme] {
		shown += ":" + port
	}
	for _, b := range bypass {
		if b = strings.TrimSpace(b); b == "" {
			continue
		}
		if m, err := regexp.MatchString("(?i)"+b, shown); err == nil && m {
			return true
		}
	}
	return false
}

// An answer that is not success.
type answer struct {
	status  int
	key     string // typeKey
	message string
}

func (a *answer) Error() string { return a.message }

func (c connection) call(ctx context.Context, method, address, version string, body, into any) error {
	var r io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return err
		}
		r = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, address, r)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", c.auth)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json; api-version="+version)
	req.Header.Set("User-Agent", "VSServices/19 (NetStandard) vstsagentcore-linux-x64/"+Version)
	res, err := c.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close() //nolint:errcheck // only read
	data, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	switch {
	case res.StatusCode == http.StatusUnauthorized || res.StatusCode == http.StatusNonAuthoritativeInfo:
		return &answer{
			res.StatusCode,
			"",
			"VS30063: You are not authorized to access " + req.URL.Scheme + "://" + req.URL.Host + ".",
		}
	case res.StatusCode >= 300:
		var e struct{ TypeKey, Message string }
		if json.Unmarshal(data, &e) != nil || e.Message == "" {
			e.Message = "VS30063: the server answered " + res.Status
		}
		return &answer{res.StatusCode, e.TypeKey, e.Message}
	case into != nil && res.StatusCode == http.StatusOK:
		return json.Unmarshal(data, into)
	}
	return nil
}

// socketError is what .NET calls a SocketException.
func socketError(err error) bool {
	var op *net.OpError
	var dns *net.DNSError
	var a *answer
	return !errors.As(err, &a) && (errors.As(err, &op) || errors.As(err, &dns) || errors.Is(err, io.EOF))
}

// ownToken exchanges an assertion signed with the agent's key for a token.
func ownToken(client *http.Client) (string, error) {
	c, err := readCredentials()
	if err != nil {
		return "", err
	}
	if c.Scheme != "OAuth" {
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(":"+c.Data["token"])), nil
	}
	key, err := loadKey(false)
	if err != nil {
		return "", err
	}
	part := func(v any) string {
		b, _ := json.Marshal(v)
		return base64.RawURLEncoding.EncodeToString(b)
	}
	now := time.Now().Unix()
	unsigned := part(
		object{"alg": "RS256", "typ": "JWT"},
	) + "." + part(
		object{
			"iss": c.Data["clientId"],
			"sub": c.Data["clientId"],
			"aud": c.Data["authorizationUrl"],
			"nbf": now,
			"exp": now + 300,
		},
	)
	sum := sha256.Sum256([]byte(unsigned))
	sig, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	if err != nil {
		return "", err
	}
	res, err := client.PostForm(c.Data["oauthEndpointUrl"], url.Values{
		"grant_type": {"client_credentials"},
		"client_assertion_type": {
			"urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
		},
		"client_assertion": {unsigned + "." + base64.RawURLEncoding.EncodeToString(sig)},
	})
	if err != nil {
		return "", err
	}
	defer res.Body.Close() //nolint:errcheck // only read
	var t struct {
		AccessToken string `json:"access_token"`
		Description string `json:"error_description"`
	}
	if err := json.NewDecoder(res.Body).Decode(&t); err != nil {
		return "", fmt.Errorf("the token service answered %s", res.Status)
	}
	if res.StatusCode != http.StatusOK {
		return "", &answer{res.StatusCode, "", "invalid_client: " + t.Description}
	}
	return "Bearer " + t.AccessToken, nil
}

func fileText(name string) string {
	b, _ := os.ReadFile(name) //nolint:gosec // of this folder
	return string(b)
}

func firstLine(name string) string { return strings.SplitN(fileText(name), "\n", 2)[0] }
