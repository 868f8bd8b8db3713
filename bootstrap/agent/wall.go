package agent

import "net/netip"

// The wall keeps jobs from Azure's metadata service (IMDS): whoever asks it gets a token of the VM's
// identity, and with that the PAT. cron, at and systemd-run --user leave the agent's control group,
// so the wall stands around the account that jobs run as: a table of the kernel's packet filter,
// which a unit of its own loads. What systemd denies the agent's unit is a second wall.

// MetadataUnit is the unit that loads the wall, early in each boot.
const MetadataUnit = "azp-bootstrap-metadata.service"

// secondWallName is the second wall's file, in the folder that systemd reads beside a unit.
const secondWallName = "azp-bootstrap-metadata.conf"

// A Reach is how far the jobs' account gets.
type Reach string

// The reaches, as in state.json and in metrics.
const (
	Closed  Reach = "closed"
	Open    Reach = "open"
	Unknown Reach = "unknown"
)

// metadataService is where Azure's IMDS answers on every VM (learn.microsoft.com, "Azure Instance Metadata Service").
var metadataService = netip.MustParseAddr("169.254.169.254")
