package whole

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestClear: a state folder may be somebody's home.
func TestClear(t *testing.T) {
	dir := t.TempDir()
	kept := []string{
		".bashrc",
		".netrc",
		".gitconfig",
		".state.json",
		".state.json.bak",
		".state.json2",
		".state.json20261126",
		".state.jsonx1234567890123456789",
		".other.json1234567890123456789",
		"state.json",
		"state.json1234567890123456789",
		".1234567890123456789",
		".azp-bootstrap-scratch-",
		".azp-bootstrap-scratch-12.bak",
		".xstate.json1234567890123456789",
		"outside",
	}
	for _, n := range append([]string{".state.json1234567890123456789", ".state.json1234567890", ".azp-bootstrap-scratch-7"}, kept...) {
		write(t, filepath.Join(dir, n))
	}
	for _, n := range []string{".ssh", ".state.json1111111111111111111"} { // folders
		write(t, filepath.Join(dir, n, "in"))
		kept = append(kept, n)
	}
	for _, n := range []string{".state.json2222222222222222222", ".azp-bootstrap-scratch-2"} { // links
		if err := os.Symlink("outside", filepath.Join(dir, n)); err != nil {
			t.Skip("links cannot be made here: ", err) // Windows wants a privilege for it
		}
		if fi, err := os.Lstat(filepath.Join(dir, n)); err != nil || fi.Mode()&fs.ModeSymlink == 0 {
			t.Skip("links are none here") // Wine
		}
		kept = append(kept, n)
	}
	Clear(dir, "state.json", "agent.pid")
	Clear(filepath.Join(dir, "missing"), "state.json")
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, e := range entries {
		left = append(left, e.Name())
	}
	slices.Sort(kept)
	if !slices.Equal(left, kept) {
		t.Errorf("left: %v\nwant: %v", left, kept)
	}
}

// TestClearKnowsWhatWriteMakes: a name that renameio no longer makes would never be removed.
func TestClearKnowsWhatWriteMakes(t *testing.T) {
	dir := t.TempDir()
	seen := false
	for range 200 { // a write that is watched: its hidden name is there for an instant
		done := make(chan error, 1)
		go func() { done <- Write(filepath.Join(dir, "state.json"), make([]byte, 1<<20), 0o600) }()
		for writing := true; writing; {
			select {
			case err := <-done:
				if err != nil {
					t.Fatal(err)
				}
				writing = false
			default:
				_ = filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
					if n := filepath.Base(name); err == nil && !d.IsDir() && n != "state.json" {
						seen = true
						if of := halfWritten.FindStringSubmatch(n); of == nil || of[1] != "state.json" {
							t.Errorf("it is written as %s, which Clear does not know", n)
						}
					}
					return nil
				})
			}
		}
		if seen {
			return
		}
	}
	t.Skip("no write was seen under way")
}

func write(t *testing.T, name string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
}
