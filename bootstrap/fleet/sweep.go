package fleet

import (
	"cmp"
	"context"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/sirupsen/logrus"

	"azp-bootstrap/bootstrap/access"
	"azp-bootstrap/bootstrap/azure"
	"azp-bootstrap/bootstrap/config"
	"azp-bootstrap/bootstrap/devops"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/retry"
	"azp-bootstrap/bootstrap/secret"
)

// Sweeping says which agents of deleted VMs are removed from the configured target.
type Sweeping struct {
	ConfigFile string
	Set        []string // --set KEY=VALUE
	Existing   *List    // the VMs that exist; nil = no such list
	Policy     Policy
	Yes        bool               // remove; else only say what would be
	PAT        secret.PAT         // given by hand; zero = as configured
	Progress   func(done, of int) // of removing
	Log        *logrus.Logger
	Redactor   *secret.Redactor
}

// Sweep looks at every agent of the configured target and removes those that Plan dooms. It needs
// no VM of Azure to run on. What one agent fails by is in its verdict; the error says that nothing
// could be looked at, that the list is refused, or that the time was over.
func Sweep(ctx context.Context, s Sweeping) ([]Verdict, error) {
	if err := access.Protect(s.Log); err != nil {
		return nil, err
	}
	c, err := s.configured()
	if err != nil {
		return nil, err
	}
	t := target{}
	if t.access, t.clock, err = s.access(c); err != nil {
		return nil, err
	}
	defer t.access.Drop()
	ctx, cancel := context.WithTimeoutCause(ctx, c.Deadline, retry.ErrDeadline)
	defer cancel()
	all, err := t.look(ctx, access.Target(c), s.Log)
	if err != nil {
		return nil, err
	}
	verdicts, err := Plan(all, s.Existing, s.Policy, time.Now())
	if err == nil && s.Yes {
		err = Carry(ctx, t, verdicts, s.Progress)
	}
	for i := range verdicts {
		v := &verdicts[i]
		v.Why, v.Hint = s.Redactor.Redact(v.Why), s.Redactor.Redact(v.Hint)
	}
	return verdicts, err
}

func (s Sweeping) configured() (*config.Config, error) {
	l, err := config.Load(s.ConfigFile, os.Environ(), s.Set)
	if err != nil {
		return nil, err
	}
	l.PATGiven = s.PAT.Reveal() != ""
	c, err := l.Config()
	if err == nil && c.Target.Kind() == "" {
		err = fault.New(fault.Config, "the target is missing").
			Hint("Name it: --set target.pool.name=Default, for example. User data and VM tags are not read here.")
	}
	return c, err
}

func (s Sweeping) access(c *config.Config) (*access.Access, *serverClock, error) {
	n, err := access.Network(c, nil)
	if err != nil {
		return nil, nil, err
	}
	n.Large = true
	client, err := n.Client()
	if err != nil {
		return nil, nil, err
	}
	clock := &serverClock{next: client.Transport}
	client.Transport = clock
	return access.New(access.Way{Credential: c.Credential, Server: c.Server, Given: s.PAT,
		IMDS: azure.NewIMDS(c.IMDS.Endpoint, nil), Client: client, Redactor: s.Redactor}), clock, nil
}

// A target is the configured one, as a sweep asks it.
type target struct {
	access *access.Access
	clock  *serverClock
	place  devops.Place
}

// look finds the target, and all its agents by name.
func (t *target) look(ctx context.Context, wanted devops.Target, log *logrus.Logger) (all []*devops.Agent, err error) {
	err = retry.Do(ctx, func() error {
		c, err := t.access.DevOps(ctx)
		if err == nil {
			t.place, err = c.Find(ctx, wanted)
		}
		if err == nil {
			all, err = c.All(ctx, t.place)
		}
		return err
	}, func(w retry.Wait) {
		if w.Pause >= retry.Limit && w.Fault.After == 0 {
			t.access.Drop()
		}
		log.WithFields(logrus.Fields{"class": w.Fault.Class.Code, "wait": w.Pause.Round(time.Millisecond).String()}).
			Warn(w.Fault.Error())
	})
	if err != nil {
		return nil, err
	}
	if skew := t.clock.ahead.Abs(); skew > devops.MaxSkew { // ages are made of the server's times and this clock
		return nil, fault.New(fault.Usage, "this machine's clock differs from the server's "+
			"by %s", skew.Round(time.Second)).
			Hint("Set the clock right (timedatectl), or run sweep elsewhere. Nothing was removed.")
	}
	slices.SortFunc(all, func(x, y *devops.Agent) int {
		return cmp.Compare(strings.ToLower(x.Name), strings.ToLower(y.Name))
	})
	return all, nil
}

func (t target) ByID(ctx context.Context, id int) (*devops.Agent, error) {
	c, err := t.access.DevOps(ctx)
	if err != nil {
		return nil, err
	}
	return c.ByID(ctx, t.place, id)
}

func (t target) Delete(ctx context.Context, a *devops.Agent) error {
	c, err := t.access.DevOps(ctx)
	if err != nil {
		return err
	}
	return c.Delete(ctx, t.place, a)
}

// A serverClock notes how far the clock of the server that answered last is ahead of this
// machine's.
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
