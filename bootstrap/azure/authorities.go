package azure

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"os"
	"regexp"

	"azp-bootstrap/bootstrap/fault"
)

// Authorities are the certificates of n.CAFile, one PEM block each, so that Go, .NET, node, git and
// curl, which read such a file each in their own way, all get the same; nil without a file. What
// people have is taken: DER, a byte order mark, blocks that are glued together, OpenSSL's trusted
// certificates.
func (n Network) Authorities() ([]byte, error) {
	if n.CAFile == "" {
		return nil, nil
	}
	data, err := os.ReadFile(n.CAFile)
	if err != nil {
		return nil, fault.New(fault.Config, "network.caFile (or SSL_CERT_FILE)").
			Because(err).
			Hint("Name a PEM file that root can read.")
	}
	all, other := certificates(data)
	if len(all) == 0 {
		return nil, fault.New(fault.Config, "network.caFile: %s holds no certificate: %s", n.CAFile, other).
			Hint("Name your authority's certificate, in PEM form: -----BEGIN CERTIFICATE-----.")
	}
	var whole bytes.Buffer
	for _, c := range all {
		_ = pem.Encode(&whole, &pem.Block{Type: "CERTIFICATE", Bytes: c}) // a buffer takes all
	}
	return whole.Bytes(), nil
}

// glued parts a block from the next one on the same line.
var glued = regexp.MustCompile(`-----(-----BEGIN )`)

// certificates finds each certificate of a file, as DER; other says what else is in it.
func certificates(data []byte) (all [][]byte, other string) {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	if c, err := x509.ParseCertificates(data); err == nil && len(c) > 0 {
		for _, c := range c {
			all = append(all, c.Raw)
		}
		return all, ""
	}
	switch {
	case len(bytes.TrimSpace(data)) == 0:
		return nil, "it is empty"
	case bytes.HasPrefix(data, []byte("\xff\xfe")), bytes.HasPrefix(data, []byte("\xfe\xff")):
		return nil, "it is text in UTF-16; save it as ASCII or UTF-8"
	case data[0] == 0x30:
		return nil, "it is in DER form, and no certificate; PKCS #7 is converted by openssl pkcs7 -inform der -print_certs " +
			"-in FILE, PKCS #12 by openssl pkcs12 -nokeys -in FILE"
	}
	other = "it has no line -----BEGIN CERTIFICATE-----"
	for rest := glued.ReplaceAll(data, []byte("-----\n$1")); ; {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			return all, other
		}
		switch b.Type {
		case "CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE":
			// OpenSSL's trusted certificates have something behind the certificate (openssl-x509, -trustout).
			var c asn1.RawValue
			if _, err := asn1.Unmarshal(b.Bytes, &c); err == nil {
				if _, err = x509.ParseCertificate(c.FullBytes); err == nil {
					all = append(all, c.FullBytes)
					continue
				}
			}
			other = "a block of it is no certificate that can be read"
		case "PKCS7":
			other = "it is PKCS #7, which is converted by openssl pkcs7 -print_certs -in FILE"
		default:
			other = "it has a block " + b.Type
		}
	}
}
