package fault

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestClassesAreDistinct(t *testing.T) {
	codes, exits := map[string]bool{}, map[int]bool{}
	for _, c := range Classes() {
		if codes[c.Code] || exits[c.Exit] || ByCode(c.Code) != c {
			t.Errorf("%+v is not alone", c)
		}
		codes[c.Code], exits[c.Exit] = true, true
	}
	for _, i := range []int{10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 22} {
		if !exits[i] {
			t.Errorf("no class for exit code %d", i)
		}
	}
}

// Every class has its entry in the troubleshooting guide, and its row in the table there.
func TestClassesAreDocumented(t *testing.T) {
	guide, err := os.ReadFile("../../docs/troubleshooting.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range Classes() {
		if want := fmt.Sprintf("\n## %s (%d)\n", c.Code, c.Exit); !strings.Contains(string(guide), want) {
			t.Errorf("docs/troubleshooting.md has no entry %q", want)
		}
		if want := fmt.Sprintf("\n| %d | `%s` |", c.Exit, c.Code); !strings.Contains(string(guide), want) {
			t.Errorf("docs/troubleshooting.md has no row %q", want)
		}
	}
}

func TestFrom(t *testing.T) {
	own := New(Vault, "x %d", 1).Hint("h %s", "y").Passing(io.EOF).Retry(time.Second)
	if From(fmt.Errorf("wrapped: %w", own)) != own || own.Error() != "x 1: EOF" || own.Advice != "h y" || !own.Wait ||
		!errors.Is(own, io.EOF) {
		t.Errorf("got %+v", own)
	}
	if f := From(errors.New("strange")); f.Class != Internal || f.Wait || f.Advice == "" {
		t.Errorf("an unknown error became %+v", f)
	}
	if From(nil) != nil {
		t.Error("nil became a fault")
	}
}

func TestRetryAfter(t *testing.T) {
	for _, c := range []struct {
		name, value string
		want        time.Duration
	}{
		{"Retry-After", "3", 3 * time.Second},
		{"Retry-After", "-3", 0},
		{"Retry-After", "soon", 0},
		{"Retry-After", "600", maxRetryAfter},
		{"Retry-After", "99999999999999", 0},
		{"Retry-After", "9223372036854775807", 0},
		{"Retry-After", "Mon, 02 Jan 2006 15:04:05 GMT", 0},
		{"Retry-After", "Mon, 02 Jan 2906 15:04:05 GMT", 0},
		{"retry-after-ms", "250", 250 * time.Millisecond},
		{"x-ms-retry-after-ms", "250", 250 * time.Millisecond},
		{"X-Other", "250", 0},
	} {
		h := http.Header{}
		h.Set(c.name, c.value)
		if got := RetryAfter(h); got != c.want {
			t.Errorf("%s: %s is %s, want %s", c.name, c.value, got, c.want)
		}
	}
}

func TestConnectionTellsCausesApart(t *testing.T) {
	for _, c := range []struct {
		err  error
		says string
		wait bool
	}{
		{&net.DNSError{Name: "contoso", Err: "no such host"}, "does not resolve", true},
		{&net.OpError{Op: "proxyconnect", Err: syscall.ECONNREFUSED}, "the proxy does not answer", true},
		{&ProxyError{"p:1", "t:443", 407}, "the proxy does not let us through", false},
		{&ProxyError{"p:1", "t:443", 502}, "the proxy does not let us through", true},
		{x509.UnknownAuthorityError{}, "does not trust", false},
		{x509.HostnameError{Certificate: &x509.Certificate{}, Host: "h"}, "the certificate is not for", false},
		{x509.CertificateInvalidError{Reason: x509.Expired}, "not valid at this VM's time", true},
		{x509.CertificateInvalidError{Reason: x509.NotAuthorizedToSign}, "is invalid", false},
		{&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, "refuses connections", true},
		{context.DeadlineExceeded, "no answer from", true},
		{io.ErrUnexpectedEOF, "cut the connection", true},
		{syscall.ECONNRESET, "cut the connection", true},
		{ErrTooLarge, "not the service we asked", false},
		{errors.New("strange"), "no connection", true},
	} {
		f := Connection(Network, "the thing", "host:443", fmt.Errorf("get: %w", c.err))
		if !strings.Contains(f.Error(), c.says) || f.Wait != c.wait || f.Advice == "" || f.Class != Network {
			t.Errorf("%v became %q (wait %v, hint %q)", c.err, f, f.Wait, f.Advice)
		}
	}
}

func TestPassingStatus(t *testing.T) {
	for code, want := range map[int]bool{408: true, 410: true, 429: true, 500: true, 503: true, 400: false, 401: false, 403: false, 404: false, 200: false} {
		if PassingStatus(code) != want {
			t.Errorf("%d: got %v", code, !want)
		}
	}
}
