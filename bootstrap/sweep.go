package bootstrap

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"azp-bootstrap/bootstrap/devops"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/health"
	"azp-bootstrap/bootstrap/secret"
)

// Sweeping says which agents of VMs that are gone are removed from the configured target.
type Sweeping struct {
	Existing  map[string]bool // instance IDs (vmId, lower case) of the VMs that exist; nil = no such list
	OlderThan time.Duration   // offline for longer than this is gone; negative = that says nothing
	Yes       bool            // remove; else only say what would be
	PAT       secret.PAT      // given by hand; zero = as configured
}

// The fates of an agent in a sweep.
const (
	Kept    = "kept"
	Doomed  = "would be removed"
	Gone    = "removed"
	Refused = "failed"
)

// A Swept agent is one line of a sweep's report.
type Swept struct {
	Agent      string     `json:"agent"`
	ID         int        `json:"id"`
	InstanceID string     `json:"instanceId,omitempty"` // empty: not one of ours
	Online     bool       `json:"online"`
	Since      *time.Time `json:"since,omitempty"` // of being online or offline, if the server tells
	Fate       string     `json:"fate"`
	Why        string     `json:"why"`
	Class      string     `json:"class,omitempty"` // of a failure
	Hint       string     `json:"hint,omitempty"`
}

// Sweep looks at every agent of the configured target and removes those of ours (they carry the
// instance ID of their VM) that are offline and whose VM is gone. It needs no VM of Azure to run on,
// and touches neither an agent that is online nor one that is not ours. What one agent fails by is in
// its line; the error says that nothing could be looked at.
func Sweep(ctx context.Context, o Options, s Sweeping) ([]Swept, error) {
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
		return nil, fault.New(fault.Config, "the target is missing").Hint("Name it: --set target.pool.name=Default, for example. User data and VM tags are not read here.")
	}
	ctx, cancel := context.WithTimeoutCause(ctx, b.Config.Deadline, errDeadline)
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
	slices.SortFunc(all, func(x, y *devops.Agent) int { return cmp.Compare(strings.ToLower(x.Name), strings.ToLower(y.Name)) })
	report := make([]Swept, 0, len(all))
	for _, a := range all {
		line := Swept{Agent: a.Name, ID: a.ID, InstanceID: a.InstanceID, Online: a.Online, Fate: Kept}
		if !a.Since.IsZero() {
			line.Since = &a.Since
		}
		var gone bool
		if gone, line.Why = s.gone(a, time.Now()); gone {
			line.Fate = Doomed
		}
		if gone && s.Yes && ctx.Err() == nil {
			b.sweepAway(ctx, a, &line)
		}
		report = append(report, line)
	}
	return report, ctx.Err()
}

// gone reports whether an agent is one of ours whose VM is gone, and why, or why not.
func (s Sweeping) gone(a *devops.Agent, now time.Time) (bool, string) {
	offline := now.Sub(a.Since)
	switch {
	case a.InstanceID == "":
		return false, "not registered by azp-bootstrap"
	case a.Online:
		return false, "online"
	case s.Existing != nil && !s.Existing[a.InstanceID]:
		return true, "its VM is not in the list"
	case s.OlderThan >= 0 && a.Since.IsZero():
		return false, "offline, the server does not tell since when"
	case s.OlderThan >= 0 && offline > s.OlderThan:
		return true, "offline for longer than " + s.OlderThan.String()
	case s.Existing != nil:
		return false, "its VM exists"
	}
	return false, "not offline for long enough"
}

// sweepAway removes an agent, if a second look finds it unchanged: its VM may have come back.
func (b *Boot) sweepAway(ctx context.Context, a *devops.Agent, line *Swept) {
	err := b.patiently(ctx, func(c *devops.Client) error {
		there, err := c.ByID(ctx, b.Place, a.ID)
		switch {
		case errors.Is(err, devops.ErrGone):
			line.Fate, line.Why = Kept, "gone by itself meanwhile"
			return nil
		case err != nil:
			return err
		case !there.Offline || there.InstanceID != a.InstanceID:
			line.Fate, line.Why = Kept, "came back meanwhile"
			return nil
		}
		line.Fate = Gone
		return c.Delete(ctx, b.Place, there)
	})
	if err != nil {
		f := fault.From(err)
		line.Fate, line.Why, line.Class, line.Hint = Refused, b.Redactor.Redact(f.Error()), f.Class.Code, b.Redactor.Redact(f.Advice)
	}
}

// patiently asks Azure DevOps, with the one retry loop.
func (b *Boot) patiently(ctx context.Context, do func(*devops.Client) error) error {
	return b.retry(ctx, health.Waiting, func() error {
		c, err := b.devops(ctx)
		if err != nil {
			return err
		}
		return do(c)
	}, func(int) {})
}
