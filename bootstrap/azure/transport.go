// Package azure is the VM's side of Azure: the Instance Metadata Service, the managed identity, Key
// Vault, and the one HTTP transport that everything outside the VM goes through.
package azure

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	"golang.org/x/net/http/httpproxy"

	"azp-bootstrap/bootstrap/fault"
)

// Network is the way out of the VM, as it is handed on to the agent as well.
type Network struct {
	Proxy   string // as people write it (ParseProxy); "" = none
	NoProxy string // as NO_PROXY
	CAFile  string // certificates that are trusted besides the system's (Authorities)
	Dial    Dial   // nil = the system's
	Large   bool   // answers may be large, and take minutes: lists of thousands of agents
}

// Dial makes a connection, as net.Dialer.DialContext does.
type Dial func(ctx context.Context, network, address string) (net.Conn, error)

// within is d, or the system's, that takes no longer than limit.
func (d Dial) within(limit time.Duration) Dial {
	if d == nil {
		return (&net.Dialer{Timeout: limit, KeepAlive: 30 * time.Second}).DialContext
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		return d(ctx, network, address)
	}
}

// Client makes the HTTP client for Key Vault and Azure DevOps. It follows no redirect: a credential
// must not follow one, and neither service sends any to a client that is authorized.
func (n Network) Client() (*http.Client, error) {
	t, err := n.transport()
	if err != nil {
		return nil, err
	}
	if n.Large {
		t.ResponseHeaderTimeout = 3 * time.Minute
		return client(t, 5*time.Minute, 1<<30), nil
	}
	return client(t, 60*time.Second, maxBody), nil
}

// Downloader makes a client for large files and no credentials: it follows redirects, to https
// only.
func (n Network) Downloader() (*http.Client, error) {
	t, err := n.transport()
	if err != nil {
		return nil, err
	}
	return &http.Client{Transport: t, CheckRedirect: func(r *http.Request, via []*http.Request) error {
		if r.URL.Scheme != "https" || len(via) > 5 {
			return http.ErrUseLastResponse
		}
		return nil
	}}, nil
}

// idle is how long a connection is kept that nobody uses: what stands between may forget it soon
// after.
const idle = 30 * time.Second

// bundles are where distributions keep the system's certificates in one file (as crypto/x509 looks
// for them).
var bundles = []string{
	"/etc/ssl/certs/ca-certificates.crt",
	"/etc/pki/tls/certs/ca-bundle.crt",
	"/etc/ssl/ca-bundle.pem",
	"/etc/ssl/cert.pem",
}

// Bundle is the file of the system's certificates; "" if there is none.
func Bundle() string {
	for _, name := range bundles {
		if fi, err := os.Stat(name); err == nil && fi.Size() > 0 {
			return name
		}
	}
	return ""
}

// roots are the certificates that are trusted; nil = the system's alone.
func (n Network) roots() (*x509.CertPool, error) {
	if n.CAFile == "" {
		return nil, nil
	}
	own, err := n.Authorities()
	if err != nil {
		return nil, err
	}
	all, err := x509.SystemCertPool()
	if err != nil {
		return nil, fault.New(fault.Config, "the system's certificates cannot be read").Because(err).
			Hint("Install the package ca-certificates.")
	}
	all.AppendCertsFromPEM(own)
	return all, nil
}

func (n Network) transport() (*http.Transport, error) {
	roots, err := n.roots()
	if err != nil {
		return nil, err
	}
	through, err := n.Through()
	if err != nil {
		return nil, err
	}
	address := ""
	if through != nil {
		address = through.String()
	}
	direct, _, _ := readNoProxy(n.NoProxy)
	proxy := (&httpproxy.Config{HTTPProxy: address, HTTPSProxy: address, NoProxy: joined(direct)}).ProxyFunc()
	dial := n.Dial.within(10 * time.Second)
	t := &http.Transport{
		Proxy: func(r *http.Request) (*url.URL, error) { return proxy(r.URL) },
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := dial(ctx, network, addr)
			switch {
			case through == nil:
			case err == nil && addr == hostPort(through):
				return &awaited{Conn: c, proxy: through.Host}, nil
			case addr != hostPort(through) && err != nil:
				err = &fault.AsideError{Err: err, Proxy: through.Host, List: n.NoProxy}
			}
			return c, err
		},
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
		TLSHandshakeTimeout:    10 * time.Second,
		ResponseHeaderTimeout:  45 * time.Second, // Azure DevOps delays a heavy user by up to 30 s
		IdleConnTimeout:        idle,
		MaxResponseHeaderBytes: 64 << 10,
		ForceAttemptHTTP2:      true,
		OnProxyConnectResponse: func(_ context.Context, proxy *url.URL, req *http.Request, res *http.Response) error {
			if res.StatusCode == http.StatusOK {
				return nil
			}
			return &fault.ProxyError{Proxy: proxy.Host, Target: req.URL.Opaque + req.URL.Host, Status: res.StatusCode}
		},
	}
	return t, nil
}

// hostPort is a proxy's address as it is dialled.
func hostPort(proxy *url.URL) string {
	port := proxy.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[proxy.Scheme]
	}
	return net.JoinHostPort(proxy.Hostname(), port)
}

// An awaited connection leads to a proxy. One that takes it and never says a word would else be told as a silence of
// the host behind: http.Transport has no limit for the answer to CONNECT.
type awaited struct {
	net.Conn
	proxy    string
	answered bool
}

// proxyAnswers is how long a proxy may take for its first word, its own connection included.
const proxyAnswers = 45 * time.Second

func (c *awaited) Read(p []byte) (int, error) {
	if c.answered {
		return c.Conn.Read(p)
	}
	_ = c.SetReadDeadline(time.Now().Add(proxyAnswers))
	n, err := c.Conn.Read(p)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return n, &fault.ProxyError{Proxy: c.proxy}
	}
	c.answered = true
	_ = c.SetReadDeadline(time.Time{})
	return n, err
}

func client(t http.RoundTripper, whole time.Duration, largest int64) *http.Client {
	return &http.Client{
		Transport:     bounded{t, largest},
		Timeout:       whole, // headers and body: also ends an answer that drips
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// bounded cuts answers off that are larger than any honest one.
type bounded struct {
	http.RoundTripper
	largest int64 // in bytes
}

const maxBody = 8 << 20

func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := b.RoundTripper.RoundTrip(r)
	if err == nil {
		res.Body = &limited{ReadCloser: res.Body, left: b.largest}
	}
	return res, err
}

type limited struct {
	io.ReadCloser
	left int64
}

func (l *limited) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, fault.ErrTooLarge
	}
	n, err := l.ReadCloser.Read(p[:min(int64(len(p)), l.left)])
	l.left -= int64(n)
	return n, err
}
