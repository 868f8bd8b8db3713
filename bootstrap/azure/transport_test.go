package azure

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"azp-bootstrap/bootstrap/fault"
)

// trusting is a way out that trusts a test's server.
func trusting(t *testing.T, s *httptest.Server) Network {
	t.Helper()
	file := filepath.Join(t.TempDir(), "ca.pem")
	data := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return Network{CAFile: file}
}

// What is older than TLS 1.2 is spoken by nobody whom a PAT may be shown to.
func TestTLSThatIsTooOld(t *testing.T) {
	for newest, taken := range map[uint16]bool{tls.VersionTLS10: false, tls.VersionTLS11: false,
		tls.VersionTLS12: true, tls.VersionTLS13: true} {
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		s.Config.ErrorLog = nil
		s.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: newest} //nolint:gosec // on purpose
		s.StartTLS()
		n := trusting(t, s)
		clients := []func() (*http.Client, error){n.Client, n.Downloader}
		for _, made := range clients {
			c, err := made()
			if err != nil {
				t.Fatal(err)
			}
			res, err := c.Get(s.URL)
			if err == nil {
				_ = res.Body.Close()
			}
			if (err == nil) != taken {
				t.Errorf("%s: %v", tls.VersionName(newest), err)
			}
			c.CloseIdleConnections()
		}
		s.Close()
	}
}

// Who holds a credential follows no redirect; a download follows one to https alone.
func TestRedirects(t *testing.T) {
	asked := map[string]int{}
	plain := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked["http"]++ }))
	defer plain.Close()
	var s *httptest.Server
	s = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked[r.URL.Path]++
		switch r.URL.Path {
		case "/to-https":
			http.Redirect(w, r, s.URL+"/there", http.StatusFound)
		case "/to-http":
			http.Redirect(w, r, plain.URL, http.StatusFound)
		case "/for-ever":
			http.Redirect(w, r, s.URL+"/for-ever", http.StatusFound)
		}
	}))
	defer s.Close()
	n := trusting(t, s)
	get := func(made func() (*http.Client, error), path string) int {
		t.Helper()
		c, err := made()
		if err != nil {
			t.Fatal(err)
		}
		defer c.CloseIdleConnections()
		res, err := c.Get(s.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		return res.StatusCode
	}
	for _, path := range []string{"/to-https", "/to-http"} {
		if status := get(n.Client, path); status != http.StatusFound {
			t.Errorf("%s: %d", path, status)
		}
	}
	if asked["/there"] > 0 || asked["http"] > 0 {
		t.Errorf("a credential follows a redirect: %v", asked)
	}
	if status := get(n.Downloader, "/to-https"); status != http.StatusOK || asked["/there"] != 1 {
		t.Errorf("a download follows none: %d, %v", status, asked)
	}
	if status := get(n.Downloader, "/to-http"); status != http.StatusFound || asked["http"] > 0 {
		t.Errorf("a download goes on without TLS: %d, %v", status, asked)
	}
	if status := get(n.Downloader, "/for-ever"); status != http.StatusFound || asked["/for-ever"] > 10 {
		t.Errorf("a download goes round: %d, %v", status, asked)
	}
}

// later is a network on which every answer comes after a time.
func later(after time.Duration, status, body string) Dial {
	return func(context.Context, string, string) (net.Conn, error) {
		here, there := net.Pipe()
		go func() {
			defer there.Close() //nolint:errcheck // a test's
			r, err := http.ReadRequest(bufio.NewReader(there))
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, r.Body)
			time.Sleep(after)
			_, _ = fmt.Fprintf(
				there,
				"HTTP/1.1 %s\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s",
				status,
				len(body),
				body,
			)
		}()
		return here, nil
	}
}

// Azure DevOps delays a heavy user by up to 30 s; what takes minutes is no answer. Lists of
// thousands of agents may.
func TestADelayedAnswerIsWaitedFor(t *testing.T) {
	for _, c := range []struct {
		after time.Duration
		large bool
		had   bool
	}{{35 * time.Second, false, true}, {2 * time.Minute, false, false}, {2 * time.Minute, true, true},
		{10 * time.Minute, true, false}} {
		synctest.Test(t, func(t *testing.T) {
			client, err := Network{Dial: later(c.after, "200 OK", "{}"), Large: c.large}.Client()
			if err != nil {
				t.Fatal(err)
			}
			res, err := client.Get("http://devops.corp/")
			if err == nil {
				_ = res.Body.Close()
			}
			if (err == nil) != c.had {
				t.Errorf("an answer after %s: %v", c.after, err)
			}
			time.Sleep(c.after) // the answer finds nobody any more
		})
	}
}

// The first question of a VM's life switches scheduled events on: its answer takes up to two
// minutes. Nothing else takes so long.
func TestTheFirstEventsTakeTwoMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := NewIMDS(
			"",
			later(
				2*time.Minute,
				"200 OK",
				`{"DocumentIncarnation":3,"Events":[{"EventId":"1","EventType":"Terminate","Resources":["web_1"]}]}`,
			),
		)
		if n, events, err := i.Events(
			t.Context(),
		); err != nil || n != 3 || len(events) != 1 || !events[0].Concerns("WEB_1") || events[0].Concerns("web_") ||
			events[0].Concerns("web_10") {
			t.Errorf("%d, %+v, %v", n, events, err)
		}
		begin := time.Now()
		if _, err := i.Instance(t.Context()); err == nil || time.Since(begin) > time.Minute {
			t.Errorf("after %s: %v", time.Since(begin), err)
		}
		time.Sleep(2 * time.Minute)
	})
}

// Only 200 says that the platform has heard it.
func TestAcknowledge(t *testing.T) {
	for status, heard := range map[int]bool{200: true, 202: false, 302: false, 400: false, 404: false, 429: false,
		500: false} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			if r.Method != http.MethodPost || r.Header.Get("Metadata") != "true" ||
				string(body) != `{"StartRequests":[{"EventId":"E-1"}]}` {
				t.Errorf("%s %s", r.Method, body)
			}
			w.WriteHeader(status)
		}))
		err := NewIMDS(s.URL, nil).Acknowledge(t.Context(), "E-1")
		s.Close()
		if (err == nil) != heard ||
			err != nil && (fault.From(err).Class != fault.IMDS || fault.From(err).Advice == "") {
			t.Errorf("%d: %v", status, err)
		}
	}
}

// The SDK would show a token again for a day that a vault has rejected meanwhile.
func TestEachTokenIsAskedFor(t *testing.T) {
	var asked []string
	imds := metadata(t, &asked)
	for range 2 {
		if _, err := AccessToken(t.Context(), imds, Identity{}, "https://vault.azure.net"); err != nil {
			t.Fatal(err)
		}
	}
	if len(asked) != 2 {
		t.Errorf("IMDS was asked for %v", asked)
	}
}

// An instance ID is compared, and goes into files of one line: it has one form, whoever shows it.
func TestAnInstanceIDHasOneForm(t *testing.T) {
	for given, want := range map[string]string{
		"5C7A1B1E-0001-4D3A-9A00-00000000000A": "5c7a1b1e-0001-4d3a-9a00-00000000000a", "5c7a1b1e": "5c7a1b1e",
		"": "", "a b": "", `a\nb`: "", "../../etc/x": "", "a/b": "", strings.Repeat("a", longestVMID+1): "",
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = fmt.Fprintf(w, `{"compute":{"vmId":"%s","name":"web_1"}}`, given)
		}))
		v, err := NewIMDS(s.URL, nil).Instance(t.Context())
		s.Close()
		if v.VMID != want || (err == nil) != (want != "") {
			t.Errorf("%q became %q, %v", given, v.VMID, err)
		}
	}
}

// A VM may have several identities, with different rights: the configured one is asked for, and no
// other.
func TestTheIdentityIsNamed(t *testing.T) {
	for _, c := range []struct {
		id          Identity
		name, value string
	}{
		{Identity{}, "", ""}, {Identity{ClientID: "c"}, "client_id", "c"}, {Identity{ObjectID: "o"}, "object_id", "o"},
		{Identity{ResourceID: "/subscriptions/r"}, "msi_res_id", "/subscriptions/r"},
	} {
		asked := 0
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked++
			for _, name := range []string{"client_id", "object_id", "msi_res_id"} {
				if got := r.URL.Query().
					Get(name); (name == c.name) != (got != "") ||
					name == c.name && got != c.value {
					t.Errorf("%s: %s is %q", c.id, name, got)
				}
			}
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"access_token":"x","expires_in":"3600","resource":"r","token_type":"Bearer"}`)
		}))
		_, err := AccessToken(t.Context(), NewIMDS(s.URL, nil), c.id, "r")
		s.Close()
		if err != nil || asked != 1 {
			t.Errorf("%s: asked %d times, %v", c.id, asked, err)
		}
	}
}

// A file that holds no certificate would leave the VM with the system's alone, and nobody would
// know why it trusts too little.
func TestCAFilesAreRead(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ca.der")
	if err := os.WriteFile(file, []byte{0x30, 0x82}, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{file, file + ".missing"} {
		_, err := Network{CAFile: name}.Client()
		if f := fault.From(
			err,
		); err == nil || f.Class != fault.Config || f.Advice == "" ||
			!strings.Contains(f.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What people have of their authority is taken, and each reader of the bundle gets the same: one block a
// certificate. What is none is called what it is.
func TestAuthoritiesAsPeopleHaveThem(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var blocks, trusted string
	var der [][]byte
	for i := range 2 {
		c := &x509.Certificate{SerialNumber: big.NewInt(int64(i + 1)), NotAfter: time.Now().Add(time.Hour), IsCA: true}
		raw, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
		if err != nil {
			t.Fatal(err)
		}
		der = append(der, raw)
		blocks += string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}))
		uses := []byte{0x30, 0x0c, 0x30, 0x0a, 0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01} // X509_CERT_AUX
		trusted += string(pem.EncodeToMemory(&pem.Block{Type: "TRUSTED CERTIFICATE", Bytes: append(slices.Clone(raw), uses...)}))
	}
	both := strings.Count(blocks, "BEGIN CERTIFICATE")
	secretKey, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		text string
		want int
		says string
	}{
		"as it should be":      {blocks, both, ""},
		"text between":         {"# ours\nsubject=CN\n" + blocks, both, ""},
		"a byte order mark":    {"\xef\xbb\xbf" + blocks, both, ""},
		"Windows' lines":       {strings.ReplaceAll(blocks, "\n", "\r\n"), both, ""},
		"without a last line":  {strings.TrimSpace(blocks), both, ""},
		"glued together":       {strings.ReplaceAll(blocks, "-----\n-----", "----------"), both, ""},
		"OpenSSL's trusted":    {trusted, both, ""},
		"an X509 CERTIFICATE":  {strings.ReplaceAll(blocks, " CERTIFICATE", " X509 CERTIFICATE"), both, ""},
		"DER":                  {string(der[0]), 1, ""},
		"DER, both":            {string(der[0]) + string(der[1]), 2, ""},
		"DER and a line end":   {string(der[0]) + "\n", 1, ""},
		"two files with marks": {"\xef\xbb\xbf" + strings.Replace(blocks, "-----\n-----", "-----\n\xef\xbb\xbf-----", 1), both, ""},
		"glued by a space":     {strings.ReplaceAll(blocks, "-----\n-----", "----- -----"), both, ""},
		"indented":             {"  " + strings.ReplaceAll(blocks, "\n", "\n  "), both, ""},
		"an old Mac's lines":   {strings.ReplaceAll(blocks, "\n", "\r"), both, ""},
		"comments behind":      {strings.ReplaceAll(blocks, "CERTIFICATE-----\n", "CERTIFICATE----- # ours\n"), both, ""},
		"a key in its place":   {blocks + string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secretKey})), both, ""},
		"a key alone":          {string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secretKey})), 0, "no certificate"},
		"empty":                {" \n", 0, "empty"},
		"a key":                {string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte{1}})), 0, "PRIVATE KEY"},
		"PKCS 7":               {string(pem.EncodeToMemory(&pem.Block{Type: "PKCS7", Bytes: []byte{1}})), 0, "openssl pkcs7"},
		"PKCS 7, binary":       {"0\x82\x01\x01\x06", 0, "openssl pkcs7 -inform der"},
		"UTF-16":               {"\xff\xfe-\x00-\x00", 0, "UTF-16"},
		"a page of the portal": {"<html>", 0, "BEGIN CERTIFICATE"},
		"no certificate in it": {string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{1}})), 0, "no certificate"},
	} {
		file := filepath.Join(t.TempDir(), "ca")
		if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		n := Network{CAFile: file}
		all, err := n.Authorities()
		if c.want == 0 {
			if f := fault.From(err); err == nil || f.Class != fault.Config || !strings.Contains(f.Error(), c.says) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		var got [][]byte
		for b, rest := pem.Decode(all); b != nil; b, rest = pem.Decode(rest) {
			got = append(got, b.Bytes)
		}
		if err != nil || !slices.EqualFunc(got, der[:c.want], bytes.Equal) {
			t.Errorf("%s: %d certificates, not the %d of the file alone: %v", name, len(got), c.want, err)
		}
		if _, err := n.Client(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
