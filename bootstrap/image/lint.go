package image

import (
	"io/fs"
	"path/filepath"
	"strings"

	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/config"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/journal"
	"azp-bootstrap/bootstrap/secret"
)

// lint looks for what must not be in an image, whoever made it.
func (i *image) lint() {
	if i.joined() { // what follows from that is not said file by file
		i.note(journal.File(i.state), "the agent of this VM is registered",
			"azp-bootstrap deregister takes the VM out of Azure DevOps and azp-bootstrap seal removes the rest.")
	}
	i.home.Lint(i.note)
	if i.former != nil && i.former.RegistrationFile() != "" {
		i.note(i.former.Dir, "the folder of an agent that was registered here, with its key", "Delete it: rm -r "+i.former.Dir)
	}
	for _, n := range stateFiles {
		i.remains(filepath.Join(i.state, n), "the state of the host that the image was built on",
			"azp-bootstrap seal removes it.")
	}
	_ = i.tree.Walk(i.at(unitFolder), func(name string, d fs.DirEntry, err error) error {
		if err == nil && agent.IsUnit(d.Name()) {
			i.note(name, "the service of an agent that is not this image's", "azp-bootstrap seal removes it.")
		}
		return nil
	})
	if err := i.logs(func(name, why string) error {
		i.note(name, why, "azp-bootstrap seal empties it.")
		return nil
	}); err != nil {
		i.note(i.at("/var/log"), err.Error(), fault.Here("Run as root."))
	}
	i.lintText()
	i.lintOwners()
	i.lintService()
	if i.Deep {
		i.lintDeep()
	}
}

// remains notes a file that should be gone. One that is a link is named with what it leads to: that
// is not removed, because it may serve others.
func (i *image) remains(name, wrong, fix string) {
	fi, err := i.tree.Lstat(name)
	if err != nil {
		return
	}
	if to := i.leadsTo(name, fi); to != "" {
		wrong, fix = wrong+": a link to "+to, "Delete both: azp-bootstrap seal follows no link to delete a file."
	}
	i.note(name, wrong, fix)
}

// maxText bounds what is read of them.
const maxText = 4 << 20

// lintText looks for tokens where people leave them.
func (i *image) lintText() {
	if _, err := config.LoadFrom(i.tree, i.config, nil, i.set); err != nil && fault.From(err).Class == fault.Config {
		if _, missing := i.tree.Stat(i.config); missing == nil {
			f := fault.From(err)
			i.note(i.config, f.Error(), f.Advice)
		}
	}
	for _, name := range i.matching(textFiles) {
		if data, err := i.tree.ReadPlain(name, maxText); err == nil && secret.LooksLikeToken(string(data)) {
			i.note(name, "something in it is shaped like a token",
				"Delete it, and revoke the token: every clone of the image would have it.")
		}
	}
}

// matching are the files of the image that patterns find.
func (i *image) matching(patterns []string) (names []string) {
	for _, p := range patterns {
		found, _ := i.tree.Glob(i.at(p)) // our own patterns are right
		names = append(names, found...)
	}
	return names
}

// trusted are files that root trusts.
func (i *image) trusted() []string {
	conf, home := filepath.Dir(i.config), i.home.Dir
	names := []string{
		i.config, conf, filepath.Join(conf, "conf.d"), home, home + ".package", i.at("/usr/bin/azp-bootstrap"),
	}
	for _, dir := range unitFolders {
		names = append(names, i.at(dir+"/"+daemonUnit))
	}
	folders := []string{filepath.Join(conf, "conf.d"), home, filepath.Join(home, "bin"), home + ".package"}
	if i.start != "" {
		names, folders = append(names, i.start), append(folders, i.start)
	}
	for _, dir := range folders {
		entries, _ := i.tree.ReadDir(dir)
		for _, e := range entries {
			names = append(names, filepath.Join(dir, e.Name()))
		}
	}
	return names
}

// lintOwners looks for files that root trusts and others may write.
func (i *image) lintOwners() {
	agents := i.joined() // a folder that is handed over to the agent's account
	for _, name := range i.trusted() {
		fi, err := i.tree.Stat(name)
		if err != nil || agents && (name == i.home.Dir || strings.HasPrefix(name, i.home.Dir+string(filepath.Separator))) {
			continue
		}
		if who, fix := config.WritableByOthers(fi); who != "" {
			i.note(name, who, "Run: "+fix+" "+name)
		}
	}
}

// lintService: in an image whose daemon does not start, no VM joins. What may end a job there is no
// finding: an image may have its reasons.
func (i *image) lintService() {
	if why := notEnabled(i.tree); why != "" && HasSystemd(i.tree) {
		i.note(i.at(unitFolder+"/"+daemonUnit), "the daemon does not start at boot: "+why, enableIt)
	}
	if i.walled && HasSystemd(i.tree) && agent.NFT(i.tree) == "" {
		i.Say("Note: nft is missing, by which jobs are kept from Azure's metadata service (agent.metadata: deny). %s", agent.NoNFT)
	}
	for _, d := range disturbances(i.tree) {
		i.Say("Note: %s. %s", d.What, d.Fix)
	}
}
