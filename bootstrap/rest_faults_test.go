//go:build linux

package bootstrap_test

import (
	"testing"
	"time"
)

// restOutcomes are what must become of a boot if the answer to the daemon's own registration is spoilt so, in the words of
// networkFaults. It joins where config.sh registers in its place.
var restOutcomes = map[string]string{
	"100 MB":                          "!network",
	"400":                             "=",
	"401":                             "!pat-scope",
	"403":                             "!pat-scope",
	"404":                             "!target",
	"408":                             "~network",
	"409":                             "~target",
	"410":                             "~network",
	"429":                             "~network",
	"429, Retry-After: -5":            "~network",
	"429, Retry-After: 20":            "~network",
	"429, Retry-After: 99999999":      "~network",
	"429, Retry-After: DATE":          "~network",
	"429, Retry-After: soon":          "~network",
	"500":                             "~network",
	"502":                             "~network",
	"503":                             "~network",
	"503, Retry-After: -5":            "~network",
	"503, Retry-After: 20":            "~network",
	"503, Retry-After: 99999999":      "~network",
	"503, Retry-After: DATE":          "~network",
	"503, Retry-After: soon":          "~network",
	"504":                             "~network",
	"JSON of another kind":            "=",
	"captive portal: a page with 200": "!pat-scope",
	"cut in the body":                 "~network",
	"cut without an answer":           "~network",
	"empty body":                      "~network",
	"garbage in place of HTTP":        "~network",
	"hangs":                           "~network",
	"one byte a second":               "~network",
	"only nulls":                      "=",
	"redirect 302 to another host":    "!pat-scope",
	"redirect 307 to another host":    "!pat-scope",
	"redirect 308 to http":            "!pat-scope",
	"truncated JSON":                  "=",
	"unknown and doubled fields":      "=",
	"wrong content type":              "=",
}

// TestNetworkFaultsByRest strikes at the one request that agent.registration: rest adds.
func TestNetworkFaultsByRest(t *testing.T) {
	known := map[string]bool{}
	for i, n := range networkFaults() {
		if n.answer == nil || n.setup != nil || n.dial != nil {
			continue
		}
		known[n.name] = true
		if testing.Short() && i%10 != 0 {
			continue
		}
		t.Run(n.name, func(t *testing.T) {
			t.Parallel()
			word, waited := cell{fault: n, at: registers, registration: "rest"}.actual(t)
			if want := restOutcomes[n.name]; word != want {
				t.Errorf("got %s, want %s", word, want)
			}
			if limit := n.within + 10*time.Second; word[0] != '=' && waited > limit {
				t.Errorf("it took %s, which is more than %s", waited, limit)
			}
		})
	}
	for name := range restOutcomes {
		if !known[name] {
			t.Errorf("there is no fault %q", name)
		}
	}
}
