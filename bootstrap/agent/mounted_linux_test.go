package agent

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// Nothing is written where a disk is to be mounted that is not there yet.
func TestADiskThatIsNotMounted(t *testing.T) {
	const fstab = `# /etc/fstab
UUID=1 / ext4 defaults 0 1
/dev/disk/cloud/azure_resource-part1	/mnt	auto	defaults,nofail,comment=cloudconfig	0	2
UUID=2 /data/deep/ ext4 nofail 0 2
UUID=3 /with\040blank ext4 nofail 0 2
UUID=4 none swap sw 0 0
#UUID=5 /commented ext4 nofail 0 2
half a
`
	const root = "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/root rw\n"
	const data = root + "30 22 8:17 / /data rw shared:2 - ext4 /dev/sdb rw\n"
	for _, c := range []struct {
		mounts string
		names  []string
		want   string
	}{
		{root, []string{"/mnt/work"}, "/mnt"},
		{root, []string{"/mnt"}, "/mnt"},
		{root + "30 22 8:17 / /mnt rw shared:2 - ext4 /dev/sdb1 rw\n", []string{"/mnt/work"}, ""},
		{root, []string{"/mnt2/work"}, ""},
		{root, []string{"/opt/azp-agent/_work"}, ""},
		{data, []string{"/data/work"}, ""},                // fstab(5) says nothing of it
		{data, []string{"/data/deep/work"}, "/data/deep"}, // the disk above is there, and not the one that counts
		{root, []string{"/with blank/work"}, "/with blank"},
		{root + `31 22 8:18 / /with\040blank rw - ext4 /dev/sdc rw` + "\n", []string{"/with blank/work"}, ""},
		{root, []string{"/commented/work", "/swap"}, ""},
		{root, []string{"/opt/work", "/", "/opt", "/opt/work", "/mnt"}, "/mnt"}, // by way of a link
		{"", []string{"/opt/work"}, ""},
	} {
		if got := unmounted(fstab, c.mounts, c.names); got != c.want {
			t.Errorf("%q: %q, wanted %q; mounts:\n%s", c.names, got, c.want, c.mounts)
		}
	}
}

func TestUnescaped(t *testing.T) {
	for text, want := range map[string]string{
		`/a\040b`: "/a b", `/a\134`: `/a\`, `/a\04`: `/a\04`, `/a\`: `/a\`, `/a\999b`: `/a\999b`, "": "",
	} {
		if got := unescaped(text); got != want {
			t.Errorf("%q became %q, wanted %q", text, got, want)
		}
	}
}

// fstab may name a mount point by a link on the way, as mount(8) allows.
func TestAMountPointThatIsNamedByALink(t *testing.T) {
	h, _ := asNews(t)
	base := filepath.Dir(h.Dir)
	real, link := filepath.Join(base, "real"), filepath.Join(base, "data")
	if err := os.MkdirAll(real, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(real, link); err != nil {
		t.Fatal(err)
	}
	fstab := filepath.Join(base, "fstab")
	_ = os.WriteFile(fstab, []byte("tmpfs "+link+" tmpfs size=64k 0 0\n"), 0o644)
	if err := unix.Mount(fstab, "/etc/fstab", "", unix.MS_BIND, ""); err != nil {
		t.Skip(err)
	}
	defer func() { _ = unix.Unmount("/etc/fstab", unix.MNT_DETACH) }()
	if err := unix.Mount("tmpfs", link, "tmpfs", 0, "size=64k"); err != nil { // follows the link, as mount(8) does
		t.Skip(err)
	}
	defer func() { _ = unix.Unmount(real, unix.MNT_DETACH) }()
	if err := h.mounted(filepath.Join(link, "work")); err != nil {
		t.Errorf("by the link: %v", err)
	}
	if err := h.mounted(filepath.Join(real, "work")); err != nil {
		t.Errorf("by the folder: %v", err)
	}
}

// A job that puts a link where its work folder was keeps no agent down.
func TestALinkInPlaceOfTheWorkFolderIsNotWaitedFor(t *testing.T) {
	h, _ := asNews(t)
	if err := os.MkdirAll(h.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	base := t.TempDir()
	fstab := filepath.Join(base, "fstab")
	_ = os.WriteFile(fstab, []byte("/dev/sr0 "+base+"/cdrom iso9660 ro,noauto 0 0\n"), 0o644)
	if err := unix.Mount(fstab, "/etc/fstab", "", unix.MS_BIND, ""); err != nil {
		t.Skip(err)
	}
	defer func() { _ = unix.Unmount("/etc/fstab", unix.MNT_DETACH) }()
	_ = os.Mkdir(base+"/cdrom", 0o755)
	for name, to := range map[string]string{"to a mount point": base + "/cdrom", "a loop": h.path("_work")} {
		_ = os.Remove(h.path("_work"))
		if err := os.Symlink(to, h.path("_work")); err != nil {
			t.Fatal(err)
		}
		if err := h.WorkFolder("_work"); err != nil {
			t.Errorf("%s, relative: %v", name, err)
		}
		if err := h.WorkFolder(h.path("_work")); err != nil {
			t.Errorf("%s, absolute: %v", name, err)
		}
	}
}
