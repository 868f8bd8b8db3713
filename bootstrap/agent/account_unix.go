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
	"time"
)

// getentPatience is how long a directory may take to answer.
const getentPatience = 10 * time.Second

// lookup finds an account by its name or number, one of SSSD, LDAP or Active Directory as well. Go
// without a C library, as this program is built, knows /etc/passwd alone; getent asks whatever
// /etc/nsswitch.conf names.
func lookup(name string) (*user.User, error) {
	u, err := user.Lookup(name)
	var unknown user.UnknownUserError
	if !errors.As(err, &unknown) {
		return u, err
	}
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
	for _, number := range f[2:4] {
		if _, err := strconv.ParseUint(number, 10, 32); err != nil {
			return nil, otherwise
		}
	}
	return &user.User{Username: f[0], Uid: f[2], Gid: f[3], Name: f[4], HomeDir: f[5]}, nil
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
