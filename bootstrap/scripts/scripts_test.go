//go:build linux

package scripts

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"azp-bootstrap/bootstrap/fault"
)

// folder is a folder of scripts; mode 0 = 0755.
func folder(t *testing.T, files map[string]os.FileMode) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "start.d")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, mode := range files {
		file := filepath.Join(dir, name)
		if mode == 0 {
			mode = 0o755
		}
		if err := errors.Join(os.WriteFile(file, []byte("#!/bin/sh\n"), 0o600), os.Chmod(file, mode)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestOf(t *testing.T) {
	for name, c := range map[string]struct {
		files   map[string]os.FileMode
		spoil   func(dir string) error
		want    []string
		ignored []string
		refused string
		fix     string
	}{
		"nothing":          {},
		"a missing folder": {spoil: os.Remove},
		"in the order of names": {
			files: map[string]os.FileMode{"20-b": 0, "10-a": 0, "9": 0, "A_1": 0},
			want:  []string{"10-a", "20-b", "9", "A_1"},
		},
		"what run-parts leaves out": {
			files: map[string]os.FileMode{"10-a": 0, "10-a.sh": 0, "10-a~": 0, ".hidden": 0, "20-b": 0o644},
			want:  []string{"10-a"}, ignored: []string{".hidden", "10-a.sh", "10-a~", "20-b"},
		},
		"links and folders": {
			files: map[string]os.FileMode{"10-a": 0},
			spoil: func(dir string) error {
				return errors.Join(os.Symlink("10-a", filepath.Join(dir, "20-b")), os.Mkdir(filepath.Join(dir, "30-c"), 0o755))
			},
			want: []string{"10-a"}, ignored: []string{"20-b", "30-c"},
		},
		"others may write one": {
			files: map[string]os.FileMode{"10-a": 0, "20-b": 0o757}, refused: "20-b: others may write it", fix: "chmod go-w ",
		},
		"a group may write one": {files: map[string]os.FileMode{"10-a": 0o775}, refused: "10-a: others", fix: "chmod go-w "},
		"what is not run counts for nothing": {
			files: map[string]os.FileMode{"10-a.bak": 0o777}, ignored: []string{"10-a.bak"},
		},
		"an empty one": {
			files:   map[string]os.FileMode{"10-a": 0, "20-b": 0},
			spoil:   func(dir string) error { return os.Truncate(filepath.Join(dir, "20-b"), 0) },
			refused: "20-b is empty", fix: "Write it anew",
		},
		"zeros alone": {
			files: map[string]os.FileMode{"10-a": 0},
			spoil: func(dir string) error {
				file := filepath.Join(dir, "10-a")
				return errors.Join(os.Truncate(file, 0), os.Truncate(file, 100<<10))
			},
			refused: "10-a is empty", fix: "Write it anew",
		},
		"zeros, and more": {
			files: map[string]os.FileMode{"10-a": 0},
			spoil: func(dir string) error {
				return os.WriteFile(filepath.Join(dir, "10-a"), append(make([]byte, 100<<10), 'x'), 0o600)
			},
			want: []string{"10-a"},
		},
		"an empty one that is not run": {
			files: map[string]os.FileMode{"README": 0o644},
			spoil: func(dir string) error { return os.Truncate(filepath.Join(dir, "README"), 0) }, ignored: []string{"README"},
		},
		"a link to nothing": {
			spoil: func(dir string) error {
				return errors.Join(os.Remove(dir), os.Symlink("/nowhere/start.d", dir))
			},
			refused: "start.d leads to /nowhere/start.d, which is missing", fix: "not mounted",
		},
		"a link to a folder without that one": {
			spoil: func(dir string) error {
				return errors.Join(os.Remove(dir), os.Remove(filepath.Dir(dir)), os.Symlink("/", filepath.Dir(dir)))
			},
		},
		"others may write the folder": {
			files:   map[string]os.FileMode{"10-a": 0},
			spoil:   func(dir string) error { return os.Chmod(dir, 0o777) },
			refused: "start.d: others may write it", fix: "chmod go-w ",
		},
		"a sticky folder": {
			files:   map[string]os.FileMode{"10-a": 0},
			spoil:   func(dir string) error { return os.Chmod(dir, 0o777|os.ModeSticky) },
			refused: "start.d: others may write it", fix: "chmod go-w ",
		},
		"others may write the folder above": {
			files:   map[string]os.FileMode{"10-a": 0},
			spoil:   func(dir string) error { return os.Chmod(filepath.Dir(dir), 0o777) },
			refused: "others may write it", fix: "chmod go-w ",
		},
		"another account's script": {
			files:   map[string]os.FileMode{"10-a": 0},
			spoil:   func(dir string) error { return os.Chown(filepath.Join(dir, "10-a"), 65534, -1) },
			refused: "its owner, the account 65534, may write it", fix: "chown root: ",
		},
		"another account's folder": {
			files:   map[string]os.FileMode{"10-a": 0},
			spoil:   func(dir string) error { return os.Chown(dir, 65534, -1) },
			refused: "its owner, the account 65534, may write it", fix: "chown root: ",
		},
		"a link of another account's to the folder": {
			files: map[string]os.FileMode{"10-a": 0},
			spoil: func(dir string) error {
				return errors.Join(os.Rename(dir, dir+"2"), os.Symlink("start.d2", dir), os.Lchown(dir, 65534, -1))
			},
			refused: "its owner, the account 65534, may write it", fix: "chown root: ",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if strings.Contains(name, "account") && os.Geteuid() != 0 {
				t.Skip("needs root")
			}
			dir := folder(t, c.files)
			if c.spoil != nil {
				if err := c.spoil(dir); err != nil {
					t.Fatal(err)
				}
			}
			names, ignored, err := Of(dir, Start)
			if c.refused != "" {
				f := fault.From(err)
				if err == nil || f.Class != fault.Start || !strings.Contains(f.Error(), c.refused) ||
					!strings.Contains(f.Advice, c.fix) || f.Wait {
					t.Fatalf("%v, %v", names, err)
				}
				return
			}
			var left []string
			for _, i := range ignored {
				left = append(left, i.Name)
			}
			if err != nil || !slices.Equal(names, c.want) || !slices.Equal(left, c.ignored) {
				t.Errorf("%v, %v, %v", names, ignored, err)
			}
		})
	}
	if names, _, err := Of("", Start); err != nil || names != nil {
		t.Error(names, err)
	}
}

// A folder that is missing behind a link to nothing is not one without scripts.
func TestALinkAboveToNothing(t *testing.T) {
	link := filepath.Join(t.TempDir(), "disk")
	if err := os.Symlink("/nowhere", link); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Of(filepath.Join(link, "a", "start.d"), Hooks); err == nil || !strings.Contains(err.Error(), "the link "+link) {
		t.Error(err)
	}
}

func TestFirstLine(t *testing.T) {
	for text, want := range map[string]string{
		"#!/bin/sh\nexit 1\n":                  "",
		"#! /bin/sh -e\n":                      "",
		"#!/bin/sh":                            "",
		"#!/usr/bin/env sh\n":                  "",
		"#!/usr/bin/env -S sh -e\n":            "",
		"#!/bin/sh\r\nexit 1\r\n":              "ends with CR LF",
		"#!/usr/bin/env sh\r\n":                "ends with CR LF",
		"#!/usr/bin/nosuch\n":                  "not there: /usr/bin/nosuch",
		"#!/usr/bin/env nosuchprogram\nline\n": "not there: nosuchprogram",
		"#!\n":                                 "names no program",
		"\x7fELF":                              "",
		"":                                     "",
	} {
		file := filepath.Join(t.TempDir(), "10-a")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := FirstLine(file); (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%q: %q", text, got)
		}
	}
	if got := FirstLine("/nowhere/10-a"); got != "" {
		t.Error(got)
	}
}
