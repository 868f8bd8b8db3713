//go:build unix

package agent

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"os/user"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// getentPatience is how long a directory may take to answer.
const getentPatience = 10 * time.Second

// found are the accounts that a directory has named: it is asked once, not at each step, and what it has
// said counts while it is away.
var found sync.Map // of *user.User by the name that was asked for

// lookup finds an account by its name or number, one of SSSD, LDAP or Active Directory as well. Go
// without a C library, as this program is built, knows /etc/passwd alone; getent asks whatever
// /etc/nsswitch.conf names.
func lookup(name string) (*user.User, error) {
	u, err := user.Lookup(name)
	var unknown user.UnknownUserError
	if !errors.As(err, &unknown) {
		return u, err
	}
	if u, err := user.LookupId(name); err == nil {
		return u, nil
	}
	if u, known := found.Load(name); known {
		return u.(*user.User), nil
	}
	if u, err = directory(name, err); err == nil {
		found.Store(name, u)
	}
	return u, err
}

// directory asks for an account that /etc/passwd does not have; err is that it is unknown.
func directory(name string, err error) (*user.User, error) {
	out, e := ask("getent", "passwd", name)
	var exit *exec.ExitError
	switch {
	case errors.Is(e, exec.ErrNotFound), errors.As(e, &exit) && exit.ExitCode() == 2: // its "not found"
		return nil, err
	case e != nil:
		return nil, fmt.Errorf("getent passwd %s: %w", name, e)
	}
	return parseAccount(strings.TrimSpace(out), err)
}

// parseAccount reads a line of passwd(5); otherwise is what is wrong if it is none.
func parseAccount(text string, otherwise error) (*user.User, error) {
	f := strings.Split(text, ":")
	if len(f) != 7 || f[0] == "" || strings.Contains(text, "\n") {
		return nil, otherwise
	}
	if _, _, err := numbers(f[2], f[3]); err != nil {
		return nil, otherwise
	}
	return &user.User{Username: f[0], Uid: f[2], Gid: f[3], Name: f[4], HomeDir: f[5]}, nil
}

// noID is what chown(2) and setresuid(2) take for "leave it as it is".
const noID = 1<<32 - 1

// numbers are a user's and a group's. What is written otherwise than as a plain number may be root's to
// those who read it otherwise.
func numbers(uid, gid string) (u, g uint32, err error) {
	for text, into := range map[*string]*uint32{&uid: &u, &gid: &g} {
		n, err := strconv.ParseUint(*text, 10, 32)
		if err != nil || n == noID || strconv.FormatUint(n, 10) != *text {
			return 0, 0, fmt.Errorf("%q is no number of an account", *text)
		}
		*into = uint32(n)
	}
	return u, g, nil
}

// ownName is a name that a machine's own account has, and that every systemd takes (systemd.exec(5),
// User=).
var ownName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]*$`)

// unitUser is an account as a unit names it: one of a directory (user@domain) by its number.
func unitUser(u *user.User) string {
	if ownName.MatchString(u.Username) {
		return u.Username
	}
	return u.Uid
}

// groups are the numbers of the groups that an account is in.
func groups(u *user.User) ([]string, error) {
	if _, err := user.Lookup(u.Username); err == nil {
		return u.GroupIds()
	}
	out, err := ask("id", "-G", u.Username)
	if err != nil {
		return nil, fmt.Errorf("id -G %s: %w", u.Username, err)
	}
	return strings.Fields(out), nil
}

// ask runs a program of the system that looks accounts up.
func ask(argv ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), getentPatience)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...) //nolint:gosec // a checked name
	cmd.Env = []string{"LANG=C.UTF-8"}
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	return string(out), err
}
