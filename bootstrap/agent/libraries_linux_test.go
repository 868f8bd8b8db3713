package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"azp-bootstrap/bootstrap/tree"

	"azp-bootstrap/bootstrap/fault"
)

// The agent's script first, and the table if it fails; what neither can do says how to.
func TestLibrariesAreInstalled(t *testing.T) {
	for name, c := range map[string]struct {
		release      string
		script       int // exit code
		manager      int // of the package manager; -1 = there is none
		record       string
		fails, asked bool
	}{
		"by the script":        {"Debian 12", 0, -1, "installed by bin/installdependencies.sh", false, false},
		"by name":              {"Debian 12", 1, 0, "installed by name, since bin/installdependencies.sh failed: apt-get install -y ", false, true},
		"by neither":           {"Debian 12", 1, 100, "", true, true},
		"no package manager":   {"SLES 15", 1, -1, "", true, false},
		"unknown distribution": {"Gentoo", 1, 0, "", true, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			script := filepath.Join(dir, "installdependencies.sh")
			write := func(file, text string) {
				if err := os.WriteFile(file, []byte("#!/bin/sh\n"+text), 0o755); err != nil { //nolint:gosec // a program
					t.Fatal(err)
				}
			}
			write(script, fmt.Sprintf("echo the script says so\nexit %d\n", c.script))
			if c.manager >= 0 {
				write(filepath.Join(dir, "apt-get"), fmt.Sprintf("echo \"$@\" >%s/asked\nexit %d\n", dir, c.manager))
			}
			t.Setenv("PATH", dir) // so that no package manager of this machine is ever asked
			d := distributionOf(releases[c.release])
			var said strings.Builder
			record, err := d.install(t.Context(), script, func(format string, args ...any) {
				fmt.Fprintf(&said, format+"\n", args...)
			})
			asked, _ := os.ReadFile(filepath.Join(dir, "asked"))
			if (err != nil) != c.fails || !strings.HasPrefix(record, c.record) || (len(asked) > 0) != c.asked {
				t.Fatalf("recorded %q, asked %q, err %v", record, asked, err)
			}
			if !strings.Contains(said.String(), "  the script says so\n") {
				t.Errorf("what the script says is not told: %s", said.String())
			}
			if c.asked && !strings.HasPrefix(string(asked), "install -y ca-certificates ") {
				t.Errorf("asked %q", asked)
			}
			if err != nil {
				hint := fault.From(err).Advice
				if command := d.libraries(); !strings.Contains(hint, command) || !strings.Contains(hint, "--no-dependencies") {
					t.Errorf("the hint: %s", hint)
				}
			}
		})
	}
}

// What .NET loads when it begins is looked for, where the agent is one of .NET's.
func TestLackingLibraries(t *testing.T) {
	for name, c := range map[string]struct {
		files string
		want  string // "" = nothing lacks
	}{
		"no agent of .NET's":      {"opt/agent/bin/Agent.Listener", ""},
		"all, as Debian":          {"opt/agent/bin/libcoreclr.so usr/lib/x86_64-linux-gnu/libicuuc.so.72 usr/lib/x86_64-linux-gnu/libssl.so.3", ""},
		"all, as RHEL":            {"opt/agent/bin/libcoreclr.so usr/lib64/libicuuc.so.67 usr/lib64/libssl.so.3", ""},
		"all, as Alpine":          {"opt/agent/bin/libcoreclr.so usr/lib/libicuuc.so.74 lib/libssl.so.3", ""},
		"no ICU":                  {"opt/agent/bin/libcoreclr.so usr/lib/libssl.so.3", "missing: libicu"},
		"neither":                 {"opt/agent/bin/libcoreclr.so", "missing: libicu, OpenSSL"},
		"of another place's":      {"opt/agent/bin/libcoreclr.so srv/libicuuc.so.72 usr/lib/libssl.so.3", "missing: libicu"},
		"after it updated itself": {"opt/agent/bin.4.1/libcoreclr.so", "missing: libicu, OpenSSL"},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			for _, file := range strings.Fields(c.files) {
				file = filepath.Join(root, file)
				if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o750), os.WriteFile(file, nil, 0o600)); err != nil {
					t.Fatal(err)
				}
			}
			_ = os.Symlink("bin.4.1", filepath.Join(root, "opt/agent/bin")) // where there is none yet
			image, err := tree.Open(root)
			if err != nil {
				t.Fatal(err)
			}
			defer image.Close() //nolint:errcheck // only read
			err = Home{Dir: filepath.Join(root, "opt/agent"), Tree: image}.Lacking()
			if (err == nil) != (c.want == "") || err != nil && !strings.HasSuffix(err.Error(), c.want) {
				t.Errorf("it says %v, want %q", err, c.want)
			}
		})
	}
}
