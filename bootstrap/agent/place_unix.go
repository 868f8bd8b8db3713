//go:build unix

package agent

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/tree"
)

// Guarded refuses, for root, an agent's folder that another account could exchange for one of its
// own, and the package beside it: what config.sh is, and is given, would be that account's to say.
// The folder itself is the service user's; all above it must be root's alone.
func (h Home) Guarded() error {
	if os.Geteuid() != 0 {
		return nil
	}
	foreign, whose, err := h.foreignAbove(h.Dir)
	if err == nil && foreign == "" {
		foreign, whose, err = h.foreignAbove(filepath.Join(h.keep(), "manifest.json"))
	}
	if err == nil && foreign == "" { // it may be a link
		foreign, whose, err = h.foreignAbove(filepath.Join(h.Dir, "x"))
	}
	if err != nil {
		return diskFault(err, "the folders above "+h.Dir)
	}
	if foreign == "" {
		return nil
	}
	return fault.New(fault.Config, "agent.dir %s is not safe from others: %s %s, and who may write there could put "+
		"another agent in its place",
		h.Dir, foreign, whose).
		Hint("Name a folder below folders of root's alone, such as agent.dir: /opt/azp-agent, and run "+
			"azp-bootstrap prepare; "+
			"or make that one root's alone: chown root: %s; chmod go-w %s.", foreign, foreign)
}

// WorkFolder makes the work folder where it lies outside the agent's own, and gives it to the
// service user; one that has something in it already must be theirs. Below a folder that is not root's, root makes and gives nothing: its owner could
// lead that elsewhere by a link. There the folder must be the service user's already. Nothing is made
// where a disk is to be mounted that is not there yet.
func (h Home) WorkFolder(work string) error {
	if err := h.mounted(work); err != nil {
		return err
	}
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
	if foreign, whose, err := h.foreignAbove(work); err != nil {
		return diskFault(err, work)
	} else if foreign != "" && os.Geteuid() == 0 {
		return fault.New(fault.Config, "agent.work %s is not %s's, and root makes no folder below %s, "+
			"which %s", work, u.Username, foreign, whose).
			Hint("Make it at image time: install -d -o %s %s; or choose a place below a folder of "+
				"root's.", u.Username, work)
	}
	if err := os.MkdirAll(work, 0o755); err != nil { //nolint:gosec // jobs of other users may look in
		return diskFault(err, work)
	} // a folder with something in it is not made here: a slip of the pen must not give /var/lib away
	f, err := os.OpenFile(
		work,
		os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_DIRECTORY,
		0,
	) //nolint:gosec // the configuration's own path
	if err != nil {
		return diskFault(err, work)
	}
	defer f.Close() //nolint:errcheck // only a handle
	for {
		names, err := f.Readdirnames(2)
		if errors.Is(err, io.EOF) {
			return diskFault(h.own(f), work)
		}
		if err != nil {
			return diskFault(err, work)
		}
		for _, name := range names {
			if name != "lost+found" { // of a new ext4
				return fault.New(fault.Config, "agent.work %s is not %s's and not empty: it has %q, so it is not given away",
					work, u.Username, name).
					Hint("Name a folder of its own, which is made, such as agent.work: %s. Or, if jobs may own all that is "+
						"there: chown -R %s: %s.", filepath.Join(work, "azp"), u.Username, work)
			}
		}
	}
}

func owner(fi fs.FileInfo) int {
	if s, ok := fi.Sys().(*syscall.Stat_t); ok {
		return int(s.Uid)
	}
	return -1
}

// rootsOwn is alone, of a file of this name.
func rootsOwn(_ string, fi fs.FileInfo) bool { return alone(fi) }

// protectKept: whoever makes a folder here is the only one who may write it.
func (h Home) protectKept() error { return nil }

// alone reports whether nobody but root, and who asks, may write a file.
func alone(fi fs.FileInfo) bool {
	return (owner(fi) == 0 || owner(fi) == os.Geteuid()) && fi.Mode().Perm()&0o022 == 0
}

// foreignAbove is the outermost folder or link on the way to a path, with every link that leads
// there, that is not root's alone, and whose it is; "" if there is none. In a folder that all may
// write and that is sticky (/tmp), what is root's already can be moved by nobody else (unlink(2)).
func (h Home) foreignAbove(path string) (foreign, whose string, err error) {
	type step struct {
		name string
		fi   fs.FileInfo
	}
	var way []step
	if err := h.Tree.Above(path, func(name string, fi fs.FileInfo) { way = append(way, step{name, fi}) }); err != nil {
		return "", "", err
	}
	for i, s := range way {
		next := path
		if i+1 < len(way) {
			next = way[i+1].name
		}
		switch {
		case h.isDir(s.name, s.fi):
		case owner(s.fi) != 0:
			return s.name, "is " + h.accountName(owner(s.fi)) + "'s", nil
		case s.fi.Mode()&fs.ModeSymlink != 0:
		case h.mayWrite(s.fi) && (s.fi.Mode()&fs.ModeSticky == 0 || !h.staysRoots(next)):
			return s.name, fmt.Sprintf("is root's, but others may write there (mode %04o)", s.fi.Mode().Perm()), nil
		}
	}
	return "", "", nil
}

// isDir reports whether a folder is the agent's own, also by way of links: it is the service
// user's.
func (h Home) isDir(name string, fi fs.FileInfo) bool {
	real, err := h.Tree.Real(h.Dir)
	return fi.IsDir() && (name == filepath.Clean(h.Dir) || err == nil && name == real)
}

// mayWrite reports whether others may write a folder: all, or a group of the service user's. That
// another group may is root's own word, as it is of staff in Debian's /usr/local.
func (h Home) mayWrite(fi fs.FileInfo) bool {
	if fi.Mode().Perm()&0o002 != 0 {
		return true
	}
	u, err := lookup(h.User)
	if fi.Mode().Perm()&0o020 == 0 || err != nil { // an account that is not there yet is in no group
		return false
	}
	numbers, err := groups(u)
	return err != nil || slices.Contains(numbers, strconv.Itoa(groupOf(fi)))
}

func groupOf(fi fs.FileInfo) int {
	if s, ok := fi.Sys().(*syscall.Stat_t); ok {
		return int(s.Gid)
	}
	return -1
}

// staysRoots: what is not there yet, others may make before root does. The agent's folder is to be
// the service user's.
func (h Home) staysRoots(name string) bool {
	fi, err := h.Tree.Lstat(name)
	return name != filepath.Clean(h.Dir) && err == nil && owner(fi) == 0
}

// accountName is how people know an account. Who the accounts of an image are, this machine does
// not know.
func (h Home) accountName(uid int) string {
	number := strconv.Itoa(uid)
	if u, err := user.LookupId(number); err == nil && h.Tree == (tree.Tree{}) {
		return u.Username
	}
	return "the account " + number
}
