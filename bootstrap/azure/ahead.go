package azure

import (
	"context"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"azp-bootstrap/bootstrap/fault"
)

// idle is how long a connection is kept that nobody uses: what stands between may forget it soon after.
const idle = 30 * time.Second

// ahead is a transport that does its own share of the work before it is needed, while IMDS is waited for: it reads the
// system's certificates, and opens a connection to each host that will be asked (name resolution, TCP and TLS: three
// round trips and more). What was opened is used as long as it stands; all else is the transport's own.
type ahead struct {
	own    []byte        // PEM, trusted besides the system's
	begun  sync.Once     // the certificates are read
	rooted chan struct{} // closed when they are
	err    error         // that they could not be

	mu     sync.Mutex
	t      *http.Transport
	whole  bool               // t trusts all that the system trusts, not its bundle alone
	opened map[string]*opened // by HOST:PORT
}

type opened struct {
	done chan struct{}    // closed when conn is set
	conn *http.ClientConn // nil: it could not be opened
	used *time.Timer      // ends it when it is idle for long
}

// bundles are where distributions keep the system's certificates in one file (as crypto/x509 looks for them).
var bundles = []string{"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem"}

// Bundle is the file of the system's certificates; "" if there is none.
func Bundle() string {
	for _, name := range bundles {
		if fi, err := os.Stat(name); err == nil && fi.Size() > 0 {
			return name
		}
	}
	return ""
}

func newAhead(t *http.Transport, own []byte) *ahead {
	return &ahead{own: own, t: t, rooted: make(chan struct{}), opened: map[string]*opened{}}
}

// root begins to read the certificates. crypto/x509 reads the bundle and then each file of the folder beside it, which
// mostly holds the same ones by themselves: three times the CPU. So the bundle comes first, and the folder when a certificate
// turns up whose authority is not in it.
func (a *ahead) root() {
	a.begun.Do(func() {
		go func() {
			defer close(a.rooted)
			roots := x509.NewCertPool()
			pem, err := os.ReadFile(Bundle())
			if a.whole = err != nil || !roots.AppendCertsFromPEM(pem); a.whole {
				if roots, err = x509.SystemCertPool(); err != nil {
					a.err = fault.New(fault.Config, "the system's certificates cannot be read").Because(err).Hint("Install the package ca-certificates.")
					return
				}
			}
			roots.AppendCertsFromPEM(a.own)
			a.t.TLSClientConfig.RootCAs = roots
		}()
	})
}

// transport is the present one.
func (a *ahead) transport() *http.Transport {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.t
}

// widen has another transport than t, which trusts all that the system trusts; false: t does.
func (a *ahead) widen(t *http.Transport) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.t != t {
		return true
	}
	roots, err := x509.SystemCertPool()
	if a.whole || err != nil {
		return false
	}
	roots.AppendCertsFromPEM(a.own)
	a.t, a.whole = t.Clone(), true
	a.t.TLSClientConfig.RootCAs = roots
	return true
}

// usual is a request over a connection of the transport's own.
func (a *ahead) usual(r *http.Request) (*http.Response, error) {
	t := a.transport()
	res, err := t.RoundTrip(r)
	var unknown x509.UnknownAuthorityError
	if errors.As(err, &unknown) && r.Body == nil && a.widen(t) { // nothing was sent
		return a.transport().RoundTrip(r)
	}
	return res, err
}

// open begins to connect to hosts after something (nil: at once). What fails is not an error: the first request tries by
// itself, and says why.
func (a *ahead) open(after <-chan struct{}, hosts []string) {
	if len(hosts) == 0 {
		return
	}
	if after == nil {
		a.root()
	} else {
		go func() {
			select {
			case <-after:
			case <-time.After(idle):
			}
			a.root()
		}()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, host := range hosts {
		o := &opened{done: make(chan struct{})}
		a.opened[address(host)] = o
		go func() {
			defer close(o.done)
			if <-a.rooted; a.err != nil {
				return
			}
			ctx, cancel := context.WithTimeout(context.Background(), idle)
			defer cancel()
			if conn, err := a.transport().NewClientConn(ctx, "https", address(host)); err == nil {
				o.conn, o.used = conn, time.AfterFunc(idle, func() { _ = conn.Close() })
			}
		}()
	}
}

// address is a host with its port, as its certificate names it.
func address(host string) string {
	host = strings.ToLower(host)
	if _, _, err := net.SplitHostPort(host); err == nil {
		return host
	}
	return net.JoinHostPort(strings.Trim(host, "[]"), "443")
}

// RoundTrip uses the connection that was opened to the request's host, if it stands.
func (a *ahead) RoundTrip(r *http.Request) (*http.Response, error) {
	a.root()
	select {
	case <-a.rooted:
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	if a.err != nil {
		return nil, a.err
	}
	o := a.to(r.URL)
	if o == nil {
		return a.usual(r)
	}
	select {
	case <-o.done:
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	if o.conn == nil || o.conn.Err() != nil {
		a.mu.Lock()
		delete(a.opened, address(r.URL.Host))
		a.mu.Unlock()
		return a.usual(r)
	}
	if o.conn.Reserve() != nil { // busy
		return a.usual(r)
	}
	if !o.used.Reset(idle) { // it is ended just now
		o.conn.Release()
		return a.usual(r)
	}
	return o.conn.RoundTrip(r)
}

func (a *ahead) to(u *url.URL) *opened {
	if u.Scheme != "https" {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.opened[address(u.Host)]
}
