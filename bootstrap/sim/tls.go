package sim

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"sync"
	"time"
)

// An authority signs a certificate for every name, and is thrown away with the simulator.
type authority struct {
	cert  *x509.Certificate
	key   *ecdsa.PrivateKey
	pem   []byte
	mu    sync.Mutex
	leafs map[string]*tls.Certificate
}

func newAuthority() (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "azp-sim throw-away authority"},
		NotBefore: time.Now().AddDate(-30, 0, 0), NotAfter: time.Now().AddDate(1, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return &authority{
		cert:  cert,
		key:   key,
		pem:   pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		leafs: map[string]*tls.Certificate{},
	}, err
}

func serial() *big.Int {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 100))
	if err != nil {
		panic(err) // no randomness: nothing works
	}
	return n
}

// leaf makes the certificate of a host; flaw is one of the scenario's words, or "".
func (a *authority) leaf(host, flaw string) (*tls.Certificate, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if c := a.leafs[host+flaw]; c != nil {
		return c, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	name, from, to := host, time.Now().Add(-24*time.Hour), time.Now().AddDate(0, 3, 0)
	signer := a
	switch flaw {
	case "expired":
		from, to = time.Now().AddDate(0, -3, 0), time.Now().Add(-time.Hour)
	case "notYetValid":
		from = time.Now().Add(time.Hour)
	case "wrongHost":
		name = "elsewhere.example"
	case "unknownCA":
		if signer, err = newAuthority(); err != nil {
			return nil, err
		}
	}
	t := &x509.Certificate{
		SerialNumber: serial(),
		Subject:      pkix.Name{CommonName: name},
		DNSNames:     []string{name},
		NotBefore:    from,
		NotAfter:     to,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, t, signer.cert, key.Public(), signer.key)
	if err != nil {
		return nil, err
	}
	c := &tls.Certificate{Certificate: [][]byte{der, signer.cert.Raw}, PrivateKey: key}
	a.leafs[host+flaw] = c
	return c, nil
}

// tlsConfig answers for every name that is asked for.
func (s *Sim) tlsConfig(otherwise string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"http/1.1"}, // faults cut connections, which HTTP/2 shares
		GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
			host := h.ServerName
			if host == "" {
				host = otherwise
			}
			s.mu.Lock()
			flaw := s.scenario.Certificates[host]
			s.mu.Unlock()
			return s.ca.leaf(host, flaw)
		},
	}
}
