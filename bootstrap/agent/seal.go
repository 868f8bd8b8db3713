package agent

import (
	"errors"
	"io/fs"
	"strings"

	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/tree"
)

// registrationFiles are what configuring the agent leaves in its folder.
var registrationFiles = []string{
	".agent",
	".agent_migrated",
	".credentials",
	".credentials_migrated",
	".credentials_rsaparams",
	".service",
	".proxycredentials",
}

// RegistrationFile names the file that shows that this folder's agent is registered; "" if it is
// not.
func (h Home) RegistrationFile() string {
	for _, n := range registrationFiles {
		if _, err := h.Tree.Lstat(h.path(n)); err == nil {
			return h.path(n)
		}
	}
	return ""
}

// Renew makes a folder that was used fresh again, from the verified package. There may be none.
func (h Home) Renew() error {
	m, err := h.Manifest()
	if err != nil || h.isLink() || h.fresh(m.SHA256) && len(h.leftovers()) == 0 {
		return nil // Lint reports what is missing
	}
	return h.layFresh(m)
}

// isLink reports whether the folder is a link: it would be replaced, and what it leads to would
// stay.
func (h Home) isLink() bool {
	fi, err := h.Tree.Lstat(h.Dir)
	return err == nil && fi.Mode()&fs.ModeSymlink != 0
}

// leftovers are files that no package brings.
func (h Home) leftovers() (names []string) {
	for _, n := range append([]string{"_diag", "_work", ".path", ".env", capabilitiesFile}, registrationFiles...) {
		if _, err := h.Tree.Lstat(h.path(n)); err == nil {
			names = append(names, h.path(n))
		}
	}
	return names
}

// Lint looks for what must not be in an image: each finding is a file and what is wrong with it.
func (h Home) Lint(report func(file, wrong, fix string)) {
	if err := h.Guarded(); err != nil {
		f := fault.From(err)
		report(h.Dir, f.Error(), f.Advice)
	}
	if _, err := h.Tree.Stat(h.keep()); errors.Is(err, fs.ErrNotExist) {
		report(h.keep(), "there is no agent package", "azp-bootstrap prepare puts one in place.")
		return
	}
	if h.isLink() {
		report(
			h.Dir,
			"a link: sealing would leave what it leads to",
			"Name the folder itself in agent.dir and run azp-bootstrap prepare again.",
		)
		return
	}
	for _, name := range h.leftovers() {
		report(name, "left by an agent that was configured here", "azp-bootstrap seal removes it.")
	}
	m, err := h.Verify()
	if err != nil {
		f := fault.From(err)
		report(h.keep(), f.Error(), f.Advice)
		return
	}
	if !h.fresh(m.SHA256) {
		report(h.Dir, "not fresh from the package: the agent was configured here", "azp-bootstrap seal recreates it.")
	}
}

// RemoveUnits removes the units of agents below a systemd folder, and what stands around them.
func RemoveUnits(t tree.Tree, dir string) error {
	var folders []string
	err := t.Walk(dir, func(name string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err == nil && d.IsDir() && IsUnit(strings.TrimSuffix(d.Name(), ".d")):
			folders = append(folders, name)
		case err == nil && !d.IsDir() && IsUnit(d.Name()):
			err = t.Remove(name)
		}
		return err
	})
	for _, name := range folders {
		_ = t.Remove(name) // unless somebody keeps more in it
	}
	return err
}

// IsUnit reports whether a file has the name of an agent's unit, of its second wall or of the wall's own unit.
func IsUnit(name string) bool {
	return strings.HasPrefix(name, "vsts.agent.") && strings.HasSuffix(name, ".service") ||
		name == MetadataUnit || name == secondWallName
}
