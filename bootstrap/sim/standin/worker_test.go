//go:build unix

package standin

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestMain(m *testing.M) { // this program under another name is the worker
	if code, handled := Main(os.Args); handled {
		os.Exit(code)
	}
	os.Exit(m.Run())
}

// startWorker starts a worker in an agent's folder of its own and hands it the job.
func startWorker(t *testing.T, j jobMessage) (dir string, out *strings.Builder, w *exec.Cmd) {
	t.Helper()
	dir = t.TempDir()
	if err := os.WriteFile(
		filepath.Join(dir, ".agent"),
		[]byte(mark+`{"acceptTeeEula": true, "agentId": 1, "agentName": "a", "poolId": 1, "poolName": "p", "serverUrl": "https://x", "workFolder": "_work"}`),
		0o600,
	); err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "Agent.Worker")
	if err := os.Symlink(exe, name); err != nil {
		t.Fatal(err)
	}
	body, _ := json.Marshal(j)
	out = &strings.Builder{}
	w = exec.Command(name, "spawnclient", "0", "1")
	w.Dir, w.Stdin, w.Stdout, w.Stderr = dir, strings.NewReader(string(body)), out, out
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Process.Kill() })
	return dir, out, w
}

func TestWorkerRunsTheStep(t *testing.T) {
	for name, c := range map[string]struct {
		job  jobMessage
		code int
		out  string
	}{
		"in the work folder":    {jobMessage{Run: "pwd"}, workerSucceeded, "/_work\n"},
		"that fails":            {jobMessage{Run: "echo no; exit 7"}, workerFailed, "exit status 7"},
		"killed":                {jobMessage{Run: "kill -9 $$"}, workerFailed, "killed"},
		"that leaves something": {jobMessage{Run: "sleep 30 & echo left"}, workerSucceeded, "left\n"},
		"and no work":           {jobMessage{}, workerSucceeded, ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir, out, w := startWorker(t, c.job)
			_ = w.Wait()
			if got := w.ProcessState.ExitCode(); got != c.code || !strings.Contains(out.String(), c.out) {
				t.Errorf("exit code %d, want %d; output %q, want %q in it", got, c.code, out, c.out)
			}
			logs, _ := filepath.Glob(filepath.Join(dir, "_diag", "Worker_*-utc.log"))
			if c.job.Run == "" {
				return
			}
			if len(logs) != 1 {
				t.Fatalf("worker's logs: %q", logs)
			}
			if log, _ := os.ReadFile(logs[0]); string(log) != out.String() {
				t.Errorf("the log has %q, stdout %q", log, out)
			}
		})
	}
}

func TestWorkerLetsTheStepDieFirst(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has oom_score_adj")
	}
	_, out, w := startWorker(t, jobMessage{Run: "sleep 0.2; cat /proc/self/oom_score_adj"})
	if err := w.Wait(); w.ProcessState.ExitCode() != workerSucceeded || out.String() != "500\n" {
		t.Errorf("the step's oom_score_adj is %q (%v)", out, err)
	}
}

func TestWorkerThatIsCancelledEndsItsStep(t *testing.T) {
	_, _, w := startWorker(
		t,
		jobMessage{Run: "trap 'exit 0' INT; echo ready > ready; while :; do sleep 0.05; done", Seconds: 60},
	)
	for begin := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(filepath.Join(w.Dir, "_work", "ready")); err == nil {
			break
		}
		if time.Since(begin) > 10*time.Second {
			t.Fatal("the step did not begin")
		}
	}
	_ = w.Process.Signal(syscall.SIGINT)
	_ = w.Wait()
	if got := w.ProcessState.ExitCode(); got != workerCanceled {
		t.Errorf("exit code %d, want %d", got, workerCanceled)
	}
}
