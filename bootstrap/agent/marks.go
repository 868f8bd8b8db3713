package agent

import (
	"errors"
	"io/fs"
	"strings"
)

// Marks are what an agent tells of its VM: lines of .env, each of which shows among its
// capabilities. The daemon and sweep know by them whose an agent is.
type Marks struct {
	InstanceID                              string
	ScaleSet, ResourceGroup, SubscriptionID string // where in Azure the VM is, so that a sweep can be limited
	Facts                                   Facts
	Registered                              string // when, as RFC 3339: an agent that is taken over keeps its createdOn
}

// Facts are what a pipeline may want to know of the VM that runs its job; empty = IMDS does not say.
type Facts struct{ VM, Size, Zone, Image, Spot string }

const markPrefix = "AZP_BOOTSTRAP_"

func (m Marks) lines() map[string]string {
	return map[string]string{
		markPrefix + "INSTANCE_ID":     m.InstanceID,
		markPrefix + "SCALE_SET":       m.ScaleSet,
		markPrefix + "RESOURCE_GROUP":  m.ResourceGroup,
		markPrefix + "SUBSCRIPTION_ID": m.SubscriptionID,
		markPrefix + "VM":              m.Facts.VM,
		markPrefix + "SIZE":            m.Facts.Size,
		markPrefix + "ZONE":            m.Facts.Zone,
		markPrefix + "IMAGE":           m.Facts.Image,
		markPrefix + "SPOT":            m.Facts.Spot,
		markPrefix + "REGISTERED":      m.Registered,
	}
}

// mark writes the marks anew: .env is the service user's, so a job may have changed them, and the
// agent shows them with each session. What else stands in .env stays.
func (h Home) mark(m Marks) error {
	if m.Registered == "" { // of an earlier version: not known
		return nil
	}
	before, err := h.read(".env")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		before = nil // no file of the agent's
	}
	lines := variables("", m.lines())
	for _, line := range strings.FieldsFunc(string(before), func(r rune) bool { return r == '\n' || r == '\r' }) {
		if !strings.Contains(strings.ToUpper(line), markPrefix) { // nor one that hides a mark: VSO_AGENT_IGNORE
			lines = append(lines, line)
		}
	}
	after := strings.Join(lines, "\n") + "\n"
	if after == string(before) {
		return nil
	}
	return h.putOwn(".env", after, 0o644)
}
