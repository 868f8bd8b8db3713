// Package join is the way up: the phases that bring a VM to an agent that is online in Azure
// DevOps.
//
//	discover    IMDS tells which VM this is
//	credential  the managed identity fetches the PAT from Key Vault
//	preflight   Azure DevOps knows the PAT, the target exists, the PAT may manage it
//	register    the agent is registered, in a folder laid fresh: by its config.sh, or by the daemon itself
//	service     the agent's service is installed and started
//	online      Azure DevOps shows the agent online
//
// Each is a function of what it needs, and returns what it found. Each first looks at what is
// already there.
package join

import (
	"context"
	"errors"
	"time"

	"azp-bootstrap/bootstrap/devops"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/journal"
	"azp-bootstrap/bootstrap/member"
	"azp-bootstrap/bootstrap/phase"
	"azp-bootstrap/bootstrap/retry"
)

// A Place is the target that the VM joins.
type Place struct {
	devops.Place
	ByID bool // found by the journal's IDs: by now another may bear the configured name
}

// A Try is one attempt to join, over all its retries: what a phase found that a retry or a later
// phase needs.
type Try struct {
	At    Place        // the target; zero: it was not found yet
	Drain member.Drain // of the agent that stands on this VM, if it must make way

	unknown int  // how often config.sh failed with words that nobody knows
	met     bool // config.sh met an agent in the pool behind the target, which did not list it
	session bool // the agent that was taken over showed online: a session of its may be open still
}

// Up takes the VM from credential to online. The agent is not started before gate has returned well.
// The error is the fault of the phase that could not be done.
func Up(ctx context.Context, r phase.Runner, m member.Member, t *Try, gate func(context.Context) error) error {
	if err := r.Run(ctx, journal.Credential, func(ctx context.Context) (phase.Fields, error) {
		return credential(ctx, m)
	}); err != nil {
		return err
	}
	if err := r.Run(ctx, journal.Preflight, func(ctx context.Context) (f phase.Fields, err error) {
		t.At, f, err = preflight(ctx, m, t.At)
		return f, err
	}); err != nil {
		return err
	}
	err := settle(ctx, r, m, t, gate)
	if errors.Is(err, errUnproved) {
		if err := fallBack(r, m, fault.From(err)); err != nil {
			return err
		}
		err = settle(ctx, r, m, t, gate)
	}
	return err
}

// settle takes the VM from register to online.
func settle(ctx context.Context, r phase.Runner, m member.Member, t *Try, gate func(context.Context) error) error {
	fresh := false
	if err := r.Run(ctx, journal.Register, func(ctx context.Context) (f phase.Fields, err error) {
		fresh, f, err = register(ctx, m, t)
		if why := fault.From(err); byRest(m) && mayBeTheWay(why) {
			if err := fallBack(r, m, why); err != nil {
				return nil, err
			}
			fresh, f, err = register(ctx, m, t)
		}
		return f, err
	}); err != nil {
		return err
	}
	var started time.Time
	if err := r.Run(ctx, journal.Service, func(ctx context.Context) (phase.Fields, error) {
		if err := gate(ctx); err != nil {
			return nil, err
		}
		if err := hold(ctx, m, t.At.Place); err != nil {
			return nil, err
		}
		since, f, err := startService(ctx, m, t.At.Place, fresh)
		if fresh = false; !since.IsZero() {
			started = since
		}
		return f, err
	}); err != nil {
		return err
	}
	begun := time.Now()
	return r.Run(ctx, journal.Online, func(ctx context.Context) (f phase.Fields, err error) {
		heard := listen(ctx, m, started)
		started, f, err = online(ctx, m, t.At.Place, heard, begun, provesIn(m, t))
		if why := fault.From(err); why != nil && why.Class != fault.Service {
			begun = time.Now() // an outage, which the agent meets as well: it does not count
		}
		return f, err
	})
}

// Move takes a VM whose agent runs out of its former target, if another is configured. Nothing is
// touched before it is known that the VM can join the new one, and until then the VM stands where
// it stood. How long its job is waited for, drain.timeout says: it is no part of the deadline,
// which is limited's.
func Move(ctx, limited context.Context, r phase.Runner, m member.Member, t *Try) error {
	if err := r.Verify(limited, journal.Credential, func(ctx context.Context) (phase.Fields, error) {
		return credential(ctx, m)
	}); err != nil {
		return err
	}
	if err := r.Verify(limited, journal.Preflight, func(ctx context.Context) (f phase.Fields, err error) {
		t.At, f, err = preflight(ctx, m, t.At)
		return f, err
	}); err != nil {
		return err
	}
	c := m.VM.Config
	ctx, cancel := context.WithTimeoutCause(ctx, c.Deadline+c.Drain.Timeout, retry.ErrDeadline)
	defer cancel()
	return r.Verify(ctx, journal.Register, func(ctx context.Context) (phase.Fields, error) {
		return phase.Fields{"agent": m.VM.AgentName}, makeWay(ctx, m, t)
	})
}

// credential fetches the PAT from Key Vault as the VM's managed identity, or that identity's own
// token for Azure DevOps.
func credential(ctx context.Context, m member.Member) (phase.Fields, error) {
	fields := phase.Fields{"vault": m.Access.Vault(), "secret": m.VM.Config.Credential.KeyVault.Secret}
	if m.VM.Config.Credential.Entra {
		fields = phase.Fields{"identity": m.Access.Identified()}
	}
	return fields, m.Access.Fetch(ctx)
}
