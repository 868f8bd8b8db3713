// Package vm is who this machine is and what it is configured to be: a value that is made when the
// last source of the configuration is in, and never changed.
package vm

import (
	"context"
	"os"

	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/azure"
	"azp-bootstrap/bootstrap/config"
	"azp-bootstrap/bootstrap/devops"
	"azp-bootstrap/bootstrap/journal"
	"azp-bootstrap/bootstrap/line"
)

// A VM is this machine.
type VM struct {
	Instance  azure.Instance // as IMDS describes it; zero as long as IMDS has not answered
	Config    *config.Config // complete when IMDS has answered; before, without what user data and tags add
	AgentName string         // on this VM
	AgentTags []string       // filled in for this VM

	AgentCapabilities []string // NAME=value, filled in for this VM
}

// Known reports whether IMDS has told which VM this is.
func (v VM) Known() bool { return v.Instance.VMID != "" }

// AsProcess reports whether the agent is a process of the daemon, not a service of the OS.
func (v VM) AsProcess() bool { return v.Config.Agent.Service == "process" }

// Target is the configured target in the words of state.json, without IDs.
func (v VM) Target() journal.Target {
	t := v.Config.Target
	return journal.Target{Kind: t.Kind(), Project: t.Project(), Name: t.Name(), URL: v.Config.Server.Base}
}

// TargetAt is the configured target with the IDs that it was found by.
func (v VM) TargetAt(p devops.Place) journal.Target {
	t := v.Target()
	t.ProjectID, t.ID, t.PoolID = p.ProjectID, p.ID, p.PoolID
	return t
}

// Marks are what the agent tells of this VM; registered says when it was registered.
func (v VM) Marks(registered string) agent.Marks {
	i := v.Instance
	return agent.Marks{
		InstanceID: i.VMID, ScaleSet: i.ScaleSet, ResourceGroup: i.ResourceGroup, SubscriptionID: i.SubscriptionID,
		Facts: agent.Facts{
			VM: sayable(i.Name), Size: sayable(i.Size), Zone: sayable(i.Zone), Image: sayable(i.Image),
			Spot: map[bool]string{true: "true"}[i.Spot],
		},
		Registered: registered,
	}
}

// sayable is a fact that fits in a line; one that does not is no reason to fail.
func sayable(text string) string {
	if line.Wrong(text, line.Longest) != "" {
		return ""
	}
	return text
}

// Sources are the configuration as far as this VM's disk and environment give it, and IMDS, which
// gives the rest.
type Sources struct {
	Config *config.Config // without what user data and tags add
	IMDS   *azure.IMDS
	loader *config.Loader
}

// Read reads file, the environment and set (KEY=VALUE). It changes nothing. dial leads to IMDS; nil
// = the system's. The error is of the class config.
func Read(file string, set []string, dial azure.Dial) (*Sources, error) {
	l, err := config.Load(file, os.Environ(), set)
	if err != nil {
		return nil, err
	}
	c, err := l.Config()
	if err != nil {
		return nil, err
	}
	return &Sources{Config: c, IMDS: azure.NewIMDS(c.IMDS.Endpoint, dial), loader: l}, nil
}

// Same reports whether both sources say the same.
func (s *Sources) Same(o *Sources) bool { return s.Config.Show() == o.Config.Show() }

// Unknown is the VM before IMDS has answered.
func (s *Sources) Unknown() VM { return VM{Config: s.Config} }

// Identify asks IMDS which VM this is, and completes the configuration by user data and tags. Who this VM is and what it is
// configured to be are two answers: if the second is refused, the VM is known beside the error, with the configuration as it
// was before.
func (s *Sources) Identify(ctx context.Context) (VM, error) {
	i, err := s.IMDS.Instance(ctx)
	if err != nil {
		return s.Unknown(), err
	}
	v, err := s.completed(i)
	if err != nil {
		return VM{Instance: i, Config: s.Config}, err
	}
	return v, nil
}

func (s *Sources) completed(i azure.Instance) (v VM, err error) {
	v = VM{Instance: i, Config: s.Config}
	layers, err := s.loader.Remote(s.Config, i.UserData, i.Tags)
	if err != nil {
		return v, err
	}
	if len(layers) > 0 {
		if v.Config, err = s.loader.Config(layers...); err != nil {
			return v, err
		}
	}
	if err := v.Config.CheckCloud(i.Cloud); err != nil {
		return v, err
	}
	facts := config.Facts{
		ComputerName: i.ComputerName, VMID: i.VMID, VMName: i.Name, ScaleSet: i.ScaleSet, Location: i.Location,
		Zone: i.Zone, ResourceGroup: i.ResourceGroup, SubscriptionID: i.SubscriptionID,
		InstanceIndex: i.Index(), Tags: i.Tags,
	}
	if v.AgentCapabilities, err = v.Config.Capabilities(facts); err != nil {
		return v, err
	}
	v.AgentName, v.AgentTags, err = v.Config.Names(facts)
	return v, err
}
