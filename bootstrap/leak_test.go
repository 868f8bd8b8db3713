//go:build linux

package bootstrap_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// holding starts a boot and returns when config.sh, which hangs, holds the PAT.
func (m *machine) holding(t *testing.T, said *bytes.Buffer) *exec.Cmd {
	t.Helper()
	m.prepare(t, "hang")
	cmd := m.command(time.Minute, "run", "--once", "--log-level", "trace")
	cmd.Env = append(cmd.Env, "GOTRACEBACK=crash") // says all it can, and dumps core if it may
	cmd.Stdout, cmd.Stderr, cmd.Dir = said, said, t.TempDir()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(30 * time.Second); ; <-time.After(5 * time.Millisecond) {
		if pid := m.configures(); pid != 0 && m.inEnvironment(pid) {
			return cmd
		}
		if time.Now().After(end) {
			_ = cmd.Process.Kill()
			t.Fatalf("config.sh was not seen with the PAT:\n%s", said)
		}
	}
}

func (m *machine) configures() int {
	data, err := os.ReadFile(filepath.Join(m.state, "configure.pid"))
	if err != nil {
		return 0
	}
	text, _, _ := strings.Cut(string(data), " ") // it may just be written
	pid, _ := strconv.Atoi(text)
	return pid
}

func (m *machine) inEnvironment(pid int) bool {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	return bytes.Contains(data, []byte(m.pat))
}

// forms are the PAT as it might stand somewhere.
func (m *machine) forms() [][]byte {
	return [][]byte{
		[]byte(m.pat),
		[]byte(base64.StdEncoding.EncodeToString([]byte(":" + m.pat))),
		[]byte(base64.StdEncoding.EncodeToString([]byte(m.pat))),
	}
}

func (m *machine) absent(t *testing.T, where string, data []byte) {
	t.Helper()
	for _, f := range m.forms() {
		if bytes.Contains(data, f) {
			t.Errorf("the PAT is in %s", where)
		}
	}
}

// TestThePATWhileItIsHeld looks into the running daemon from outside at the moment that matters.
func TestThePATWhileItIsHeld(t *testing.T) {
	m := realMachine(t)
	var said bytes.Buffer
	cmd := m.holding(t, &said)
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		m.absent(t, "the output", said.Bytes())
	}()
	daemon := cmd.Process.Pid
	for _, file := range []string{"cmdline", "environ"} {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", daemon, file))
		if err != nil && os.Geteuid() == 0 {
			t.Error(err)
		}
		m.absent(t, "the daemon's "+file, data)
	}
	looked := 0
	for _, pid := range []int{daemon, m.configures()} { // files that are open, deleted ones as well
		open, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		for _, fd := range open {
			fi, err := os.Stat(fd)
			if err != nil || !fi.Mode().IsRegular() {
				continue
			}
			data, _ := os.ReadFile(fd)
			to, _ := os.Readlink(fd)
			m.absent(t, "the open file "+to, data)
			looked++
		}
	}
	if os.Geteuid() != 0 {
		t.Skip("the rest needs root: another user's view")
	}
	if looked == 0 {
		t.Error("no open file was seen: this test sees nothing")
	}
	for _, file := range []string{"environ", "mem", "maps", "fd/1", "stack", "auxv"} {
		name := fmt.Sprintf("/proc/%d/%s", daemon, file)
		look := exec.Command("/bin/cat", name)
		look.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		if out, err := look.CombinedOutput(); err == nil {
			t.Errorf("the service user reads %s: %.100q", name, out)
		}
	}
	if limits, err := os.ReadFile(
		fmt.Sprintf("/proc/%d/limits", m.configures()),
	); err != nil ||
		!strings.Contains(strings.Join(strings.Fields(string(limits)), " "), "Max core file size 0 0") {
		t.Errorf("config.sh may dump core: %v\n%s", err, limits)
	}
}

// TestAViolentEndTellsNothing: a crash with the PAT in memory leaves no core, and the dump of
// goroutines holds no secret.
func TestAViolentEndTellsNothing(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGABRT, syscall.SIGQUIT, syscall.SIGSEGV} {
		t.Run(sig.String(), func(t *testing.T) {
			var limit unix.Rlimit
			if err := unix.Getrlimit(unix.RLIMIT_CORE, &limit); err != nil {
				t.Fatal(err)
			}
			most := limit
			most.Cur = most.Max
			if err := unix.Setrlimit(unix.RLIMIT_CORE, &most); err != nil {
				t.Fatal(err)
			}
			defer func() { _ = unix.Setrlimit(unix.RLIMIT_CORE, &limit) }()
			m := realMachine(t)
			var said bytes.Buffer
			cmd := m.holding(t, &said)
			_ = cmd.Process.Signal(sig)
			_ = cmd.Wait()
			m.powerOff("configure.pid")
			if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || ws.CoreDump() {
				t.Errorf("it dumped core: %v", cmd.ProcessState)
			}
			if left, _ := filepath.Glob(filepath.Join(cmd.Dir, "*")); len(left) > 0 {
				t.Errorf("it left %v", left)
			}
			if !strings.Contains(said.String(), "goroutine ") {
				t.Errorf("there is no dump of goroutines to look at: %v", cmd.ProcessState)
			}
			m.absent(t, "the dump of goroutines", said.Bytes())
			if err := m.sound(); err != nil && err.Error() != "it panicked" {
				t.Error(err)
			}
		})
	}
}
