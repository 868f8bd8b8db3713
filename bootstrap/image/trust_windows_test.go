package image

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"slices"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"

	"azp-bootstrap/bootstrap/config"
	"azp-bootstrap/bootstrap/fault"
)

// TestTrust: an authority goes into Root, one that another has signed into CA, each once; who may not is told how.
func TestTrust(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	root := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Corp"}, IsCA: true,
		BasicConstraintsValid: true, NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour)}
	between := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "Corp, web"}, IsCA: true,
		BasicConstraintsValid: true, NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour)}
	var pems []byte
	for _, c := range []*x509.Certificate{root, between, root} {
		der, err := x509.CreateCertificate(rand.Reader, c, root, &key.PublicKey, key)
		if err != nil {
			t.Fatal(err)
		}
		if c == root && root.Raw != nil {
			der = root.Raw
		}
		if c == root {
			root.Raw = der
		}
		pems = append(pems, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	stores := map[string]windows.Handle{}
	open := func(name string) (windows.Handle, error) {
		if stores[name] == 0 {
			h, err := windows.CertOpenStore(windows.CERT_STORE_PROV_MEMORY, 0, 0, 0, 0)
			if err != nil {
				return 0, err
			}
			stores[name] = h
		}
		// The caller closes what it gets; a store lives for as long as a certificate of its is held.
		return dup(stores[name])
	}
	var said []string
	report := func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) }
	if err := trustIn(pems, open, config.Network{CAFile: "ca.pem"}, report); err != nil {
		t.Fatal(err)
	}
	if got := subjects(stores["Root"]); !slices.Equal(got, []string{"CN=Corp"}) {
		t.Errorf("Root: %q", got)
	}
	if got := subjects(stores["CA"]); !slices.Equal(got, []string{`CN=Corp\, web`}) {
		t.Errorf("CA: %q", got)
	}
	if len(said) != 3 {
		t.Errorf("said: %q", said)
	}
	denied := func(string) (windows.Handle, error) { return 0, windows.ERROR_ACCESS_DENIED }
	if f := fault.From(trustIn(pems, denied, config.Network{CAFile: "ca.pem"}, report)); f == nil || f.Class != fault.Config {
		t.Errorf("denied: %v", f)
	}
}

// dup lets a store be closed once more.
func dup(store windows.Handle) (windows.Handle, error) {
	h, _, err := windows.NewLazySystemDLL("crypt32.dll").NewProc("CertDuplicateStore").Call(uintptr(store))
	if h == 0 {
		return 0, err
	}
	return windows.Handle(h), nil
}

func subjects(store windows.Handle) (all []string) {
	for c, _ := windows.CertEnumCertificatesInStore(store, nil); c != nil; c, _ = windows.CertEnumCertificatesInStore(store, c) {
		if x, err := x509.ParseCertificate(unsafe.Slice(c.EncodedCert, c.Length)); err == nil {
			all = append(all, x.Subject.String())
		}
	}
	return all
}
