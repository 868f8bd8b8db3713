package doctor

import (
	"context"
	"os"
	"slices"

	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/config"
	"azp-bootstrap/bootstrap/member"
	"azp-bootstrap/bootstrap/tree"
)

// metadata looks whether jobs reach Azure's metadata service.
func (x *examination) metadata(ctx context.Context, m member.Member) {
	const name = "metadata"
	if m.VM.Config.Agent.Metadata == config.Allow {
		x.record(name, "jobs may ask Azure's metadata service: agent.metadata is allow", nil)
		return
	}
	if os.Geteuid() != 0 && m.Setup.User != "" {
		if known := m.State().Metadata; known != nil {
			x.record(name, known.Access+" to jobs when the daemon looked last: "+known.Why, nil)
		} else {
			x.skip(name, "whether jobs reach Azure's metadata service, only root can see")
		}
		return
	}
	home := agent.Home{Dir: m.Setup.Dir, User: m.Setup.User}
	hint := "The daemon builds the wall when it starts, and says in its log why it could not: systemctl status " +
		agent.MetadataUnit + "."
	if agent.NFT(tree.Tree{}) == "" {
		hint = agent.NoNFT
	}
	switch reach, why := home.Reaches(ctx, m.VM.Config.IMDS.Endpoint); reach {
	case agent.Closed:
		x.record(name, "jobs do not reach Azure's metadata service: "+why+asRoot(home.User, m.VM.Config.Agent.Groups), nil)
	case agent.Open:
		x.warn(name, "jobs can ask Azure's metadata service for tokens of the VM's identity: "+why, hint)
	default:
		x.warn(name, "nobody knows whether jobs reach Azure's metadata service: "+why, hint)
	}
}

// asRoot says which groups let jobs pass the wall, which stands around their account.
func asRoot(account string, configured []string) (notes string) {
	all := slices.Concat(configured, agent.GroupsOf(account))
	slices.Sort(all)
	for _, group := range slices.Compact(all) {
		if agent.OpensRoot(group) {
			notes += "\nnote: but jobs are in the group " + group + ", and whoever becomes root by it reaches the service"
		}
	}
	return notes
}
