//go:build unix

package agent

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"azp-bootstrap/bootstrap/fault"
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
			return nil, fault.New(fault.Config, "agent.user is empty and the daemon runs as root: jobs would run "+
				"as root").
				Hint("Set agent.user: azp, or run as another user.")
		}
		return me, nil
	}
	u, err := lookup(name)
	if err != nil {
		return nil, fault.New(fault.Agent, "the account %s of agent.user", name).Because(err).
			Hint("Create it at image time: azp-bootstrap prepare does, or useradd --system --create-home %s. One of "+
				"a directory (SSSD, Active Directory) must be known by now: getent passwd %s.", name, name)
	}
	uid, _, err := numbers(u.Uid, u.Gid)
	if err != nil {
		return nil, fault.New(fault.Agent, "the account %s of agent.user", name).Because(err).
			Hint("Give it plain numbers: getent passwd %s.", name)
	}
	if uid == 0 {
		return nil, fault.New(fault.Config, "agent.user %s is root: jobs would run as root", name).
			Hint("Name an account of its own, such as azp.")
	}
	if os.Geteuid() != 0 {
		return nil, fault.New(fault.Config, "only root can run the agent as %s", name).
			Hint(`Run as root, or set agent.user: "" for your own account.`)
	}
	return u, nil
}

func ids(u *user.User) (uid, gid int) {
	of, group, err := numbers(u.Uid, u.Gid)
	if err != nil { // account has looked
		return noID, noID
	}
	return int(of), int(group)
}

func credentialOf(name string) (*syscall.Credential, error) {
	u, err := account(name)
	if err != nil || os.Geteuid() != 0 {
		return nil, err
	}
	uid, gid := ids(u)
	c := &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)} //nolint:gosec // account numbers
	numbers, err := groups(u)
	if err != nil {
		return nil, fault.New(fault.Agent, "the groups of %s", name).Because(err)
	}
	for _, g := range numbers {
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
	return []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=" + u.HomeDir,
		"USER=" + u.Username,
		"LOGNAME=" + u.Username,
		"LANG=C.UTF-8",
	}, nil
}

// rootsAlone reports whether only root may write a file.
func rootsAlone(fi fs.FileInfo) bool {
	st, ok := fi.Sys().(*syscall.Stat_t)
	return ok && st.Uid == 0 && fi.Mode().IsRegular() && fi.Mode().Perm()&0o022 == 0
}

// configurer is the user number that config.sh runs as; 0 = the service user's own: who is not root
// has no other.
func (h Home) configurer() (uid int, err error) {
	if os.Geteuid() != 0 {
		return 0, nil
	}
	return apart()
}

// handOver gives the folder to the service user.
func (h Home) handOver() error {
	u, err := account(h.User)
	if err != nil || os.Geteuid() != 0 {
		return err
	}
	return h.giveTo(ids(u))
}

// giveTo gives the folder to a user. What lies deepest goes first: a folder that is still root's
// cannot be exchanged for a link under our hands. All names are looked up below the folder that was
// opened at the beginning, whatever takes its place meanwhile.
func (h Home) giveTo(uid, gid int) error {
	root, err := os.OpenRoot(h.Dir)
	if err != nil {
		return diskFault(err, h.Dir)
	}
	defer root.Close() //nolint:errcheck // nothing pending
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

// ensureUser creates the service user at image time, where root may.
func (h Home) ensureUser(report func(string, ...any)) error {
	_, err := lookup(h.User)
	var unknown user.UnknownUserError
	if h.User == "" || !errors.As(err, &unknown) || os.Geteuid() != 0 {
		_, err := account(h.User)
		return err
	}
	if strings.Contains(h.User, "@") || h.User[0] >= '0' && h.User[0] <= '9' {
		return fault.New(fault.Agent, "the account %s of agent.user is known to nobody (getent passwd)", h.User).
			Hint("A directory's account must be found while the image is made; or name one of this machine, such as azp.")
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
			return fault.New(fault.Agent, "%s %s: %s", argv[0], h.User, out).
				Because(err).
				Hint("Create the account yourself and run prepare again.")
		}
		return nil
	}
	return fault.New(fault.Agent, "the account %s does not exist and there is no useradd", h.User).
		Hint("Create the account and run prepare again.")
}

// serviceArgs and serviceValues are options of config.sh that concern the service: here it makes
// none.
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
