package agent

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"azp-bootstrap/bootstrap/fault"
)

// Bounds of an honest package: real ones unpack to about 0.7 GB in some 9,000 files.
const (
	maxUnpacked = 4 << 30
	maxEntries  = 200_000
)

// unpack unpacks a .tar.gz or .zip into a new folder. os.Root keeps every write inside it, whatever
// the archive says; entries that try to leave it make the whole package refused.
func (h Home) unpack(archive, dir string) error {
	f, err := h.Tree.Open(archive)
	if err != nil {
		return diskFault(err, archive)
	}
	defer f.Close()                      //nolint:errcheck // only read
	root, err := h.Tree.Make(dir, 0o755) // the agent runs as another user
	if err != nil {
		return diskFault(err, dir)
	}
	defer root.Close() //nolint:errcheck // nothing pending
	u := &unpacker{root: root, left: maxUnpacked}
	if strings.HasSuffix(strings.ToLower(archive), ".zip") {
		err = u.zip(f)
	} else {
		err = u.tarGz(f)
	}
	if err == nil {
		return nil
	}
	var pe *fs.PathError
	if errors.As(err, &pe) && !u.refused {
		return diskFault(err, dir)
	}
	return fault.New(fault.Agent, "the package %s is refused", archive).Because(err).
		Hint("It is damaged or not what it claims to be: take the package from the agent's release page, with its " +
			"SHA-256.")
}

type unpacker struct {
	root    *os.Root
	left    int64
	entries int
	refused bool
}

func (u *unpacker) refuse(name, why string) error {
	u.refused = true
	return errors.New("entry " + strings.ToValidUTF8(name, "?") + ": " + why)
}

func (u *unpacker) tarGz(r io.Reader) error {
	z, err := gzip.NewReader(r)
	if err != nil {
		return err
	}
	t := tar.NewReader(z)
	for {
		h, err := t.Next()
		if err == io.EOF {
			_, err = io.Copy(io.Discard, io.LimitReader(z, 1<<20)) // the gzip checksum stands at the end
			return err
		}
		if err != nil {
			return err
		}
		switch h.Typeflag {
		case tar.TypeDir:
			err = u.folder(h.Name)
		case tar.TypeReg:
			err = u.file(h.Name, fs.FileMode(h.Mode).Perm(), h.Size, t)
		case tar.TypeSymlink:
			err = u.link(h.Name, h.Linkname)
		case tar.TypeLink:
			err = u.hardLink(h.Name, h.Linkname)
		case tar.TypeXGlobalHeader:
		default:
			err = u.refuse(h.Name, "neither file, folder nor link")
		}
		if err != nil {
			return err
		}
	}
}

func (u *unpacker) zip(f *os.File) error {
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	z, err := zip.NewReader(f, fi.Size())
	if err != nil {
		return err
	}
	for _, e := range z.File {
		if strings.Contains(e.Name, ":") { // a drive or an alternate data stream
			err = u.refuse(e.Name, "leads out of the folder")
		} else if strings.HasSuffix(e.Name, "/") {
			err = u.folder(e.Name)
		} else if e.Mode().IsRegular() {
			var r io.ReadCloser
			if r, err = e.Open(); err == nil {
				err = u.file(
					e.Name,
					e.Mode().Perm(),
					int64(min(e.UncompressedSize64, 1<<62)),
					r,
				) //nolint:gosec // bounded
				_ = r.Close()
			}
		} else {
			err = u.refuse(e.Name, "neither file nor folder")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// inside cleans an entry's name, refusing what would leave the folder.
func (u *unpacker) inside(name string) (string, error) {
	u.entries++
	clean := path.Clean(strings.ReplaceAll(name, `\`, "/"))
	switch {
	case u.entries > maxEntries:
		return "", u.refuse(name, "too many entries")
	case path.IsAbs(clean) || clean == ".." || strings.HasPrefix(clean, "../") || strings.Contains(clean, "\x00"):
		return "", u.refuse(name, "leads out of the folder")
	}
	return clean, nil
}

func (u *unpacker) folder(name string) error {
	clean, err := u.inside(name)
	if err != nil || clean == "." {
		return err
	}
	return u.root.MkdirAll(clean, 0o755)
}

func (u *unpacker) file(name string, mode fs.FileMode, size int64, r io.Reader) error {
	clean, err := u.inside(name)
	if err != nil {
		return err
	}
	if u.left -= size; u.left < 0 {
		return u.refuse(name, "the package unpacks to more than any agent's")
	}
	if err := u.root.MkdirAll(path.Dir(clean), 0o755); err != nil {
		return err
	}
	if err := u.root.Remove(clean); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// Nobody but the owner may write, and set-user-ID bits are not in Perm.
	out, err := u.root.OpenFile(clean, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode&0o755|0o600)
	if err != nil {
		return err
	}
	_, err = io.CopyN(out, r, size)
	if e := out.Close(); err == nil {
		err = e
	}
	return err
}

func (u *unpacker) link(name, to string) error {
	clean, err := u.inside(name)
	if err != nil {
		return err
	}
	target := path.Join(path.Dir(clean), to)
	if path.IsAbs(to) || target == ".." || strings.HasPrefix(target, "../") {
		return u.refuse(name, "a link that leads out of the folder")
	}
	if err := u.root.MkdirAll(path.Dir(clean), 0o755); err != nil {
		return err
	}
	return u.root.Symlink(to, clean)
}

// hardLink makes a second name for a file that was unpacked before; os.Root keeps both inside.
func (u *unpacker) hardLink(name, to string) error {
	clean, err := u.inside(name)
	if err != nil {
		return err
	}
	old, err := u.inside(to)
	if err != nil {
		return err
	}
	if fi, err := u.root.Lstat(old); err != nil || !fi.Mode().IsRegular() {
		return u.refuse(name, "a link to something else than a file of the package")
	}
	return u.root.Link(old, clean)
}
