package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/config"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/gate"
	"azp-bootstrap/bootstrap/health"
	"azp-bootstrap/bootstrap/journal"
	"azp-bootstrap/bootstrap/secret"
	"azp-bootstrap/bootstrap/tree"
	"azp-bootstrap/bootstrap/whole"
)

// A Sealing says what is sealed, and how.
type Sealing struct {
	Root  string // the image's root folder; "" or / = this machine
	Check bool   // look only
	Deep  bool   // SSH host keys, the machine's ID and cloud-init's traces, too
	Force bool   // although the agent is registered
	Say   func(format string, args ...any)
}

// Where says where this machine's azp-bootstrap keeps its files.
type Where struct {
	ConfigFile, StateDir string
	Set                  []string // --set KEY=VALUE
}

// A Finding is something in an image that must not be there.
type Finding struct {
	File  string `json:"file"`
	Wrong string `json:"wrong"`
	Hint  string `json:"hint"`
}

// An image is what is sealed. Its files are reached through its tree alone, so that no link in it
// leads to this machine's.
type image struct {
	Sealing
	tree    tree.Tree
	home    agent.Home
	former  *agent.Home // where the agent stands by the journal, if that is elsewhere; else nil
	state   string
	config  string
	start   string // folder of start scripts; "" = none
	walled  bool   // jobs are to be kept from the metadata service
	set     []string
	name    string // of the host that the image was built on; "" if it says nothing
	notes   []Finding
	removed int
}

// Seal is the last step of an image build: it removes all that belongs to this host, so that every
// clone boots as new, and then looks for what must not be in an image. Findings are not an error
// here. When ctx ends, it is not waited for: a file system of somebody's may answer never.
func Seal(ctx context.Context, w Where, s Sealing) ([]Finding, error) {
	var found []Finding
	done := make(chan error, 1)
	go func() {
		var err error
		found, err = seal(ctx, w, s)
		done <- err
	}()
	select {
	case err := <-done:
		return found, err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func seal(ctx context.Context, w Where, s Sealing) ([]Finding, error) {
	i := &image{Sealing: s, set: w.Set}
	if !i.live() {
		var err error
		if i.tree, err = tree.Open(s.Root); err != nil {
			return nil, fault.New(fault.State, "the image's root folder").Because(err).
				Hint("Mount the image, and name that folder with --root.")
		}
		defer i.tree.Close() //nolint:errcheck // nothing pending
	}
	i.state, i.config = i.at(w.StateDir), i.at(w.ConfigFile)
	t, err := config.ForImageIn(i.tree, i.config, w.Set)
	if err != nil { // lint says so; until it is mended, the agent is looked for where it is by default
		if t, err = config.ForImageIn(i.tree, i.at("/nowhere"), w.Set); err != nil {
			return nil, err
		}
	}
	i.home = agent.Home{Dir: i.at(t.Dir), User: t.User, Tree: i.tree}
	i.walled = t.Metadata != config.Allow
	if t.Start != "" {
		i.start = i.at(t.Start)
	}
	if s, _, err := journal.ReadIn(i.tree, i.state); err == nil && s.Agent.Setup.Dir != "" {
		if dir := i.at(s.Agent.Setup.Dir); dir != i.home.Dir { // a changed agent.dir counts at the next registration
			i.former = &agent.Home{Dir: dir, User: s.Agent.Setup.User, Tree: i.tree}
		}
	}
	i.name = i.hostName()
	if !s.Check {
		if err := i.refuse(); err != nil {
			return nil, err
		}
		if err := i.home.Guarded(); err != nil {
			return nil, err
		}
		if err := i.clean(ctx); err != nil {
			var own *fault.Error
			if errors.As(err, &own) {
				return nil, err
			}
			return nil, fault.New(fault.State, "the image cannot be sealed").Because(err).
				Hint("Run as root, on a file system that can be written.")
		}
	}
	i.lint()
	return i.notes, nil
}

func (i *image) live() bool { return i.Root == "" || filepath.Clean(i.Root) == ownRoot() }

// at is how a path inside the image is named from here.
func (i *image) at(path string) string { return i.tree.Name(path) }

// joined reports whether the journal says that an agent is registered here.
func (i *image) joined() bool {
	s, _, err := journal.ReadIn(i.tree, i.state)
	return err == nil && s.Agent.ID != 0 && s.Phase != journal.Removed
}

// refuse keeps a VM that works from being sealed by mistake: its agent would be lost.
func (i *image) refuse() error {
	shows := i.home.RegistrationFile()
	if i.joined() {
		shows = journal.File(i.state)
	}
	if shows == "" || i.Force {
		return nil
	}
	return fault.New(fault.State, "the agent of this VM is registered (%s)", shows).
		Hint("This is no image build, or it went too far: azp-bootstrap deregister takes the VM out of Azure DevOps; " +
			"--force seals all the same and leaves its agent there.")
}

// stateFiles are what the daemon keeps in its state folder.
var stateFiles = append([]string{
	"state.json", "state.json.damaged", health.RecordName, "lock", journal.AskName, "agent.pid", "configure.pid",
	"agent.log", "azp-bootstrap.log", "azp-bootstrap.log.1", gate.RecordName, gate.LockName,
}, slices.Concat(agent.ProgramFiles(agent.StartKind), agent.ProgramFiles(agent.CleanKind), gate.HookFiles(), whole.Spares("state.json"))...)

func (i *image) clean(ctx context.Context) error {
	if i.live() {
		s, _, _ := journal.Read(i.state)
		if err := (agent.Runner{Home: i.home, State: i.state}).Remove(ctx, s.Agent.Service); err != nil {
			return err
		}
	}
	for _, n := range stateFiles {
		if err := i.remove(filepath.Join(i.state, n)); err != nil {
			return err
		}
	}
	if err := agent.RemoveUnits(i.tree, i.at(unitFolder)); err != nil {
		return err
	}
	i.Say("the agent's folder is made fresh from the package")
	if err := i.home.Renew(); err != nil {
		return err
	}
	if err := i.cleanLogs(); err != nil {
		return err
	}
	if i.Deep {
		if err := i.cleanDeep(); err != nil {
			return err
		}
	}
	i.Say("%d files were removed or emptied", i.removed)
	return nil
}

const unitFolder = "/etc/systemd/system"

// remove removes a file or folder that may be missing. A link to a file stays: what counts is the
// file, which is somewhere else, and lint names both.
func (i *image) remove(name string) error {
	fi, err := i.tree.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil || i.leadsTo(name, fi) != "" {
		return err
	}
	i.removed++
	return i.tree.RemoveAll(name)
}

// leadsTo is the file that a link leads to; "" if it is no link, or leads to none.
func (i *image) leadsTo(name string, fi fs.FileInfo) string {
	if fi.Mode()&fs.ModeSymlink == 0 {
		return ""
	}
	if to, err := i.tree.Stat(name); err != nil || !to.Mode().IsRegular() {
		return ""
	}
	real, _ := i.tree.Real(name) // it was just looked at
	return real
}

// maxLog bounds what is read of a file that is searched.
const maxLog = 64 << 20

// logFolders are where logs are. Each may be a link to where they really are; other links are not
// followed.
var logFolders = []string{"/var/log", "/var/log/journal"}

// logs calls found for each log that names the host. The journal's files always do.
func (i *image) logs(found func(name, why string) error) error {
	for n, dir := range logFolders {
		if fi, err := i.tree.Lstat(i.at(dir)); err != nil || n > 0 && fi.Mode()&fs.ModeSymlink == 0 {
			continue // not there, or below the first
		}
		if real, err := i.tree.Real(i.at(dir)); err == nil && real == i.at("/") {
			return fmt.Errorf("%s leads to /", i.at(dir))
		}
		if err := i.tree.Walk(i.at(dir), func(name string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			why, err := i.tells(name, d)
			if err != nil || why == "" {
				return err
			}
			return found(name, why)
		}); err != nil {
			return err
		}
	}
	return nil
}

// tells says why a log must not be in an image; "" if it may be.
func (i *image) tells(name string, d fs.DirEntry) (string, error) {
	fi, err := d.Info()
	if err != nil || fi.Size() == 0 || fi.Size() > maxLog {
		return "", err
	}
	data, err := i.tree.ReadPlain(name, maxLog)
	switch {
	case err != nil:
		return "", err
	case strings.HasSuffix(name, ".journal"), strings.HasSuffix(name, ".journal~"):
		return "the journal of the host that the image was built on", nil
	case strings.HasSuffix(name, ".gz"), strings.HasSuffix(name, ".xz"):
		return "an old log, packed", nil
	case i.name != "" && bytes.Contains(data, []byte(i.name)):
		return "it names the host that the image was built on: " + i.name, nil
	case secret.LooksLikeToken(string(data)):
		return "something in it is shaped like a token", nil
	}
	return "", nil
}

// note keeps the first finding of each file.
func (i *image) note(file, wrong, fix string) {
	if slices.ContainsFunc(i.notes, func(f Finding) bool { return f.File == file }) {
		return
	}
	i.notes = append(i.notes, Finding{file, wrong, fix})
}

// Unsealed is the error of an image with findings.
func Unsealed(found []Finding) error {
	var b strings.Builder
	things := "1 thing"
	if len(found) != 1 {
		things = fmt.Sprintf("%d things", len(found))
	}
	fmt.Fprintf(&b, "%s must not be in an image:", things)
	for _, f := range found {
		fmt.Fprintf(&b, "\n  %s: %s", f.File, f.Wrong)
		if f.Hint != "" {
			fmt.Fprintf(&b, "\n    %s", f.Hint)
		}
	}
	return fault.New(fault.State, "%s", b.String()).
		Hint("Fix them and seal again: every VM of the image would have them.")
}
