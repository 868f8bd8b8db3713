package fault

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"syscall"
	"time"
)

// A ProxyError is a proxy's refusal to open a tunnel (its answer to CONNECT).
type ProxyError struct {
	Proxy  string // host:port
	Target string // host:port
	Status int    // 0 = it says nothing
}

func (e *ProxyError) Error() string {
	if e.Status == 0 {
		return fmt.Sprintf("proxy %s takes connections and says nothing", e.Proxy)
	}
	return fmt.Sprintf("proxy %s answered %d %s to CONNECT %s", e.Proxy, e.Status, http.StatusText(e.Status), e.Target)
}

// ErrTooLarge is returned in place of the rest of an answer that is larger than any honest one.
var ErrTooLarge = errors.New("the answer is larger than 8 MiB")

// An AsideError is what failed on the way to a host that is asked without the proxy, by what list.
type AsideError struct {
	Err         error
	Proxy, List string
}

func (e *AsideError) Error() string { return e.Err.Error() }
func (e *AsideError) Unwrap() error { return e.Err }

// Timeout lets net/http tell a timeout as one.
func (e *AsideError) Timeout() bool {
	var t interface{ Timeout() bool }
	return errors.As(e.Err, &t) && t.Timeout()
}

// Connection explains an error of the transport: DNS, TCP, proxy and TLS are told apart, because
// each has another cause and another owner. what is the thing asked ("the vault contoso"), host its
// name and port.
func Connection(c Class, what, host string, err error) *Error {
	var own *Error
	if errors.As(err, &own) {
		return own
	}
	var (
		dns       *net.DNSError
		proxy     *ProxyError
		aside     *AsideError
		authority x509.UnknownAuthorityError
		hostname  x509.HostnameError
		invalid   x509.CertificateInvalidError
		record    tls.RecordHeaderError
		op        *net.OpError
		timeout   interface{ Timeout() bool }
	)
	new := func(format string, args ...any) *Error {
		return New(c, "%s: %s", what, fmt.Sprintf(format, args...)).Because(err)
	}
	silent := func() *Error {
		return new("the proxy does not answer").Passing().
			Hint("Check network.proxy (or HTTPS_PROXY), and that the proxy runs and is reached from this VM.")
	}
	switch {
	case errors.As(err, &proxy) && proxy.Status == 0:
		return silent()
	case errors.As(err, &proxy):
		e := new("the proxy does not let us through")
		switch {
		case proxy.Status == http.StatusProxyAuthRequired:
			return e.Hint(
				"The proxy %s wants a user name and password: give them in "+
					"HTTPS_PROXY=http://USER:PASSWORD@%[1]s in the service's environment (systemctl edit azp-bootstrap), or let this VM "+
					"pass without. If they are there, the proxy refuses them.",
				proxy.Proxy,
			)
		case proxy.Status >= 500 || proxy.Status == http.StatusTooManyRequests:
			return e.Passing().
				Hint("Is the name %s right? If it is, the proxy %s cannot resolve or reach it.", proxy.Target, proxy.Proxy)
		default:
			return e.Hint("Allow %s on the proxy %s, or list the name in network.noProxy.", proxy.Target, proxy.Proxy)
		}
	case errors.As(err, &op) && op.Op == "proxyconnect":
		return silent()
	case errors.As(err, &dns) && errors.As(err, &aside):
		return new("the name %s does not resolve", dns.Name).Passing().
			Hint("It is asked directly, because network.noProxy or NO_PROXY says so (%s): if only the proxy %s can resolve it, take it out "+
				"of there. Else check the spelling and the VM's DNS servers.", aside.List, aside.Proxy)
	case errors.As(err, &dns):
		return new(
			"the name %s does not resolve",
			dns.Name,
		).Passing().
			Hint("Check the spelling, the VM's DNS servers and, with a private endpoint, that its private DNS zone " +
				"is linked to this network.")
	case errors.As(err, &authority):
		return new(
			"TLS: the certificate of %s is signed by an authority this VM does not trust",
			host,
		).Hint("If a proxy inspects TLS or the server has a certificate of your own authority, set network.caFile " +
			"to that authority's PEM file.")
	case errors.As(err, &hostname):
		return new(
			"TLS: the certificate is not for %s",
			host,
		).Hint("Something else answers under this name: check DNS, the hosts file and the proxy.")
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return new(
			"TLS: the certificate of %s is not valid at this VM's time, %s",
			host,
			time.Now().UTC().Format(time.RFC3339),
		).Passing().
			Hint("If the VM's clock is wrong, wait for time synchronization (timedatectl); else the server's " +
				"certificate has expired.")
	case errors.As(err, &invalid):
		return new("TLS: the certificate of %s is invalid", host).Hint("Renew or replace the server's certificate.")
	case errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch):
		return new("%s does not speak TLS on this port", host).Hint("Check the port and the scheme of the address.")
	case errors.Is(err, ErrTooLarge):
		return new(
			"what answers is not the service we asked",
		).Hint("Something between this VM and %s answers in its place: a captive portal, a proxy, a wrong "+
			"address.", host)
	case errors.Is(err, syscall.ECONNREFUSED):
		return new(
			"%s refuses connections",
			host,
		).Passing().
			Hint("Check that the service runs and that a firewall does not reject this VM.")
	case errors.Is(err, context.DeadlineExceeded),
		errors.Is(err, os.ErrDeadlineExceeded),
		errors.As(err, &timeout) && timeout.Timeout():
		return new(
			"no answer from %s in time",
			host,
		).Passing().
			Hint("Check routes, network security groups and firewalls between this VM and %s.", host)
	case errors.Is(err, io.EOF),
		errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, syscall.ECONNRESET),
		errors.Is(err, syscall.EPIPE):
		return new(
			"%s cut the connection",
			host,
		).Passing().
			Hint("A firewall or proxy may be closing connections to %s.", host)
	}
	return new(
		"no connection to %s",
		host,
	).Passing().
		Hint("Check routes, network security groups and firewalls between this VM and %s.", host)
}

// PassingStatus reports whether an HTTP status may go away by itself.
func PassingStatus(code int) bool {
	return code == http.StatusRequestTimeout || code == http.StatusGone || code == http.StatusTooManyRequests ||
		code >= 500
}

// maxRetryAfter bounds what a server may ask of us: longer would outlast most deadlines unseen.
// absurdRetryAfter and more is no honest wish.
const (
	maxRetryAfter    = 5 * time.Minute
	absurdRetryAfter = time.Hour
)

// RetryAfter reads how long a server asks to wait: Retry-After in seconds or as a date, and Azure's
// retry-after-ms and x-ms-retry-after-ms (as azcore does). Nonsense, negative and absurd values
// count as 0: the usual waiting does.
func RetryAfter(h http.Header) time.Duration {
	for _, f := range []struct {
		name string
		unit time.Duration
	}{{"retry-after-ms", time.Millisecond}, {"x-ms-retry-after-ms", time.Millisecond}, {"Retry-After", time.Second}} {
		v := h.Get(f.name)
		if v == "" {
			continue
		}
		if n, err := strconv.ParseInt(v, 10, 64); err == nil {
			return reasonable(time.Duration(max(0, min(n, int64(absurdRetryAfter/f.unit)))) * f.unit)
		}
		if at, err := http.ParseTime(v); err == nil && f.unit == time.Second {
			return reasonable(time.Until(at))
		}
	}
	return 0
}

func reasonable(wish time.Duration) time.Duration {
	if wish >= absurdRetryAfter {
		return 0
	}
	return max(0, min(wish, maxRetryAfter))
}
