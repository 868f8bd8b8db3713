//go:build unix

package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var blocks = regexp.MustCompile("(?ms)^```(sh|bash|console)([^\n]*)\n(.*?)^```")

// Each block of commands says what runs it (docs: the test below, gate: .ci/run, package: make
// package-test), or what it needs that is not here.
func TestBlocksOfTheDocumentationAreMarked(t *testing.T) {
	known := map[string]bool{" run=docs": true, " run=gate": true, " run=package": true, " needs=azure": true, " needs=internet": true, " needs=vm": true}
	packages, err := os.ReadFile(filepath.Join("..", "..", "scripts", "package-test.sh"))
	if err != nil {
		t.Fatal(err)
	}
	for page, text := range documentation(t) {
		for _, b := range blocks.FindAllStringSubmatch(text, -1) {
			first, _, _ := strings.Cut(b[3], "\n")
			switch {
			case b[1] == "console": // what is shown
			case !known[b[2]]:
				t.Errorf("%s: nobody says who runs the block that begins with %q", page, first)
			case b[2] == " run=docs" && page != "README.md" && page != "docs/simulator.md":
				t.Errorf("%s: the block that begins with %q is not run by the test below", page, first)
			case b[2] == " run=package" && !strings.Contains(string(packages), "block "+page):
				t.Errorf("%s: scripts/package-test.sh does not run the block that begins with %q", page, first)
			}
		}
	}
}

// documentation is all pages, by their path from the repository's root.
func documentation(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, pattern := range []string{"README.md", "docs/*.md", "docs/*/*.md"} {
		names, err := filepath.Glob(filepath.Join("..", "..", pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range names {
			text, err := os.ReadFile(n)
			if err != nil {
				t.Fatal(err)
			}
			rel, _ := filepath.Rel(filepath.Join("..", ".."), n)
			all[filepath.ToSlash(rel)] = string(text)
		}
	}
	return all
}

// The commands of README and of the simulator's page can be pasted one after the other, as they stand,
// and do what the pages say.
func TestBlocksOfTheDocumentation(t *testing.T) {
	all := documentation(t)
	var script strings.Builder
	begins := regexp.MustCompile(`(?m)^azp-bootstrap run &`)
	for _, page := range []string{"docs/simulator.md", "README.md"} {
		for _, b := range blocks.FindAllStringSubmatch(all[page], -1) {
			if b[2] != " run=docs" {
				continue
			}
			script.WriteString("echo; echo '=== " + page + "'\n" + b[3])
			if begins.MatchString(b[3]) { // Ctrl-C ends it, and what follows is another VM's
				script.WriteString("kill -INT %2; wait %2; azp-bootstrap rejoin\n")
			}
		}
	}
	dir := t.TempDir()
	for d := dir; d != "/tmp" && d != "/"; d = filepath.Dir(d) { // the agent runs as another user
		_ = os.Chmod(d, 0o755) //nolint:gosec // for nobody
	}
	journal := filepath.Join(dir, "journalctl")                                 // this machine's says nothing of the playground
	if err := os.WriteFile(journal, []byte("#!/bin/sh\n"), 0o755); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	text := strings.ReplaceAll(strings.ReplaceAll(script.String(), "/tmp/play", dir), "$PWD/build", bin+":"+dir)
	end := "\nfor r in " + dir + "/*/state/agent.pid " + dir + "/server/*/state/agent.pid; do read -r pid _ <$r && kill -INT -- -$pid; done; kill $(jobs -p); wait\n"
	c := exec.Command("bash", "-c", "set -m; cd "+dir+"\n"+text+end) //nolint:gosec // the documentation's own
	bytes, err := c.CombinedOutput()
	out := string(bytes)
	for _, want := range []string{
		`(?s)online   web-000001.*online   web-000002`,          // the playground
		`joins environment "production"`, `✓ scopes`, `● ready`, // its second block
		`"result":"succeeded"`, `(?m)^Deregistered\.`, `(?m)^10 agents.*10 would be removed`, `devops +200 POST`,
		`"acknowledgedBy":\["web_2"\]`, `… removed`, // its third
		`online   build-000001 .* in pool Build at https://devops.fabrikam.corp/Main`, // a server of your own
		`build-000001, ID`, `azp-bootstrap-.*\.tar\.gz`, // README's
	} {
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("it does not show %s", want)
		}
	}
	if strings.Contains(out, "command not found") || strings.Contains(out, "Error (") {
		t.Error("a command failed")
	}
	if t.Failed() {
		t.Logf("%v\n%s", err, out)
	}
}
