package bootstrap

import (
	"context"
	"math/rand/v2"
	"time"

	"azp-bootstrap/bootstrap/azure"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/journal"
	"azp-bootstrap/bootstrap/retry"
)

// askSecret is how often a VM that is watched over asks the vault again when its secret's end is
// near: a new version may have been stored, and status and metrics shall tell of that one. It is
// spread by a half, so that a fleet of one age does not ask at once.
const askSecret = time.Hour

// askForSecrets asks the vault again and again while the secret that is known ends soon, and hands
// on what it says. It has a token and a client of its own, and drops the PAT at once. The role
// Key Vault Secrets User, and the access policy Get, allow nothing by which the end alone could be
// read (learn.microsoft.com, "Get Secret Versions" wants the permission List).
func (a *attempt) askForSecrets(ctx context.Context, told chan<- azure.Secret) {
	c := a.member.VM.Config.Credential
	if c.Entra || c.KeyVault.Secret == "" {
		return
	}
	for said := ""; retry.Pause(ctx, askSecret/2+rand.N(askSecret)); {
		if s := a.journal.State(); s.Phase != journal.Ready || !endsSoon(s.Secret, c.WarnBefore) {
			continue
		}
		apart := a.member.Access.Apart()
		s, err := apart.Secret(ctx)
		apart.Drop()
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			said = ""
			select {
			case told <- s:
			case <-ctx.Done():
			}
		} else if f := fault.From(err); f.Error() != said {
			said = f.Error()
			a.Log.WithField("hint", f.Advice).
				Warn("the agent works on, but could not be deregistered with this secret: " + said)
		}
	}
}

// endsSoon reports whether a secret that is known ends within before, or has ended.
func endsSoon(s *journal.Secret, before time.Duration) bool {
	return s != nil && s.Expires != nil && time.Until(*s.Expires) < before
}

// noteSecret records what the vault says of the secret by now, unless another run works on this VM:
// then that one has asked itself.
func (a *attempt) noteSecret(s azure.Secret) {
	a.apart(func(stood journal.State) {
		if stood.Phase != journal.Ready || stood.Secret.Same(s.Version, s.Expires) { // it was warned of once
			return
		}
		if stood.Secret != nil && stood.Secret.Version != s.Version {
			a.Log.WithField("version", s.Version).Info("the vault has a new version of the secret")
		}
		if err := a.member.NoteSecret(s); err != nil {
			a.Log.WithError(err).Warn("what the vault says of the secret could not be recorded")
		}
	})
}
