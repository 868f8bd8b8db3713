package devops

import (
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"azp-bootstrap/bootstrap/azure"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/secret"
)

// A crowd answers with the list of many agents, each with capabilities as an image full of tools
// has them.
type crowd struct {
	agents int
	cut    bool
	whole  string // in place of that list
}

func (c crowd) RoundTrip(r *http.Request) (*http.Response, error) {
	out, in := io.Pipe()
	go func() {
		if c.whole != "" {
			_, _ = io.WriteString(in, c.whole)
			_ = in.Close()
			return
		}
		tools := strings.Repeat(`"JAVA_HOME_11_X64":"/usr/lib/jvm/temurin-11-jdk-amd64",`, 150) // 8 KiB
		_, _ = fmt.Fprintf(in, `{"count":%d,"value":[`, c.agents)
		for i := range c.agents {
			if i > 0 {
				_, _ = io.WriteString(in, ",")
			}
			_, _ = fmt.Fprintf(
				in,
				`{"id":%d,"name":"web-%06d","status":"offline","systemCapabilities":{%s"%s":"5c7a1b1e-%d"}}`,
				i+1,
				i,
				tools,
				InstanceIDCapability,
				i,
			)
			if c.cut && i == c.agents/2 {
				_ = in.Close()
				return
			}
		}
		_, _ = io.WriteString(in, `]}`)
		_ = in.Close()
	}()
	return &http.Response{
		StatusCode: http.StatusOK,
		Header:     http.Header{"Content-Type": {"application/json; charset=utf-8"}},
		Body:       out,
		Request:    r,
		ProtoMajor: 1,
	}, nil
}

func many(t testing.TB, c crowd) ([]*Agent, error) {
	t.Helper()
	pat, err := secret.NewPAT("opaque-token")
	if err != nil {
		t.Fatal(err)
	}
	client := New(
		"https://dev.azure.com/contoso",
		"organization contoso",
		&http.Client{Transport: c},
		Credential{PAT: pat},
	)
	return client.All(t.Context(), Place{Target: Target{Kind: Pool, Name: "Default"}, ID: 1, PoolID: 1})
}

// A list of 10,000 agents has 80 MiB; one agent at a time is held.
func TestAllOfManyAgents(t *testing.T) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	all, err := many(t, crowd{agents: 10_000})
	if err != nil || len(all) != 10_000 {
		t.Fatal(len(all), err)
	}
	if last := all[9_999]; last.Name != "web-009999" || !last.Offline || last.InstanceID != "5c7a1b1e-9999" {
		t.Errorf("%+v", last)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if held := int64(after.HeapAlloc) - int64(before.HeapAlloc); held > 20<<20 { //nolint:gosec // sizes
		t.Errorf("%d MiB are held", held>>20)
	}
	if taken := int64(after.HeapSys) - int64(before.HeapSys); taken > 100<<20 { //nolint:gosec // sizes
		t.Errorf("%d MiB were taken on the way", taken>>20)
	}
	runtime.KeepAlive(all)
}

// A list that was cut short, and what is no list, is no empty list: a sweep would take it for the
// whole.
func TestHalfAListIsNone(t *testing.T) {
	for name, c := range map[string]crowd{
		"cut short":       {agents: 10, cut: true},
		"no value":        {whole: `{"count":0}`},
		"empty":           {whole: ` `},
		"an array":        {whole: `[]`},
		"an object in it": {whole: `{"value":{}}`},
		"a number in it":  {whole: `{"value":[7]}`},
		"not its end":     {whole: `{"value":[]`},
		"HTML":            {whole: `<html>`},
	} {
		all, err := many(t, c)
		if f := fault.From(err); err == nil || f.Class != fault.Network {
			t.Errorf("%s: %d agents, %v", name, len(all), err)
		}
	}
	for _, whole := range []string{`{"value":[]}`, `{"count":0,"value":[],"x":{"value":[1]}}`} {
		if all, err := many(t, crowd{whole: whole}); err != nil || len(all) != 0 {
			t.Errorf("%s: %d agents, %v", whole, len(all), err)
		}
	}
}

// The daemon's own client ends answers that are larger than any honest one; sweep's takes them.
func TestLargeAnswersAreForSweep(t *testing.T) {
	for _, large := range []bool{false, true} {
		client, err := (azure.Network{Large: large}).Client()
		if err != nil {
			t.Fatal(err)
		}
		if large != (client.Timeout > time.Minute) {
			t.Errorf("large %v: %s", large, client.Timeout)
		}
	}
}
