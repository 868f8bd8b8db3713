// Package access is how this VM gets at Azure DevOps: as its managed identity it fetches a personal
// access token (PAT) from Key Vault, or takes that identity's own token, and shows it to Azure
// DevOps. What it holds it drops when it is told to, and asks for again when it is needed next.
package access

import (
	"context"
	"net/http"
	"net/url"

	"azp-bootstrap/bootstrap/azure"
	"azp-bootstrap/bootstrap/config"
	"azp-bootstrap/bootstrap/devops"
	"azp-bootstrap/bootstrap/secret"
)

// A Way is what access is made of.
type Way struct {
	Credential config.Credential
	Server     config.Server
	Given      secret.PAT // by hand, in place of a vault's; zero = none
	IMDS       *azure.IMDS
	Client     *http.Client
	Redactor   *secret.Redactor

	// Refused is why nobody can be reached by this way, such as certificates that cannot be read; nil = nothing.
	Refused error
	// Young reports whether role assignments may not have spread yet: then a vault's refusal
	// passes. nil = never.
	Young func() bool
	// Noted hears of each secret that the vault gave. nil = nobody does.
	Noted func(azure.Secret) error
}

// Access holds what Azure DevOps is shown, between the first question and Drop.
type Access struct {
	way    Way
	pat    secret.PAT
	vault  *azure.Vault   // with the identity's token, until it gave the PAT
	server *devops.Client // with the PAT, and what it has learnt of the server's version
	drops  int
}

// New is access that holds nothing yet.
func New(w Way) *Access { return &Access{way: w} }

// Apart is access by the same way that holds nothing yet, for who works beside.
func (a *Access) Apart() *Access { return New(a.way) }

// Fetch gets the PAT, or what stands in for one, unless it is held. The error is a fault of the
// class identity or vault.
func (a *Access) Fetch(ctx context.Context) (err error) {
	switch {
	case a.way.Refused != nil:
		return a.way.Refused
	case a.Holds():
		return nil
	case a.way.Given.Reveal() != "":
		return a.hold(secret.NewPAT(a.way.Given.Reveal()))
	case a.way.Credential.Entra:
		return a.hold(a.entra(ctx))
	}
	s, err := a.Secret(ctx)
	if err == nil && a.way.Noted != nil {
		err = a.way.Noted(s)
	}
	return err
}

// entra gets a token for Azure DevOps: the managed identity's own, or that of an application which takes the
// identity's tokens for its own.
func (a *Access) entra(ctx context.Context) (secret.PAT, error) {
	app := Application(a.way.Credential)
	if app.TenantID == "" {
		return azure.AccessToken(ctx, a.way.IMDS, a.Identity(), devops.Resource)
	}
	assertion, err := azure.AccessToken(ctx, a.way.IMDS, a.Identity(), azure.TokenExchange)
	if err != nil {
		return assertion, err
	}
	defer assertion.Drop()
	a.way.Redactor.Add(assertion)
	return app.Exchange(ctx, a.way.Client, assertion, devops.Resource, a.young())
}

func (a *Access) young() bool { return a.way.Young != nil && a.way.Young() }

// Secret asks the vault, and holds the PAT that it gives.
func (a *Access) Secret(ctx context.Context) (s azure.Secret, err error) {
	kv := a.way.Credential.KeyVault
	if a.vault == nil {
		if a.vault, err = azure.NewVault(kv.URL, a.way.IMDS, a.Identity(), a.way.Client); err != nil {
			return s, err
		}
	}
	if s, err = a.vault.Secret(ctx, kv.Secret, kv.Version, a.young()); err != nil {
		return s, err
	}
	a.vault = nil
	return s, a.hold(s.PAT, nil)
}

func (a *Access) hold(pat secret.PAT, err error) error {
	if err == nil {
		a.pat = pat
		a.way.Redactor.Add(pat)
	}
	return err
}

// Holds reports whether a PAT is held.
func (a *Access) Holds() bool { return a.pat.Reveal() != "" }

// PAT is what is held.
func (a *Access) PAT() secret.PAT { return a.pat }

// Drop forgets the PAT, and the token that opens its vault.
func (a *Access) Drop() {
	a.pat.Drop()
	a.vault, a.server = nil, nil
	a.drops++
}

// Drops counts how often what was held was dropped: what was learnt before is asked again.
func (a *Access) Drops() int { return a.drops }

// DevOps is the client of the configured organization or collection; it fetches what it shows
// there.
func (a *Access) DevOps(ctx context.Context) (*devops.Client, error) {
	if err := a.Fetch(ctx); err != nil {
		return nil, err
	}
	if a.server == nil {
		s := a.way.Server
		name := "collection " + s.Name + " of " + s.Root
		if s.Hosted {
			name = "organization " + s.Name
		}
		a.server = devops.New(s.Base, name, a.way.Client, a.shown())
	}
	return a.server, nil
}

// At is the client of base, with the same PAT: an agent may stand in an organization or collection
// that is configured no more.
func (a *Access) At(ctx context.Context, base string) (*devops.Client, error) {
	c, err := a.DevOps(ctx)
	if err != nil || base == a.way.Server.Base {
		return c, err
	}
	return devops.New(base, base, a.way.Client, a.shown()), nil
}

func (a *Access) shown() devops.Credential {
	if !a.way.Credential.Entra || a.way.Given.Reveal() != "" {
		return devops.Credential{PAT: a.pat}
	}
	return devops.Credential{PAT: a.pat, Entra: true, Application: Application(a.way.Credential).ClientID}
}

// Identity is the managed identity that is configured.
func (a *Access) Identity() azure.Identity { return azure.Identity(a.way.Credential.Identity) }

// Application is the application that is configured; zero if the managed identity is a user itself.
func Application(c config.Credential) azure.Application { return azure.Application(c.EntraIn) }

// Identified is who Azure DevOps is asked as without a PAT.
func (a *Access) Identified() string {
	if app := Application(a.way.Credential); app.TenantID != "" {
		return a.Identity().String() + ", for which " + azure.LoginHost + " gives a token of " + app.String()
	}
	return a.Identity().String() + ", its own token for Azure DevOps"
}

// Vault is the host of the configured vault.
func (a *Access) Vault() string {
	u, err := url.Parse(a.way.Credential.KeyVault.URL)
	if err != nil {
		return a.way.Credential.KeyVault.URL
	}
	return u.Hostname()
}
