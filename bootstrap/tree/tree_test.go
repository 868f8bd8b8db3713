//go:build unix

package tree

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func put(t *testing.T, name, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func link(t *testing.T, to, name string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(to, name); err != nil {
		t.Fatal(err)
	}
}

func TestLinksAreReadAsTheImageMeansThem(t *testing.T) {
	dir := t.TempDir()
	host, image := filepath.Join(dir, "host"), filepath.Join(dir, "image")
	put(t, host+"/secret", "host")
	put(t, image+"/data/file", "image")
	put(t, image+"/etc/plain", "image")
	link(t, "/data", image+"/absolute")
	link(t, "../data", image+"/etc/relative")
	link(t, "../../../../../data", image+"/etc/above")
	link(t, "/absolute/file", image+"/etc/chain")
	link(t, host, image+"/out")
	link(t, host+"/secret", image+"/etc/out")
	link(t, "../../host/secret", image+"/etc/dots")
	link(t, "loop2", image+"/loop1")
	link(t, "loop1", image+"/loop2")
	link(t, "nowhere", image+"/dangling")
	link(t, "/", image+"/whole")
	tree, err := Open(image)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close() //nolint:errcheck // a test
	for name, wrong := range map[string]error{
		"absolute/file": nil, "etc/relative/file": nil, "etc/above/file": nil, "etc/chain": nil, "etc/plain": nil,
		"whole/whole/whole/data/file": nil, "absolute/../etc/plain": nil,
		"out/secret": fs.ErrNotExist, "etc/out": fs.ErrNotExist, "etc/dots": fs.ErrNotExist, "dangling": fs.ErrNotExist,
		"loop1": errLoop, "loop1/x": errLoop, "none/x": fs.ErrNotExist,
	} {
		got, err := tree.ReadFile(filepath.Join(image, filepath.FromSlash(name)))
		if !errors.Is(err, wrong) || err == nil && string(got) != "image" {
			t.Errorf("%s: %q, %v; want %v", name, got, err, wrong)
		}
		if err != nil && !strings.Contains(err.Error(), image) {
			t.Errorf("%s: the error does not name it: %v", name, err)
		}
	}
	for _, name := range []string{host + "/secret", dir, image + "/../host/secret"} {
		if _, err := tree.Stat(name); err == nil {
			t.Errorf("%s, which is not below the root, is looked at", name)
		}
	}
	found, err := tree.Glob(image + "/e*/*")
	if err != nil || len(found) != 6 {
		t.Errorf("glob: %v, %v", found, err)
	}
	if found, _ = tree.Glob(image + "/dangling"); len(found) != 1 {
		t.Error("a link that leads nowhere is not found")
	}
	if found, _ = tree.Glob(image + "/absolute/f*"); !slices.Equal(found, []string{image + "/absolute/file"}) {
		t.Errorf("glob behind a link: %v", found)
	}
}

// TestNothingOutsideIsTouched does everything that can be done to every kind of link that leads
// out.
func TestNothingOutsideIsTouched(t *testing.T) {
	for _, to := range []string{"HOST/file", "HOST", "../host/file", "../../../../../../../../HOST/file", "HOST/none"} {
		dir := t.TempDir()
		host, image := filepath.Join(dir, "host"), filepath.Join(dir, "image")
		put(t, host+"/file", "host")
		to := strings.Replace(to, "HOST", host, 1)
		link(t, to, image+"/link")
		tree, err := Open(image)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{image + "/link", image + "/link/file", image + "/link/sub/new"} {
			_ = tree.Write(name, []byte("x"), 0o600)
			_ = tree.Empty(name)
			if r, err := tree.Make(name, 0o755); err == nil {
				_ = r.Close()
			}
			_ = tree.Rename(name, image+"/moved")
			_ = tree.Rename(image+"/moved", name)
			_ = tree.Remove(name)
			_ = tree.RemoveAll(name)
			_ = tree.Walk(name, func(n string, _ fs.DirEntry, err error) error {
				if err == nil {
					_ = tree.Remove(n)
				}
				return nil
			})
		}
		_ = tree.Close()
		entries, _ := os.ReadDir(host)
		if text, err := os.ReadFile(host + "/file"); err != nil || string(text) != "host" || len(entries) != 1 {
			t.Errorf("through a link to %s the host was changed: %q, %v, %v", to, text, err, entries)
		}
	}
}

func TestPipesAndDevicesAreNotOpened(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mkfifo(dir+"/pipe", 0o600); err != nil {
		t.Skip(err)
	}
	link(t, "pipe", dir+"/link")
	tree, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()                                            //nolint:errcheck // a test
	for _, name := range []string{dir + "/pipe", dir + "/link"} { // opening one would wait for a writer
		if _, err := tree.ReadFile(name); err == nil {
			t.Errorf("%s was read", name)
		}
		if err := tree.Empty(name); err == nil {
			t.Errorf("%s was emptied", name)
		}
	}
}

func TestEmptyLeavesOtherNamesOfAFile(t *testing.T) {
	dir := t.TempDir()
	host := put(t, dir+"/host", "host")
	log := put(t, dir+"/image/log", "image")
	if err := os.Link(host, dir+"/image/hard"); err != nil {
		t.Skip(err)
	}
	tree, err := Open(dir + "/image")
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close() //nolint:errcheck // a test
	before, _ := os.Stat(log)
	for _, name := range []string{log, dir + "/image/hard"} {
		if err := tree.Empty(name); err != nil {
			t.Fatal(err)
		}
		if fi, err := os.Stat(name); err != nil || fi.Size() != 0 || fi.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, fi, err)
		}
	}
	if after, _ := os.Stat(log); !os.SameFile(before, after) {
		t.Error("a file with one name was replaced: who writes to it goes on elsewhere")
	}
	if text, _ := os.ReadFile(host); string(text) != "host" {
		t.Error("the other name of the file was emptied as well")
	}
}
