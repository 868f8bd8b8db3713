//go:build linux

package bootstrap_test

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"azp-bootstrap/bootstrap"
	"azp-bootstrap/bootstrap/journal"
	"azp-bootstrap/bootstrap/sim"
)

// A VM that only watches tells of the secret as the vault has it by now: when its end is near, the
// vault is asked about once an hour, and else not at all.
func TestTheSecretsEndIsLookedAtAgain(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		ends time.Duration // of the secret that the VM joined with
		then func(z *sim.Sim) error
		want time.Duration // what the VM says in the end
		asks [2]int        // of the vault in four hours, after joining
		says string
		left bool
	}{
		"rotated": {
			ends: 10 * 24 * time.Hour,
			then: func(z *sim.Sim) error {
				return z.SetSecret("contoso.vault.azure.net", "azp-pat", "", time.Now().Add(90*24*time.Hour), false, true)
			},
			want: 90 * 24 * time.Hour, asks: [2]int{1, 1}, says: "the vault has a new version of the secret",
		},
		"not rotated":     {ends: 10 * 24 * time.Hour, want: 10 * 24 * time.Hour, asks: [2]int{2, 7}, says: "the PAT's secret expires soon"},
		"ends far ahead":  {ends: 60 * 24 * time.Hour, want: 60 * 24 * time.Hour},
		"ends meanwhile":  {ends: 30 * time.Minute, want: 30 * time.Minute, asks: [2]int{2, 7}, says: "could not be deregistered with this secret: the secret azp-pat in the vault contoso.vault.azure.net expired"},
		"there is no end": {},
		"it has left":     {ends: 10 * 24 * time.Hour, left: true, want: 10 * 24 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			fewVMs(t, 1, nil, func(ctx context.Context, t *testing.T, all []*machine) {
				m := all[0]
				begin := time.Now()
				ends := func(after time.Duration) time.Time {
					if after == 0 {
						return time.Time{}
					}
					return begin.Add(after)
				}
				if err := m.azure.SetSecret("contoso.vault.azure.net", "azp-pat", m.pat, ends(c.ends), false, false); err != nil {
					t.Fatal(err)
				}
				var asked atomic.Int32
				fronted(m, "contoso.vault", func(w http.ResponseWriter, r *http.Request, next http.Handler) {
					asked.Add(1)
					next.ServeHTTP(w, r)
				})
				o := m.options(time.Minute)
				o.Set = append(o.Set, "drain.enabled=false", "health.listen=")
				o.Once = false
				ctx, cancel := context.WithCancel(ctx)
				ended := make(chan struct{})
				go func() { defer close(ended); _ = bootstrap.Run(ctx, o) }()
				time.Sleep(5 * time.Minute)
				if c.left {
					if _, err := bootstrap.Deregister(ctx, m.options(time.Minute), bootstrap.Leaving{}); err != nil {
						t.Fatal(err)
					}
				}
				before := asked.Load()
				if c.then != nil {
					if err := c.then(m.azure); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(4 * time.Hour)
				cancel()
				<-ended
				s, _, err := journal.Read(m.state)
				if err != nil {
					t.Fatal(err)
				}
				if (s.Phase == journal.Ready) == c.left || s.Secret == nil {
					t.Fatalf("%s, secret %v", s.Phase, s.Secret)
				}
				if got := s.Secret.Expires; (got == nil) != (c.want == 0) || got != nil && got.Sub(ends(c.want)).Abs() > 10*time.Minute {
					t.Errorf("the VM says that the secret ends %v, wanted %v", got, ends(c.want))
				}
				if n := int(asked.Load() - before); n < c.asks[0] || n > c.asks[1] {
					t.Errorf("the vault was asked %d times", n)
				}
				if said := m.said.String(); !strings.Contains(said, c.says) {
					t.Errorf("it is not said: %q", c.says)
				}
			})
		})
	}
}
