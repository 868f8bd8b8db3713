//go:build unix

package agent

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/tree"
)

// Script configures the agent: the package's own, as it is named on this system.
const Script = "config.sh"

// account resolves the service user. "" is the caller's own account, which must not be root's; any
// other than the caller's needs root.
func account(name string) (*user.User, error) {
	me, err := user.Current()
	if err != nil {
		return nil, fault.New(fault.Agent, "the caller's own account").Because(err)
	}
	if name == "" || name == me.Username {
		if os.Geteuid() == 0 {
			return nil, fault.New(fault.Config, "agent.user is empty and the daemon runs as root: jobs would run as root").
				Hint("Set agent.user: azp, or run as another user.")
		}
		return me, nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return nil, fault.New(fault.Agent, "the account %s of agent.user", name).Because(err).
			Hint("Create it at image time: azp-bootstrap prepare does, or useradd --system --create-home %s.", name)
	}
	if u.Uid == "0" {
		return nil, fault.New(fault.Config, "agent.user %s is root: jobs would run as root", name).Hint("Name an account of its own, such as azp.")
	}
	if os.Geteuid() != 0 {
		return nil, fault.New(fault.Config, "only root can run the agent as %s", name).
			Hint(`Run as root, or set agent.user: "" for your own account.`)
	}
	return u, nil
}

func ids(u *user.User) (uid, gid int) {
	uid, _ = strconv.Atoi(u.Uid)
	gid, _ = strconv.Atoi(u.Gid)
	return uid, gid
}

func credentialOf(name string) (*syscall.Credential, error) {
	u, err := account(name)
	if err != nil || os.Geteuid() != 0 {
		return nil, err
	}
	uid, gid := ids(u)
	c := &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)} //nolint:gosec // account numbers
	groups, err := u.GroupIds()
	if err != nil {
		return nil, fault.New(fault.Agent, "the groups of %s", name).Because(err)
	}
	for _, g := range groups {
		if n, err := strconv.ParseUint(g, 10, 32); err == nil {
			c.Groups = append(c.Groups, uint32(n))
		}
	}
	return c, nil
}

// baseEnvironment is what the service user's login would give, in a fixed language: config.sh's
// messages are read, and its PATH becomes that of the jobs (.path).
func (h Home) baseEnvironment() ([]string, error) {
	u, err := account(h.User)
	if err != nil {
		return nil, err
	}
	return []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + u.HomeDir, "USER=" + u.Username, "LOGNAME=" + u.Username, "LANG=C.UTF-8"}, nil
}

// handOver gives the fresh folder to the service user. What lies deepest goes first: a folder that is still
// root's cannot be exchanged for a link under our hands. All is done through one handle of the folder, whatever takes
// its name meanwhile.
func (h Home) handOver() error {
	u, err := account(h.User)
	if err != nil || os.Geteuid() != 0 {
		return err
	}
	uid, gid := ids(u)
	root, err := os.OpenRoot(h.Dir)
	if err != nil {
		return diskFault(err, h.Dir)
	}
	defer root.Close() //nolint:errcheck // only a handle
	var names []string
	err = fs.WalkDir(root.FS(), ".", func(name string, _ fs.DirEntry, err error) error {
		names = append(names, name)
		return err
	})
	for _, name := range slices.Backward(names) {
		if err == nil {
			err = root.Lchown(name, uid, gid)
		}
	}
	return diskFault(err, h.Dir)
}

// Founded refuses an agent's folder whose place others could exchange: what root keeps beside it would no longer be
// root's word, and root would hand over what others put there.
func (h Home) Founded() error {
	if os.Geteuid() != 0 || h.Tree != (tree.Tree{}) { // in an image nobody else is at work
		return nil
	}
	var groups []string // of an account that is not there yet: none
	if u, err := user.Lookup(h.User); err == nil {
		groups, _ = u.GroupIds()
	}
	nearest := true
	foreign, err := above(filepath.Join(h.keep(), "x"), func(fi fs.FileInfo) bool {
		there := nearest
		nearest = false
		mode := fi.Mode()
		switch {
		case owner(fi) != 0:
			return true
		case mode&fs.ModeSymlink != 0:
			return false
		case mode.Perm()&0o020 != 0 && slices.Contains(groups, strconv.Itoa(groupOf(fi))):
			return true
		}
		// In a folder such as /tmp nobody renames what is another's, but the agent's folder becomes its user's.
		return mode.Perm()&0o002 != 0 && (there || mode&fs.ModeSticky == 0)
	})
	if err != nil {
		return diskFault(err, h.Dir)
	}
	if foreign == "" {
		return nil
	}
	return fault.New(fault.Config, "agent.dir %s lies below %s, which others than root may change: they could exchange the agent's "+
		"package, and read the PAT", h.Dir, foreign).
		Hint("Set agent.dir to a folder below root's own, such as /opt/azp-agent; agent.work may lie elsewhere.")
}

func (h Home) own(f *os.File) error {
	if os.Geteuid() != 0 {
		return nil
	}
	u, err := account(h.User)
	if err != nil {
		return err
	}
	uid, gid := ids(u)
	return f.Chown(uid, gid)
}

// WorkFolder makes the work folder where it lies outside the agent's own, and gives it to the service user.
// Below a folder that is not root's, root makes and gives nothing: its owner could lead that elsewhere by
// a link. There the folder must be the service user's already.
func (h Home) WorkFolder(work string) error {
	if !filepath.IsAbs(work) || strings.HasPrefix(filepath.Clean(work), filepath.Clean(h.Dir)+"/") {
		return nil // the agent makes it
	}
	u, err := account(h.User)
	if err != nil {
		return err
	}
	uid, _ := ids(u)
	if fi, err := os.Stat(work); err == nil && fi.IsDir() && owner(fi) == uid {
		return nil
	}
	if foreign, err := foreignAbove(work); err != nil {
		return diskFault(err, work)
	} else if foreign != "" && os.Geteuid() == 0 {
		return fault.New(fault.Config, "agent.work %s is not %s's, and root makes no folder below %s, which is not root's own", work, u.Username, foreign).
			Hint("Make it at image time: install -d -o %s %s; or choose a place below a folder of root's.", u.Username, work)
	}
	if err := os.MkdirAll(work, 0o755); err != nil { //nolint:gosec // jobs of other users may look in
		return diskFault(err, work)
	}
	f, err := os.OpenFile(work, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_DIRECTORY, 0) //nolint:gosec // the configuration's own path
	if err != nil {
		return diskFault(err, work)
	}
	defer f.Close() //nolint:errcheck // only a handle
	return diskFault(h.own(f), work)
}

func owner(fi fs.FileInfo) int {
	if s, ok := fi.Sys().(*syscall.Stat_t); ok {
		return int(s.Uid)
	}
	return -1
}

func groupOf(fi fs.FileInfo) int {
	if s, ok := fi.Sys().(*syscall.Stat_t); ok {
		return int(s.Gid)
	}
	return -1
}

// foreignAbove is the first folder or link above a path that is not root's; "" if there is none.
func foreignAbove(path string) (string, error) {
	return above(path, func(fi fs.FileInfo) bool { return owner(fi) != 0 })
}

// above is the first folder or link above a path, as written and as it leads, of which wrong says so; "" if there is
// none. What does not exist is passed over.
func above(path string, wrong func(fs.FileInfo) bool) (string, error) {
	for dir := filepath.Dir(filepath.Clean(path)); ; dir = filepath.Dir(dir) {
		switch fi, err := os.Lstat(dir); {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return "", err
		case wrong(fi):
			return dir, nil
		case fi.Mode()&fs.ModeSymlink != 0:
			to, err := filepath.EvalSymlinks(dir)
			if err != nil {
				return "", err
			}
			if foreign, err := above(filepath.Join(to, "x"), wrong); foreign != "" || err != nil {
				return foreign, err
			}
		}
		if dir == filepath.Dir(dir) {
			return "", nil
		}
	}
}

// ensureUser creates the service user at image time, where root may.
func (h Home) ensureUser(report func(string, ...any)) error {
	_, err := user.Lookup(h.User)
	var unknown user.UnknownUserError
	if h.User == "" || !errors.As(err, &unknown) || os.Geteuid() != 0 {
		_, err := account(h.User)
		return err
	}
	for _, argv := range [][]string{
		{"useradd", "--system", "--user-group", "--create-home", "--shell", "/bin/bash", h.User},
		{"adduser", "-S", "-D", h.User}, // BusyBox
	} {
		path, err := exec.LookPath(argv[0])
		if err != nil {
			continue
		}
		report("creating the account %s", h.User)
		if out, err := exec.Command(path, argv[1:]...).CombinedOutput(); err != nil { //nolint:gosec // checked name
			return fault.New(fault.Agent, "%s %s: %s", argv[0], h.User, out).Because(err).Hint("Create the account yourself and run prepare again.")
		}
		return nil
	}
	return fault.New(fault.Agent, "the account %s does not exist and there is no useradd", h.User).Hint("Create the account and run prepare again.")
}

// serviceArgs and serviceValues are options of config.sh that concern the service: here it makes none.
func (h Home) serviceArgs() []string            { return nil }
func (h Home) serviceValues() map[string]string { return nil }

// furnishService puts runsvc.sh where the service expects it, as svc.sh would. The folder is fresh.
func (h Home) furnishService() error {
	script, err := h.read("bin/runsvc.sh")
	if errors.Is(err, fs.ErrNotExist) {
		return nil // only a service needs it, and says so
	}
	if err != nil {
		return diskFault(err, h.path("bin/runsvc.sh"))
	}
	return h.put("runsvc.sh", string(script), 0o755)
}
