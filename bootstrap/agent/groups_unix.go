//go:build unix

package agent

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strings"

	"azp-bootstrap/bootstrap/fault"
)

// lookupGroup finds the number of a group by its name, one of a directory as well. unknown is true if there is
// none, as far as everybody who can be asked says.
func lookupGroup(name string) (number uint32, unknown bool, err error) {
	gid := ""
	if g, err := user.LookupGroup(name); err == nil {
		gid = g.Gid
	} else if !errors.As(err, new(user.UnknownGroupError)) {
		return 0, false, err
	}
	if gid == "" {
		out, err := ask("getent", "group", name)
		var exit *exec.ExitError
		f := strings.Split(strings.TrimSpace(out), ":")
		switch {
		case errors.Is(err, exec.ErrNotFound), errors.As(err, &exit) && exit.ExitCode() == 2: // its "not found"
			return 0, true, nil
		case err != nil:
			return 0, false, fmt.Errorf("getent group %s: %w", name, err)
		case len(f) != 4 || f[0] != name:
			return 0, true, nil
		}
		gid = f[2]
	}
	_, number, err = numbers("1", gid)
	return number, false, err
}

// GroupNumbers are the numbers of groups that agent.groups names. Root's own is refused under any name.
func GroupNumbers(names []string) (all []uint32, err error) {
	for _, name := range names {
		number, unknown, err := lookupGroup(name)
		switch {
		case unknown:
			return nil, fault.New(fault.Config, "the group %s of agent.groups does not exist on this VM", name).
				Hint("azp-bootstrap prepare makes it when the image is built; or install what brings it, or: groupadd "+
					"--system %s.", name)
		case err != nil:
			return nil, fault.New(fault.Agent, "the group %s of agent.groups", name).Because(err).
				Hint("Look at: getent group %s.", name)
		case number == 0:
			return nil, fault.New(fault.Config, "the group %s of agent.groups is root's own", name).
				Hint("Name a group of what jobs need, such as docker.")
		}
		all = append(all, number)
	}
	return all, nil
}

// EnsureGroups makes the groups that are missing, as groups of the system, where root may: at image time.
func EnsureGroups(names []string, report func(string, ...any)) error {
	for _, name := range names {
		if _, unknown, err := lookupGroup(name); err != nil || !unknown || os.Geteuid() != 0 {
			continue // GroupNumbers says what is wrong
		}
		for _, argv := range [][]string{{"groupadd", "--system", name}, {"addgroup", "-S", name}} { // the second is BusyBox's
			path, err := exec.LookPath(argv[0])
			if err != nil {
				continue
			}
			report("creating the group %s", name)
			if out, err := exec.Command(path, argv[1:]...).CombinedOutput(); err != nil { //nolint:gosec // checked name
				return fault.New(fault.Agent, "%s %s: %s", argv[0], name, out).Because(err).
					Hint("Create the group yourself and run prepare again.")
			}
			break
		}
	}
	_, err := GroupNumbers(names)
	return err
}

// GroupsOf are the names of the groups that an account is in by itself, as far as this system knows them.
func GroupsOf(name string) (names []string) {
	u, err := account(name)
	if err != nil {
		return nil
	}
	all, _ := groups(u)
	for _, number := range all {
		if g, err := user.LookupGroupId(number); err == nil {
			names = append(names, g.Name)
		}
	}
	return names
}
