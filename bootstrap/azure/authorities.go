package azure

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"slices"

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
	data, err := readAuthorities(n.CAFile)
	if err != nil {
		var path *fs.PathError
		if errors.As(err, &path) {
			err = path.Err
		}
		return nil, fault.New(fault.Config, "the certificates in %s (network.caFile, or SSL_CERT_FILE)", n.CAFile).
			Because(err).
			Hint("Copy your authority's PEM file there (in the image: docs/image-guide.md), or name another one.")
	}
	all, other := certificates(data)
	if !slices.ContainsFunc(all, readable) {
		if len(all) > 0 {
			other = "a block of it is no certificate that can be read"
		}
		return nil, fault.New(fault.Config, "network.caFile: %s holds no certificate: %s", n.CAFile, other).
			Hint("Name your authority's certificate, in PEM form: -----BEGIN CERTIFICATE-----.")
	}
	var whole bytes.Buffer
	for _, c := range all {
		_ = pem.Encode(&whole, &pem.Block{Type: "CERTIFICATE", Bytes: c}) // a buffer takes all
	}
	return whole.Bytes(), nil
}

// maxAuthorities bounds what is read: a system's whole bundle has some 300 KB.
const maxAuthorities = 16 << 20

func readAuthorities(name string) ([]byte, error) {
	fi, err := os.Stat(name)
	switch {
	case err != nil:
		return nil, err
	case !fi.Mode().IsRegular():
		return nil, fmt.Errorf("%s is no file", name)
	case fi.Size() > maxAuthorities:
		return nil, fmt.Errorf("%s has more than 16 MiB", name)
	}
	return os.ReadFile(name) //nolint:gosec // root names it
}

// readable reports whether Go can read a certificate. What others can (a negative serial number, a curve that is
// given by its parameters) stays in the bundle for the agent and its jobs.
func readable(der []byte) bool {
	_, err := x509.ParseCertificate(der)
	return err == nil
}

// certificateLike reports whether DER has the outer form of a certificate (RFC 5280, 4.1): two sequences and
// a bit string. A private key has not.
func certificateLike(c asn1.RawValue) bool {
	var parts struct {
		TBS, Algorithm asn1.RawValue
		Signature      asn1.BitString
	}
	rest, err := asn1.Unmarshal(c.FullBytes, &parts)
	sequence := func(v asn1.RawValue) bool { return v.Class == asn1.ClassUniversal && v.Tag == asn1.TagSequence }
	return err == nil && len(rest) == 0 && sequence(parts.TBS) && sequence(parts.Algorithm)
}

// A line of a block may be indented, end as on an old Mac, have something behind it, or another block's on
// the same line.
var (
	glued  = regexp.MustCompile(`-----[ \t]*(-----BEGIN )`)
	behind = regexp.MustCompile(`(?m)^(-----(?:BEGIN|END) [A-Z0-9 ]+-----).*$`)
	indent = regexp.MustCompile(`(?m)^[ \t]+`)
)

// straight are blocks as pem.Decode takes them.
func straight(data []byte) []byte {
	data = bytes.ReplaceAll(data, []byte("\xef\xbb\xbf"), nil) // also in the middle: files that were put together
	data = bytes.ReplaceAll(bytes.ReplaceAll(data, []byte("\r\n"), []byte("\n")), []byte("\r"), []byte("\n"))
	data = glued.ReplaceAll(indent.ReplaceAll(data, nil), []byte("-----\n$1"))
	return behind.ReplaceAll(data, []byte("$1"))
}

// certificates finds each certificate of a file, as DER; other says what else is in it.
func certificates(data []byte) (all [][]byte, other string) {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	for _, der := range [][]byte{data, bytes.TrimRight(data, "\r\n")} {
		if c, err := x509.ParseCertificates(der); err == nil && len(c) > 0 {
			for _, c := range c {
				all = append(all, c.Raw)
			}
			return all, ""
		}
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
	for rest := straight(data); ; {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			return all, other
		}
		switch b.Type {
		case "CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE":
			// OpenSSL's trusted certificates have something behind the certificate (openssl-x509, -trustout).
			var c asn1.RawValue
			if _, err := asn1.Unmarshal(b.Bytes, &c); err == nil && certificateLike(c) {
				all = append(all, c.FullBytes)
				continue
			}
			other = "a block of it is no certificate that can be read"
		case "PKCS7":
			other = "it is PKCS #7, which is converted by openssl pkcs7 -print_certs -in FILE"
		default:
			other = "it has a block " + b.Type
		}
	}
}
