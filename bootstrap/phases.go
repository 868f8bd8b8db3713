package bootstrap

import (
	"context"
	"time"

	"github.com/sirupsen/logrus"

	"azp-bootstrap/bootstrap/access"
	"azp-bootstrap/bootstrap/azure"
	"azp-bootstrap/bootstrap/config"
	"azp-bootstrap/bootstrap/devops"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/journal"
)

// discover asks IMDS which VM this is, and lets user data and tags complete the configuration. A
// disk that was another VM's is wiped of that VM's registration; the server is not told, because
// the agent may be the other VM's.
func discover(ctx context.Context, b *Boot) (logrus.Fields, error) {
	vm, err := b.imds.Instance(ctx)
	if err != nil {
		return nil, err
	}
	b.VM = vm
	if err := b.knows(); err != nil {
		return nil, err
	}
	before := b.state().InstanceID
	if laid := b.Runner.LaidFor(); before != vm.VMID && (before != "" || laid != "" && laid != vm.VMID) {
		b.Log.WithFields(logrus.Fields{"instance": vm.VMID, "before": before + laid}).Warn("this disk was another VM's: its local registration is wiped, this VM boots as new")
		if err := b.Runner.Remove(ctx, b.state().Agent.Service); err != nil {
			return nil, err
		}
		if err := b.Runner.Guarded(); err != nil { // only what is root's to empty is emptied
			return nil, err
		}
		if err := b.Runner.Wipe(); err != nil {
			return nil, err
		}
	}
	if before != vm.VMID {
		if err := b.journal.Update(func(s *journal.State) { s.NewInstance(vm.VMID) }); err != nil {
			return nil, err
		}
	}
	return logrus.Fields{"vm": vm.Name, "instance": vm.VMID, "location": vm.Location, "agent": b.Agent}, nil
}

// knows completes the configuration by what IMDS says of the VM, and fills in its names.
func (b *Boot) knows() (err error) {
	vm := b.VM
	layers, err := b.loader.Remote(b.Config, vm.UserData, vm.Tags)
	if err != nil {
		return err
	}
	if len(layers) > 0 {
		if b.Config, err = b.loader.Config(layers...); err != nil {
			return err
		}
		if err := b.equip(); err != nil {
			return err
		}
	}
	if err := b.Config.CheckCloud(vm.Cloud); err != nil {
		return err
	}
	b.Agent, b.Tags, err = b.Config.Names(config.Facts{
		ComputerName: vm.ComputerName, VMID: vm.VMID, VMName: vm.Name, ScaleSet: vm.ScaleSet, Location: vm.Location,
		Zone: vm.Zone, ResourceGroup: vm.ResourceGroup, SubscriptionID: vm.SubscriptionID, InstanceIndex: vm.Index(), Tags: vm.Tags,
	})
	return err
}

// target is the configured target in the words of state.json.
func (b *Boot) target() journal.Target {
	t := b.Config.Target
	return journal.Target{Kind: t.Kind(), Project: t.Project(), Name: t.Name(), URL: b.Config.Server.Base}
}

// joining is the configured target with the IDs that it was found by.
func (b *Boot) joining() journal.Target {
	t := b.target()
	t.ProjectID, t.ID, t.PoolID = b.Place.ProjectID, b.Place.ID, b.Place.PoolID
	return t
}

// roleSpread is how long role assignments may take to reach a vault (learn.microsoft.com, "Azure
// RBAC limitations": up to 10 minutes).
const roleSpread = 10 * time.Minute

// reach is access to Azure DevOps as it is configured.
func (b *Boot) reach() *access.Access {
	young := func() bool {
		known := b.state()
		return !b.journal.Looks() && time.Since(b.begun) < roleSpread &&
			(known.Attempt <= 1 || time.Since(known.StartedAt) < roleSpread)
	}
	return access.New(access.Way{
		Credential: b.Config.Credential, Server: b.Config.Server, IMDS: b.imds, Client: b.client, Redactor: b.Redactor, Young: young, Noted: b.noteSecret,
	})
}

// noteSecret remembers what the vault says of the secret, and warns of its end ahead of time.
func (b *Boot) noteSecret(s azure.Secret) error {
	known := journal.Secret{Version: s.Version}
	expires := s.Expires.UTC()
	if !s.Expires.IsZero() {
		known.Expires = &expires
	}
	if err := b.journal.Update(func(s *journal.State) { s.Secret = &known }); err != nil || s.Expires.IsZero() {
		return err
	}
	if left := time.Until(expires); left < b.Config.Credential.WarnBefore {
		b.Log.WithFields(logrus.Fields{"secret": b.Config.Credential.KeyVault.Secret, "expires": expires.Format(time.RFC3339), "days": int(left.Hours() / 24)}).
			Warn("the PAT's secret expires soon: store a new PAT as a new version of it; the VMs take it by themselves")
	}
	return nil
}

// drop forgets the PAT, and what was asked with it.
func (b *Boot) drop() {
	if b.access != nil {
		b.access.Drop()
	}
	b.found = nil
}

// credential fetches the PAT from Key Vault as the VM's managed identity, or that identity's own token
// for Azure DevOps.
func credential(ctx context.Context, b *Boot) (logrus.Fields, error) {
	fields := logrus.Fields{"vault": b.access.Vault(), "secret": b.Config.Credential.KeyVault.Secret}
	if b.Config.Credential.Entra {
		fields = logrus.Fields{"identity": b.access.Identity().String()}
	}
	return fields, b.access.Fetch(ctx)
}

// preflight asks Azure DevOps whether the PAT can do the job, before anything is changed.
func preflight(ctx context.Context, b *Boot) (logrus.Fields, error) {
	c, err := b.access.DevOps(ctx)
	if err != nil {
		return nil, err
	}
	if b.Place.ID == 0 {
		if b.Place, err = b.look(ctx, c); err != nil {
			return nil, err
		}
	}
	if err := c.Crowded(); err != nil { // rather now than in the middle of config.sh
		return nil, err
	}
	return logrus.Fields{"target": b.Place.String(), "id": b.Place.ID}, nil
}

// look finds the target: by the IDs of the journal if the VM stands in it already, so that a rename changes nothing, else
// by name. One that is shown by neither was deleted and may have been made anew under its name.
func (b *Boot) look(ctx context.Context, c *devops.Client) (devops.Place, error) {
	if s := b.state(); s.Agent.ID != 0 && s.Target.ID != 0 && s.Target.Named(b.target()) {
		p, err := b.placed(ctx, c)
		if err == nil {
			p, err = c.Stands(ctx, p)
		}
		if b.byID = err == nil; b.byID || fault.From(err).Class != fault.Target {
			return p, err
		}
	}
	return c.Find(ctx, access.Target(b.Config))
}
