//go:build unix

package main_test

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A run that a person interrupts did not fail: its exit code says so, and what it says is what to do next.
func TestInterrupted(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command(filepath.Join(bin, "azp-bootstrap"), "run", "--once", "--config", filepath.Join(dir,
		"none.yaml"), "--state-dir", filepath.Join(dir, "state"),
		"--set", "url=https://dev.azure.com/contoso", "--set", "target.pool.name=Default", "--set",
		"credential.keyVault.url=https://contoso.vault.azure.net",
		"--set", "credential.keyVault.secret=azp-pat", "--set", "imds.endpoint=http://127.0.0.1:9", "--set",
		"health.listen=", "--set", "deadline=1m")
	out, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
	defer kill.Stop()
	said, interrupted := "", false
	for lines := bufio.NewScanner(out); lines.Scan(); {
		said += lines.Text() + "\n"
		if strings.Contains(said, "Instance Metadata Service") && !interrupted { // it waits for IMDS
			interrupted = true
			_ = cmd.Process.Signal(os.Interrupt)
		}
	}
	err = cmd.Wait()
	var ended *exec.ExitError
	if !errors.As(err, &ended) || ended.ExitCode() != 130 || !strings.Contains(said, "Interrupted. Run it again") {
		t.Errorf("%v\n%s", err, said)
	}
}

// Who may not read all of a machine must not be told that all is well there.
func TestOnlyRootSealsThisMachine(t *testing.T) {
	for _, root := range []string{"", "/"} {
		cmd := exec.Command(filepath.Join(bin, "azp-bootstrap"), "seal", "--check", "--root", root)
		cmd.Dir = "/"
		if os.Geteuid() == 0 {
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		}
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), "only root can look at all of this machine") {
			t.Errorf("--root %q: %v\n%s", root, err, out)
		}
	}
}
