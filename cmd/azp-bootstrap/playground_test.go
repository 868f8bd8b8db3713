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

// The playground that the page of the simulator prints can be pasted, and ends with two VMs that have joined.
func TestThePlaygroundOfTheDocumentation(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "simulator.md"))
	if err != nil {
		t.Fatal(err)
	}
	script := ""
	for _, b := range regexp.MustCompile("(?ms)^```sh\n(.*?)^```").FindAllStringSubmatch(string(page), -1) {
		if strings.Contains(b[1], "azp-sim scenario --vms") {
			script = b[1]
		}
	}
	dir := t.TempDir()
	for d := dir; d != "/tmp" && d != "/"; d = filepath.Dir(d) { // the agent runs as another user
		_ = os.Chmod(d, 0o755) //nolint:gosec // for nobody
	}
	script = strings.ReplaceAll(strings.ReplaceAll(script, "/tmp/play", dir), "$PWD/build", bin)
	end := "\nfor r in " + dir + "/*/state/agent.pid; do read -r pid _ <$r && kill -INT -- -$pid; done; kill %1; wait\n"
	c := exec.Command("bash", "-c", "set -m\n"+script+end) //nolint:gosec // the documentation's own
	out, err := c.CombinedOutput()
	if n := strings.Count(string(out), "online   web-00000"); n != 2 {
		t.Errorf("%d agents are online: %v\n%s", n, err, out)
	}
}
