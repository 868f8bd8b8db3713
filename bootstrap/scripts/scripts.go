// Package scripts says which files of a folder root runs: before the first job, at events, and to make room. The rules
// are the same for all.
package scripts

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"

	"azp-bootstrap/bootstrap/config"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/tree"
)

// What the scripts of a folder are called.
const (
	Start = "start scripts"
	Hooks = "hooks"
	Clean = "scripts that make room"
)

// Path is where programs are found.
const Path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// scriptName are the names that run-parts(8) takes: those of editors' and packages' leftovers have a
// dot or a tilde.
var scriptName = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// An Ignored is a file of the scripts' folder that is not run.
type Ignored struct{ Name, Why string }

// Of are the scripts of a folder in the order in which they are run, and what else is there. A folder
// that is missing has none. What others could have written is refused, since who runs it is root, and what is empty:
// that is no script that ends well, but what a power cut leaves of one. what is what they are called.
func Of(dir, what string) (names []string, ignored []Ignored, err error) {
	if dir == "" {
		return nil, nil, nil
	}
	entries, err := os.ReadDir(dir) // sorted by name
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, dangling(dir, what)
	}
	if err != nil {
		return nil, nil, unreadable(dir, what, err)
	}
	for _, e := range entries {
		fi, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, nil, unreadable(dir, what, err)
		}
		if why := unfit(e.Name(), fi); why != "" {
			ignored = append(ignored, Ignored{e.Name(), why})
			continue
		}
		file := filepath.Join(dir, e.Name())
		if err := guarded(file, what, fi); err != nil {
			return nil, nil, err
		}
		if empty(file) {
			return nil, nil, fault.New(fault.Start, "%s is empty: what it is to do was never written, or a power cut took it", file).
				Hint("Write it anew (to a temporary file, sync, mv), or remove it.")
		}
		names = append(names, e.Name())
	}
	if len(names) == 0 {
		return nil, ignored, nil
	}
	if err := guardedAbove(dir, what); err != nil {
		return nil, nil, err
	}
	return names, ignored, nil
}

// unfit says why a file is no script; "" if it is one.
func unfit(name string, fi fs.FileInfo) string {
	switch {
	case !scriptName.MatchString(name):
		return "its name has other characters than letters, digits, _ and -"
	case !fi.Mode().IsRegular():
		return "it is no regular file"
	case fi.Mode().Perm()&0o100 == 0:
		return "it is not executable (chmod +x)"
	}
	return ""
}

// empty reports whether a file holds nothing, or zeros alone: ext4's delayed allocation leaves the one, XFS the other. One
// that cannot be read is not known to.
func empty(file string) bool {
	f, err := os.Open(file) //nolint:gosec // a regular file, as was seen
	if err != nil {
		return false
	}
	defer f.Close() //nolint:errcheck // only read
	for part := make([]byte, 64<<10); ; {
		n, err := f.Read(part)
		if len(bytes.Trim(part[:n], "\x00")) > 0 {
			return false
		}
		if err != nil {
			return errors.Is(err, io.EOF)
		}
	}
}

// Unrun says what is wrong with the first line of a script that ended so, where it may not even have begun: shells tell
// that by the codes 126 and 127; "" if nothing that is known.
func Unrun(file string, exit int) string {
	if exit != 126 && exit != 127 {
		return ""
	}
	return FirstLine(file)
}

// FirstLine says what is wrong with the first line of a script, by which the system cannot run it; "" if nothing that
// is known.
func FirstLine(file string) string {
	f, err := os.Open(file) //nolint:gosec // a script that is to be run
	if err != nil {
		return ""
	}
	defer f.Close() //nolint:errcheck // only read
	begin := make([]byte, 512)
	n, _ := io.ReadFull(f, begin)
	text, isScript := strings.CutPrefix(string(begin[:n]), "#!")
	if !isScript {
		return ""
	}
	text, _, _ = strings.Cut(text, "\n")
	words := strings.Fields(text)
	switch {
	case strings.HasSuffix(text, "\r"):
		return "its first line ends with CR LF, as Windows writes lines: sed -i 's/\\r$//' " + file
	case len(words) == 0:
		return "its first line names no program: write #!/bin/sh"
	case !found(words[0]):
		return "the program of its first line is not there: " + words[0]
	case path.Base(words[0]) == "env" && len(words) > 1 && !strings.ContainsAny(words[1], "-=") && !found(words[1]):
		return "the program of its first line is not there: " + words[1]
	}
	return ""
}

// found reports whether a program is there; one without a path is looked for where scripts find theirs.
func found(program string) bool {
	if strings.Contains(program, "/") {
		_, err := os.Stat(program)
		return !errors.Is(err, fs.ErrNotExist)
	}
	for _, dir := range filepath.SplitList(Path) {
		if _, err := os.Stat(filepath.Join(dir, program)); err == nil {
			return true
		}
	}
	return false
}

// guarded refuses what others may write.
func guarded(name, what string, fi fs.FileInfo) error {
	who, fix := config.WritableByOthers(fi)
	if who == "" {
		return nil
	}
	return fault.New(fault.Start, "%s: %s, and %s are run as root", name, who, what).Hint("Run: %s %s", fix, name)
}

// guardedAbove refuses a folder that others may write, or put another in the place of. What is root's
// nobody else moves out of a folder above that is sticky, such as /tmp.
func guardedAbove(dir, what string) error {
	type step struct {
		name string
		fi   fs.FileInfo
	}
	var way []step
	if err := (tree.Tree{}).Above(filepath.Join(dir, "x"), func(name string, fi fs.FileInfo) {
		way = append(way, step{name, fi})
	}); err != nil {
		return unreadable(dir, what, err)
	}
	for i, s := range way {
		isLink, above := s.fi.Mode()&fs.ModeSymlink != 0, i+1 < len(way)
		if isLink || above && s.fi.Mode()&fs.ModeSticky != 0 {
			s.fi = unwritable{s.fi}
		}
		if err := guarded(s.name, what, s.fi); err != nil {
			return err
		}
	}
	return nil
}

// unwritable is a file of which the owner counts alone.
type unwritable struct{ fs.FileInfo }

func (u unwritable) Mode() fs.FileMode { return u.FileInfo.Mode() &^ 0o022 }

// dangling refuses a folder that is not there because a link on the way to it leads to nothing, such as a disk that is
// not mounted: there may be scripts.
func dangling(dir, what string) error {
	for at := filepath.Clean(dir); ; at = filepath.Dir(at) {
		fi, err := os.Lstat(at)
		switch {
		case err != nil && at != filepath.Dir(at):
		case err != nil || fi.Mode()&fs.ModeSymlink == 0:
			return nil
		default:
			if _, err := os.Stat(at); err == nil { // the folder is missing behind it
				return nil
			}
			to, _ := os.Readlink(at)
			return fault.New(fault.Start, "the folder of %s %s is not there: the link %s leads to %s, which is missing",
				what, dir, at, to).Hint("Is a disk not mounted? Mount it, or remove the link if there are no scripts.")
		}
	}
}

func unreadable(dir, what string, err error) error {
	return fault.New(fault.Start, "the folder of %s %s", what, dir).Because(err).
		Hint("Check its rights; run as root.")
}
