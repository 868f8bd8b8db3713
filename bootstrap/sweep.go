package bootstrap

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"azp-bootstrap/bootstrap/devops"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/fleet"
	"azp-bootstrap/bootstrap/journal"
	"azp-bootstrap/bootstrap/retry"
	"azp-bootstrap/bootstrap/secret"
)

// Sweeping says which agents of deleted VMs are removed from the configured target.
type Sweeping struct {
	Existing *fleet.List // the VMs that exist; nil = no such list
	Policy   fleet.Policy
	Yes      bool               // remove; else only say what would be
	PAT      secret.PAT         // given by hand; zero = as configured
	Progress func(done, of int) // of removing
}

// Sweep looks at every agent of the configured target and removes those that fleet.Plan dooms. It
// needs no VM of Azure to run on. What one agent fails by is in its verdict; the error says that
// nothing could be looked at, that the list is refused, or that the time was over.
func Sweep(ctx context.Context, o Options, s Sweeping) ([]fleet.Verdict, error) {
	b, err := newBoot(o)
	if err != nil {
		return nil, err
	}
	b.given = s.PAT
	defer b.drop()
	if err := b.configure(); err != nil {
		return nil, err
	}
	if b.Config.Target.Kind() == "" {
		return nil, fault.New(fault.Config, "the target is missing").
			Hint("Name it: --set target.pool.name=Default, for example. User data and VM tags are not read here.")
	}
	b.network.Large = true
	if b.client, err = b.network.Client(); err != nil {
		return nil, err
	}
	client, clock := *b.client, &serverClock{next: b.client.Transport}
	client.Transport, b.client = clock, &client
	b.access = b.reach()
	ctx, cancel := context.WithTimeoutCause(ctx, b.Config.Deadline, retry.ErrDeadline)
	defer cancel()
	var all []*devops.Agent
	err = b.patiently(ctx, func(c *devops.Client) (err error) {
		if b.Place, err = c.Find(ctx, b.wanted()); err == nil {
			all, err = c.All(ctx, b.Place)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if skew := clock.ahead.Abs(); skew > maxSkew { // ages are made of the server's times and this clock
		return nil, fault.New(fault.Usage, "this machine's clock differs from the server's by %s", skew.Round(time.Second)).
			Hint("Set the clock right (timedatectl), or run sweep elsewhere. Nothing was removed.")
	}
	slices.SortFunc(all, func(x, y *devops.Agent) int {
		return cmp.Compare(strings.ToLower(x.Name), strings.ToLower(y.Name))
	})
	verdicts, err := fleet.Plan(all, s.Existing, s.Policy, time.Now())
	if err == nil && s.Yes {
		err = fleet.Carry(ctx, target{b}, verdicts, s.Progress)
	}
	for i := range verdicts {
		v := &verdicts[i]
		v.Why, v.Hint = b.Redactor.Redact(v.Why), b.Redactor.Redact(v.Hint)
	}
	return verdicts, err
}

// A serverClock notes how far the clock of the server that answered last is ahead of this machine's.
type serverClock struct {
	next  http.RoundTripper
	ahead time.Duration
}

func (c *serverClock) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := c.next.RoundTrip(r)
	if err == nil {
		if at, e := http.ParseTime(res.Header.Get("Date")); e == nil {
			c.ahead = time.Until(at)
		}
	}
	return res, err
}

// A target is the configured one, as a sweep asks it.
type target struct{ b *Boot }

func (t target) ByID(ctx context.Context, id int) (*devops.Agent, error) {
	c, err := t.b.access.DevOps(ctx)
	if err != nil {
		return nil, err
	}
	return c.ByID(ctx, t.b.Place, id)
}

func (t target) Delete(ctx context.Context, a *devops.Agent) error {
	c, err := t.b.access.DevOps(ctx)
	if err != nil {
		return err
	}
	return c.Delete(ctx, t.b.Place, a)
}

// patiently asks Azure DevOps, with the one retry loop.
func (b *Boot) patiently(ctx context.Context, do func(*devops.Client) error) error {
	return b.retry(ctx, journal.Waiting, func() error {
		c, err := b.access.DevOps(ctx)
		if err != nil {
			return err
		}
		return do(c)
	}, func(int) {})
}
