package azure

import (
	"context"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A connection that was opened ahead serves one request after the other; when it is gone, or busy, another is made.
func TestConnectionsAreOpenedAhead(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		var served atomic.Int32
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			served.Add(1)
			_, _ = io.WriteString(w, r.Proto)
		}))
		s.EnableHTTP2 = http2
		s.StartTLS()
		defer s.Close()
		ca := filepath.Join(t.TempDir(), "ca.pem")
		if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
			t.Fatal(err)
		}
		var dialed atomic.Int32
		opened := make(chan net.Conn, 10)
		n := Network{CAFile: ca, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			dialed.Add(1)
			c, err := (&net.Dialer{}).DialContext(ctx, network, s.Listener.Addr().String())
			opened <- c
			return c, err
		}}
		c, err := n.Client(nil, "example.com")
		if err != nil {
			t.Fatal(err)
		}
		<-opened // before anything is asked
		get := func() string {
			res, err := c.Get("https://Example.com/")
			if err != nil {
				t.Error(err)
				return ""
			}
			defer res.Body.Close() //nolint:errcheck // only read
			body, err := io.ReadAll(res.Body)
			if err != nil {
				t.Error(err)
			}
			return string(body)
		}
		for range 3 {
			if got, want := get(), map[bool]string{false: "HTTP/1.1", true: "HTTP/2.0"}[http2]; got != want {
				t.Errorf("%s in place of %s", got, want)
			}
		}
		if n := dialed.Load(); n != 1 || served.Load() != 3 {
			t.Errorf("%d connections, %d requests", n, served.Load())
		}
		var crowd sync.WaitGroup
		for range 5 {
			crowd.Go(func() { get() })
		}
		crowd.Wait()
		s.CloseClientConnections()
		<-time.After(100 * time.Millisecond) // both ends know
		get()
		get()
		if served.Load() != 10 {
			t.Errorf("%d requests", served.Load())
		}
	}
}

func TestAddress(t *testing.T) {
	for host, want := range map[string]string{"TFS.corp:8080": "tfs.corp:8080", "dev.azure.com": "dev.azure.com:443", "[::1]": "[::1]:443", "[::1]:8443": "[::1]:8443", "::1": "[::1]:443"} {
		if got := address(host); got != want {
			t.Errorf("%s became %s", host, got)
		}
	}
}
