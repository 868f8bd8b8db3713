//go:build linux

package main_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"azp-bootstrap/bootstrap/sim"
)

// stays is how long an agent that runs one job stays on the server after it: until the answer that it is removed.
type stays struct{ ours, peers []time.Duration }

// once lets agents run one job each, of the daemon's and of a script's in turn.
func (b *bench) once() (s stays) {
	config := "url: https://dev.azure.com/contoso\ntarget: {pool: {name: Default}}\nretire: {jobs: 1, then: none}\n" +
		"agent: {dir: " + b.agent() + ", user: nobody}\n" +
		"credential: {keyVault: {url: https://contoso.vault.azure.net, secret: azp-pat}}\n"
	b.must(os.WriteFile(b.path("once.yaml"), []byte(config), 0o600))
	for i := range *benchRuns + 1 {
		b.image(contender{name: "azp-bootstrap"})
		ours := b.oneJob(exec.Command(filepath.Join(b.bin, "azp-bootstrap"),
			"--config", b.path("once.yaml"), "--state-dir", b.path("state"), "run"))
		b.image(contender{name: "curl + jq"})
		peers := b.oneJob(b.script("once"))
		if i == 0 { // the first warms up
			continue
		}
		s.ours, s.peers = append(s.ours, ours), append(s.peers, peers)
		fmt.Printf("BenchmarkOnce/client=azp-bootstrap 1 %d removed-ns/op\nBenchmarkOnce/client=curl_+_jq 1 %d removed-ns/op\n", ours, peers)
	}
	b.must(os.RemoveAll(b.path("old")))
	return s
}

// oneJob gives a job to the agent that cmd brings up.
func (b *bench) oneJob(cmd *exec.Cmd) time.Duration {
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.WaitDelay = time.Second
	b.must(cmd.Start())
	defer b.reset()
	answered := func(method, part string) time.Time {
		for end := time.Now().Add(30 * time.Second); time.Now().Before(end); <-time.After(2 * time.Millisecond) {
			for _, q := range b.requests() {
				if q.Service != "proxy" && q.Method == method && strings.Contains(q.URL, part) && q.Status/100 == 2 {
					return q.At.Add(time.Duration(q.Millis * float64(time.Millisecond)))
				}
			}
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		b.t.Fatalf("nobody asked %s %s\n%s", method, part, said.String())
		return time.Time{}
	}
	answered(http.MethodPost, "/sessions")
	b.exec(filepath.Join(b.bin, "azp-sim"), "job", "--dir", b.path("azure"), "--pool", "Default", "--takes", "2s")
	removed := answered(http.MethodDelete, "/agents/")
	_ = cmd.Process.Signal(syscall.SIGTERM)
	_ = cmd.Wait()
	var jobs []sim.Job
	b.must(json.Unmarshal([]byte(b.exec(filepath.Join(b.bin, "azp-sim"), "jobs", "--json", "--dir", b.path("azure"))), &jobs))
	last := jobs[len(jobs)-1]
	if last.Result != "succeeded" {
		b.t.Fatalf("the job: %+v\n%s", last, said.String())
	}
	return removed.Sub(last.Finished)
}
