package standin

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // what the agent uses
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// here is a folder with the files of an environment's agent, as config.sh leaves them.
func here(t *testing.T) {
	t.Helper()
	t.Chdir(t.TempDir())
	root, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := loadKey(true); err != nil {
		t.Fatal(err)
	}
	for name, v := range map[string]any{
		".agent": object{
			"acceptTeeEula": true, "agentId": 7, "agentName": "web-1", "poolId": 3, "serverUrl": "https://dev.azure.com/contoso", "workFolder": "_work",
			"projectId": "p", "projectName": "Shop", "environmentId": 2, "environmentName": "production", "environmentVMResourceId": 71,
		},
		".credentials": object{"scheme": "OAuth", "data": object{
			"clientId": "c", "authorizationUrl": "https://vstoken", "oauthEndpointUrl": "https://vstoken"}},
		".certificates": object{"skipServerCertValidation": false, "caCert": filepath.Join(root, "ca.pem")},
		"ca.pem":        "",
	} {
		if err := writeJSON(name, v); err != nil {
			t.Fatal(err)
		}
	}
	if err := storeProxy("agents", "Sesame1"); err != nil {
		t.Fatal(err)
	}
}

// read reads all that a listener reads.
func read() error {
	if _, err := readSettings(); err != nil {
		return err
	}
	if _, err := readCredentials(); err != nil {
		return err
	}
	if _, err := loadKey(false); err != nil {
		return err
	}
	if err := checkCertificates(); err != nil {
		return err
	}
	_, err := storedProxy(firstLine(".proxycredentials"))
	return err
}

func TestFilesAsConfigLeavesThem(t *testing.T) {
	here(t)
	if err := read(); err != nil {
		t.Error(err)
	}
	if u, err := storedProxy(firstLine(".proxycredentials")); err != nil || u.String() != "agents:Sesame1" {
		t.Errorf("%v, %v", u, err)
	}
}

// Each member that is missing, or that nobody knows, is refused, and so are numbers that are not of their full length.
func TestFilesAreReadStrictly(t *testing.T) {
	refused := func(t *testing.T, name string, change func(map[string]any)) {
		t.Helper()
		here(t)
		data, err := os.ReadFile(name)
		var all map[string]any
		if err == nil {
			err = json.Unmarshal(bytes.TrimPrefix(data, []byte(mark)), &all)
		}
		if err != nil {
			t.Fatal(err)
		}
		change(all)
		if err := writeJSON(name, all); err != nil {
			t.Fatal(err)
		}
		if err := read(); err == nil {
			t.Errorf("%s: it was taken", name)
		}
	}
	for name, members := range map[string]string{
		".agent":                 "acceptTeeEula agentId agentName poolId serverUrl workFolder environmentName environmentVMResourceId projectId projectName",
		".credentials":           "scheme data",
		".certificates":          "skipServerCertValidation caCert",
		".credentials_rsaparams": "ContainerName UseCng d dp dq exponent inverseQ modulus p q",
	} {
		for _, member := range strings.Fields(members) {
			t.Run(name+" without "+member, func(t *testing.T) {
				refused(t, name, func(all map[string]any) { delete(all, member) })
			})
		}
		t.Run(name+" with more", func(t *testing.T) { refused(t, name, func(all map[string]any) { all["more"] = 1 }) })
	}
	for _, member := range strings.Fields("clientId authorizationUrl oauthEndpointUrl") {
		t.Run(".credentials without "+member, func(t *testing.T) {
			refused(t, ".credentials", func(all map[string]any) { delete(all["data"].(map[string]any), member) })
		})
	}
	for _, member := range strings.Fields("d dp dq inverseQ modulus p q") {
		number := func(change func(b []byte) []byte) func(all map[string]any) {
			return func(all map[string]any) {
				text, _ := all[member].(string)
				b, _ := base64.StdEncoding.DecodeString(text)
				all[member] = base64.StdEncoding.EncodeToString(change(b))
			}
		}
		t.Run(member+" is short", func(t *testing.T) {
			refused(t, keyFile, number(func(b []byte) []byte { return b[1:] }))
		})
		t.Run(member+" is long", func(t *testing.T) {
			refused(t, keyFile, number(func(b []byte) []byte { return append([]byte{0}, b...) }))
		})
		t.Run(member+" is another number", func(t *testing.T) {
			refused(t, keyFile, number(func(b []byte) []byte { b[len(b)-1] ^= 2; return b }))
		})
	}
}

// A message is opened with the session's key, and that with the agent's.
func TestSealedMessages(t *testing.T) {
	here(t)
	key, err := loadKey(false)
	if err != nil {
		t.Fatal(err)
	}
	secret, iv := bytes.Repeat([]byte{7}, 32), bytes.Repeat([]byte{9}, 16)
	sealed, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, &key.PublicKey, secret, nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := encrypt(secret, iv, []byte("a job"))
	if err != nil {
		t.Fatal(err)
	}
	body := base64.StdEncoding.EncodeToString(text)
	if got, err := (sealedKey{true, sealed}).open(iv, body); got != "a job" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := (sealedKey{true, secret}).open(iv, body); err == nil {
		t.Errorf("a key that was sealed with another opens %q", got)
	}
	if err := os.Remove(keyFile); err != nil {
		t.Fatal(err)
	}
	if _, err := loadKey(true); err != nil {
		t.Fatal(err)
	}
	if got, err := (sealedKey{true, sealed}).open(iv, body); err == nil {
		t.Errorf("another agent's key opens %q", got)
	}
}
