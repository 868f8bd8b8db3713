//go:build linux

package bootstrap_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"

	"azp-bootstrap/bootstrap/sim"
)

const passing = "~imds ~identity ~vault ~network ~network ~network ~network"

const page = "<!DOCTYPE html><html><head><title>Welcome</title></head><body>Please sign in to the network.</body></html>"

// networkFaults are the rows of the fault matrix.
func networkFaults() []networkFault {
	rows := []networkFault{
		{
			name: "connection refused",
			want: "~imds ~vault ~network",
			dial: func(_ context.Context, _ *machine, _ string, _ func() (net.Conn, error)) (net.Conn, error) {
				return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
			},
		},
		{
			name:   "connection hangs",
			want:   "~imds ~vault ~network",
			within: time.Minute,
			dial: func(ctx context.Context, _ *machine, _ string, _ func() (net.Conn, error)) (net.Conn, error) {
				<-ctx.Done()
				return nil, &net.OpError{Op: "dial", Net: "tcp", Err: ctx.Err()}
			},
		},
		{
			name: "address dead, until DNS changes",
			want: "~imds ~vault ~network",
			dial: func(_ context.Context, _ *machine, _ string, _ func() (net.Conn, error)) (net.Conn, error) {
				return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.EHOSTUNREACH}
			},
		},
		{
			name: "name does not resolve",
			want: "- ~vault ~network",
			dial: func(_ context.Context, _ *machine, address string, _ func() (net.Conn, error)) (net.Conn, error) {
				host, _, _ := net.SplitHostPort(address)
				return nil, &net.OpError{
					Op:  "dial",
					Net: "tcp",
					Err: &net.DNSError{Err: "no such host", Name: host, IsNotFound: true},
				}
			},
		},
		{
			name: "name server fails",
			want: "- ~vault ~network",
			dial: func(_ context.Context, _ *machine, address string, _ func() (net.Conn, error)) (net.Conn, error) {
				host, _, _ := net.SplitHostPort(address)
				return nil, &net.OpError{
					Op:  "dial",
					Net: "tcp",
					Err: &net.DNSError{Err: "server misbehaving", Name: host, IsTemporary: true},
				}
			},
		},
		{
			name: "connection cut at once",
			want: "~imds ~vault ~network",
			dial: func(_ context.Context, _ *machine, _ string, _ func() (net.Conn, error)) (net.Conn, error) {
				here, there := net.Pipe()
				_ = there.Close()
				return here, nil
			},
		},
		{
			name: "TLS port speaks HTTP",
			want: "!imds !vault !network",
			dial: func(_ context.Context, _ *machine, _ string, _ func() (net.Conn, error)) (net.Conn, error) {
				here, there := net.Pipe()
				go func() {
					buf := make([]byte, 4096)
					_, _ = there.Read(buf)
					_, _ = there.Write([]byte("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"))
					_ = there.Close()
				}()
				return here, nil
			},
		},
	}
	for _, flaw := range [][2]string{{"unknownCA", "- !vault !network"}, {"wrongHost", "- !vault !network"}, {"expired", "- ~vault ~network"}, {"notYetValid", "- ~vault ~network"}} {
		rows = append(rows, spoiled(flaw[0], flaw[1]))
	}
	for _, p := range []struct {
		status     int
		text, want string
	}{{407, "", "!vault"}, {403, "", "!vault"}, {502, "", "~vault"}, {503, "", "~vault"}, {200, page, "!vault"}} {
		rows = append(
			rows,
			networkFault{
				name:   fmt.Sprintf("proxy answers %d", p.status),
				want:   p.want,
				setup:  throughProxy,
				answer: answers(p.status, map[string]string{"Content-Type": "text/html"}, p.text),
			},
		)
	}
	rows = append(
		rows,
		networkFault{name: "proxy refuses connections", want: "~vault", setup: throughProxy, dial: rows[0].dial},
		networkFault{name: "proxy cuts the connection", want: "~vault", setup: throughProxy, answer: cut("")},
		networkFault{name: "cut without an answer", want: passing, answer: cut("")},
		networkFault{
			name:   "cut in the body",
			want:   passing,
			answer: cut("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{\"id\":"),
		},
		networkFault{
			name:   "garbage in place of HTTP",
			want:   passing,
			answer: cut("\x00\x01\x02 this is no HTTP\r\n\r\n"),
		},
		networkFault{name: "hangs", want: passing, answer: hang, within: 2 * time.Minute},
		networkFault{name: "one byte a second", want: passing, answer: drip, within: 3 * time.Minute},
		networkFault{
			name:   "100 MB",
			want:   "!imds ~identity !vault !network !network !network !network",
			answer: flood,
		},
		networkFault{name: "empty body", want: passing, answer: answers(200, nil, "")},
		networkFault{
			name: "truncated JSON",
			want: "~imds ~identity ~vault ~network ~network ~network ~network",
			answer: instead(func(h http.Header, body string) string {
				h.Del("Content-Length")
				return body[:len(body)/2]
			}),
		},
		networkFault{
			name:   "JSON of another kind",
			want:   "~imds ~identity !vault !network !network !network !network",
			answer: answers(200, nil, `["something", 7]`),
		},
		networkFault{
			name: "only nulls",
			want: "~imds ~identity !vault !target !target = !service",
			answer: answers(
				200,
				nil,
				`{"compute":null,"access_token":null,"expires_in":null,"value":null,"id":null,"attributes":null,"authenticatedUser":null,"instanceId":null,"count":null}`,
			),
		},
		networkFault{
			name: "unknown and doubled fields",
			want: "= = = = = = =",
			answer: instead(func(h http.Header, body string) string {
				h.Del("Content-Length")
				body = strings.TrimSpace(body)
				if !strings.HasPrefix(body, "{") || body == "{}" {
					return body
				}
				return `{"unknown":{"deep":[1,null,"x"]},` + body[1:len(body)-1] + `,` + body[1:]
			}),
		},
		networkFault{
			name: "wrong content type",
			want: "= = = = = = =",
			answer: instead(func(h http.Header, body string) string {
				h.Set("Content-Type", "text/plain")
				return body
			}),
		},
		networkFault{
			name:   "captive portal: a page with 200",
			want:   "!imds !identity !vault !pat !pat-scope !pat-scope !pat-scope",
			answer: answers(200, map[string]string{"Content-Type": "text/html"}, page),
		},
		networkFault{
			name:   "redirect 302 to another host",
			want:   "!imds !identity !vault !pat !pat-scope !pat-scope !pat-scope",
			answer: answers(302, map[string]string{"Location": "https://evil.example/take"}, ""),
		},
		networkFault{
			name:   "redirect 307 to another host",
			want:   "!imds !identity !vault !pat !pat-scope !pat-scope !pat-scope",
			answer: answers(307, map[string]string{"Location": "https://evil.example/take"}, ""),
		},
		networkFault{
			name: "redirect 308 to http",
			want: "!imds !identity !vault !pat !pat-scope !pat-scope !pat-scope",
			answer: func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				answers(308, map[string]string{"Location": "http://" + r.Host + r.URL.Path}, "")(w, r, next)
			},
		},
	)
	lasting := map[int]string{
		400: "!imds !identity !vault !network !network !network !network",
		401: "!imds !identity !vault !pat !pat-scope !pat-scope !pat-scope",
		403: "!imds !identity !vault !pat !pat-scope !pat-scope !pat-scope",
		404: "~imds ~identity !vault !target !target !target !target", // IMDS: starting, or being updated
		409: "!imds !identity !vault !network !network !network !network",
	}
	for _, status := range []int{400, 401, 403, 404, 408, 409, 410, 429, 500, 502, 503, 504} {
		want := lasting[status]
		if want == "" {
			want = passing
		}
		rows = append(rows, networkFault{name: fmt.Sprint(status), want: want, answer: answers(status, nil, "")})
	}
	for _, status := range []int{429, 503} {
		for _, after := range []string{"20", "DATE", "99999999", "-5", "soon"} {
			rows = append(
				rows,
				networkFault{
					name:   fmt.Sprintf("%d, Retry-After: %s", status, after),
					want:   passing,
					within: time.Minute,
					answer: answers(status, map[string]string{"Retry-After": after}, ""),
				},
			)
		}
	}
	return rows
}

func throughProxy(m *machine) { m.proxy = "http://" + sim.ProxyAddress }
