package bootstrap

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/config"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/health"
	"azp-bootstrap/bootstrap/secret"
)

// A Sealing says what is sealed, and how.
type Sealing struct {
	Root  string // the image's root folder; "" or / = this machine
	Check bool   // look only
	Deep  bool   // SSH host keys, the machine's ID and cloud-init's traces, too
	Force bool   // although the agent is registered
	Say   func(format string, args ...any)
}

// A Finding is something in an image that must not be there.
type Finding struct {
	File  string `json:"file"`
	Wrong string `json:"wrong"`
	Hint  string `json:"hint"`
}

// An image is what is sealed.
type image struct {
	Sealing
	home    agent.Home
	state   string
	config  string
	set     []string
	name    string // of the host that the image was built on; "" if it says nothing
	notes   []Finding
	removed int
}

// Seal is the last step of an image build: it removes all that belongs to this host, so that every
// clone boots as new, and then looks for what must not be in an image. Findings are not an error here.
func Seal(o Options, s Sealing) ([]Finding, error) {
	t, err := config.ForImage(filepath.Join(s.Root, o.ConfigFile), o.Set)
	if err != nil { // lint says so; until it is mended, the agent is looked for where it is by default
		if t, err = config.ForImage(filepath.Join(s.Root, "nowhere"), o.Set); err != nil {
			return nil, err
		}
	}
	i := &image{Sealing: s, state: filepath.Join(s.Root, o.StateDir), config: filepath.Join(s.Root, o.ConfigFile),
		home: agent.Home{Dir: filepath.Join(s.Root, t.Dir), User: t.User}, set: o.Set}
	i.name = i.hostName()
	if !s.Check {
		if err := i.refuse(); err != nil {
			return nil, err
		}
		if err := i.clean(); err != nil {
			var own *fault.Error
			if errors.As(err, &own) {
				return nil, err
			}
			return nil, fault.New(fault.State, "the image cannot be sealed").Because(err).Hint("Run as root, on a file system that can be written.")
		}
	}
	i.lint()
	return i.notes, nil
}

func (i *image) live() bool { return i.Root == "" || i.Root == "/" }

func (i *image) at(path string) string { return filepath.Join(i.Root, filepath.FromSlash(path)) }

// refuse keeps a VM that works from being sealed by mistake: its agent would be lost.
func (i *image) refuse() error {
	shows := i.home.Registered()
	if s, _, err := health.ReadState(i.state); err == nil && s.Agent.ID != 0 && s.Phase != health.Removed {
		shows = health.StateFile(i.state)
	}
	if shows == "" || i.Force {
		return nil
	}
	return fault.New(fault.State, "the agent of this VM is registered (%s)", shows).
		Hint("This is no image build, or it went too far: azp-bootstrap deregister takes the VM out of Azure DevOps; --force seals all the same and leaves its agent there.")
}

// stateFiles are what the daemon keeps in its state folder.
var stateFiles = []string{"state.json", "state.json.damaged", recordName, "lock", "agent.pid", "configure.pid", "agent.log"}

func (i *image) clean() error {
	if i.live() {
		s, _, _ := health.ReadState(i.state)
		if err := (agent.Runner{Home: i.home, State: i.state}).Remove(s.Agent.Service); err != nil {
			return err
		}
	}
	for _, n := range stateFiles {
		if err := i.remove(filepath.Join(i.state, n)); err != nil {
			return err
		}
	}
	if err := agent.RemoveUnits(i.at(unitFolder)); err != nil {
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

// remove removes a file or folder that may be missing.
func (i *image) remove(name string) error {
	if _, err := os.Lstat(name); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	i.removed++
	return os.RemoveAll(name)
}

// maxLog bounds what is read of a file that is searched.
const maxLog = 64 << 20

// logs calls found for each log that names the host. The journal's files always do.
func (i *image) logs(found func(name, why string) error) error {
	return filepath.WalkDir(i.at("/var/log"), func(name string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		fi, err := d.Info()
		if err != nil || fi.Size() == 0 || fi.Size() > maxLog {
			return err
		}
		data, err := os.ReadFile(name) //nolint:gosec // below the image's root
		switch {
		case err != nil:
			return err
		case strings.HasSuffix(name, ".journal"), strings.HasSuffix(name, ".journal~"):
			return found(name, "the journal of the host that the image was built on")
		case strings.HasSuffix(name, ".gz"), strings.HasSuffix(name, ".xz"):
			return found(name, "an old log, packed")
		case i.name != "" && bytes.Contains(data, []byte(i.name)):
			return found(name, "it names the host that the image was built on: "+i.name)
		case secret.LooksLikeToken(string(data)):
			return found(name, "something in it is shaped like a token")
		}
		return nil
	})
}

// lint looks for what must not be in an image, whoever made it.
func (i *image) lint() {
	i.home.Lint(i.note)
	for _, n := range stateFiles {
		if _, err := os.Lstat(filepath.Join(i.state, n)); err == nil {
			i.note(filepath.Join(i.state, n), "the state of the host that the image was built on", "azp-bootstrap seal removes it.")
		}
	}
	_ = filepath.WalkDir(i.at(unitFolder), func(name string, d fs.DirEntry, err error) error {
		if err == nil && agent.IsUnit(d.Name()) {
			i.note(name, "the service of an agent that is not this image's", "azp-bootstrap seal removes it.")
		}
		return nil
	})
	if err := i.logs(func(name, why string) error {
		i.note(name, why, "azp-bootstrap seal empties it.")
		return nil
	}); err != nil {
		i.note(i.at("/var/log"), err.Error(), "Run as root.")
	}
	i.lintText()
	i.lintOwners()
	if i.Deep {
		i.lintDeep()
	}
}

// lintText looks for tokens where people leave them: configuration, environment, histories.
func (i *image) lintText() {
	if _, err := config.Load(i.config, nil, i.set); err != nil && fault.From(err).Class == fault.Config {
		if _, missing := os.Stat(i.config); missing == nil {
			f := fault.From(err)
			i.note(i.config, f.Error(), f.Advice)
		}
	}
	var files []string
	for _, pattern := range []string{"/etc/environment", "/etc/profile.d/*", "/etc/default/*", unitFolder + "/*.service", unitFolder + "/*.d/*.conf", "/root/.*history", "/home/*/.*history", "/root/.netrc", "/home/*/.netrc", "/root/.git-credentials", "/home/*/.git-credentials", "/root/.azure/*", "/home/*/.azure/*", "/tmp/*", "/var/tmp/*"} {
		names, _ := filepath.Glob(i.at(pattern))
		files = append(files, names...)
	}
	for _, name := range files {
		fi, err := os.Lstat(name)
		if err != nil || !fi.Mode().IsRegular() || fi.Size() > 4<<20 {
			continue
		}
		if data, err := os.ReadFile(name); err == nil && secret.LooksLikeToken(string(data)) { //nolint:gosec // below the image's root
			i.note(name, "something in it is shaped like a token", "Delete it, and revoke the token: every clone of the image would have it.")
		}
	}
}

// lintOwners looks for files that root trusts and others may write.
func (i *image) lintOwners() {
	trusted := []string{i.config, filepath.Dir(i.config), filepath.Join(filepath.Dir(i.config), "conf.d"), i.home.Dir, i.home.Dir + ".package", i.at("/usr/bin/azp-bootstrap"), i.at(unitFolder + "/azp-bootstrap.service")}
	for _, pattern := range []string{filepath.Join(i.home.Dir, "*"), filepath.Join(i.home.Dir, "bin", "*"), filepath.Join(i.home.Dir+".package", "*")} {
		names, _ := filepath.Glob(pattern)
		trusted = append(trusted, names...)
	}
	for _, name := range trusted {
		fi, err := os.Lstat(name)
		if err != nil || fi.Mode()&fs.ModeSymlink != 0 {
			continue
		}
		if who, fix := config.WritableByOthers(fi); who != "" {
			i.note(name, who, "Run: "+fix+" "+name)
		}
	}
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
	fmt.Fprintf(&b, "%d things must not be in an image:", len(found))
	for _, f := range found {
		fmt.Fprintf(&b, "\n  %s: %s", f.File, f.Wrong)
		if f.Hint != "" {
			fmt.Fprintf(&b, "\n    %s", f.Hint)
		}
	}
	return fault.New(fault.State, "%s", b.String()).Hint("Mend them and seal again: every VM of the image would have them.")
}
