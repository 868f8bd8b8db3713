package agent

import (
	"bytes"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"unicode/utf8"
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

// capabilitiesFile is where the agent looks for capabilities, NAME=value by the line, which are no variables of
// jobs (UserCapabilitiesProvider.cs). A line without = is none: by the first one we know our own file.
const (
	mostCapabilities = 256 << 10 // bytes

	capabilitiesFile = ".capabilities"
	capabilitiesHead = "# of agent.capabilities"
)

// tell writes anew what the agent is to show of this VM, before it starts.
func (h Home) tell(s Service) error {
	if err := h.mark(s.Marks); err != nil {
		return err
	}
	return h.capable(s.Capabilities, h.putOwn)
}

// capable writes the capabilities. Without any, a file that somebody else wrote stays, but for lines that would
// tell of another VM: they count more than those of .env (CapabilitiesManager.cs), and a job may have written them.
func (h Home) capable(all []string, put func(name, content string, mode fs.FileMode) error) error {
	before, err := h.read(capabilitiesFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		before = nil // no file of the agent's
	}
	after := string(before)
	switch {
	case len(all) == 0 && (len(before) > mostCapabilities || !utf8.Valid(before) || bytes.IndexByte(before, 0) >= 0):
		after = "" // nobody writes such a file, but to hide a line: the agent reads it whole, and UTF-16 as well
	case len(all) > 0:
		after = capabilitiesHead + "\n" + strings.Join(all, "\n") + "\n"
	case strings.HasPrefix(after, capabilitiesHead):
		after = ""
	case strings.Contains(strings.ToUpper(after), markPrefix):
		lines := strings.FieldsFunc(after, func(r rune) bool { return r == '\n' || r == '\r' })
		lines = slices.DeleteFunc(lines, func(l string) bool { return strings.Contains(strings.ToUpper(l), markPrefix) })
		after = strings.Join(append(lines, ""), "\n")
	}
	if string(before) == after && err == nil {
		return nil
	}
	return put(capabilitiesFile, after, 0o644)
}
