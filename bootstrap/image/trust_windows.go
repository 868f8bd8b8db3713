package image

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"unsafe"

	"golang.org/x/sys/windows"

	"azp-bootstrap/bootstrap/azure"
	"azp-bootstrap/bootstrap/config"
	"azp-bootstrap/bootstrap/fault"
)

// trust puts the authorities of network.caFile into the machine's store, if it was asked for, or says that they are to
// be there: what --sslcacert names, the agent on Windows hands on to git and node, and .NET trusts the store alone
// (learn.microsoft.com, Run the agent with a self-signed certificate).
func (p Preparation) trust() error {
	if p.Network.CAFile == "" {
		return nil
	}
	if !p.Trust {
		p.Report("the agent itself trusts this machine's store alone: prepare --trust puts the authorities of %s there", p.Network.CAFile)
		return nil
	}
	all, err := (azure.Network{CAFile: p.Network.CAFile}).Authorities()
	if err != nil {
		return err
	}
	return trustIn(all, machineStore, p.Network, p.Report)
}

// machineStore opens one of this machine's stores: Root for authorities, CA for those between.
func machineStore(name string) (windows.Handle, error) {
	n, err := windows.UTF16PtrFromString(name)
	if err != nil {
		return 0, err
	}
	return windows.CertOpenStore(windows.CERT_STORE_PROV_SYSTEM_W, 0, 0, windows.CERT_SYSTEM_STORE_LOCAL_MACHINE,
		uintptr(unsafe.Pointer(n)))
}

func trustIn(
	pems []byte, open func(name string) (windows.Handle, error), n config.Network, report func(format string, args ...any),
) error {
	failed := func(err error) error {
		return fault.New(fault.Config, "the authorities of network.caFile cannot be put into this machine's store").Because(err).
			Hint("Run it as an administrator, or put them there by hand: certutil -addstore Root %s.", n.CAFile)
	}
	for block, rest := pem.Decode(pems); block != nil; block, rest = pem.Decode(rest) {
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			continue // not for Windows to verify with, either
		}
		name := "CA"
		if bytes.Equal(c.RawIssuer, c.RawSubject) {
			name = "Root"
		}
		if err := addTo(open, name, block.Bytes); err != nil {
			return failed(err)
		}
		report("in this machine's store %s, for every program here: %s", name, c.Subject)
	}
	return nil
}

func addTo(open func(name string) (windows.Handle, error), name string, der []byte) error {
	store, err := open(name)
	if err != nil {
		return err
	}
	defer windows.CertCloseStore(store, 0) //nolint:errcheck // nothing pending
	c, err := windows.CertCreateCertificateContext(windows.X509_ASN_ENCODING|windows.PKCS_7_ASN_ENCODING, &der[0], uint32(len(der)))
	if err != nil {
		return err
	}
	defer windows.CertFreeCertificateContext(c) //nolint:errcheck // nothing pending
	return windows.CertAddCertificateContextToStore(store, c, windows.CERT_STORE_ADD_USE_EXISTING, nil)
}
