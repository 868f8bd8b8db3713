package standin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// A jobMessage is what the server gives to the listener, and the listener to its worker.
type jobMessage struct {
	RequestID      int     `json:"requestId"`
	JobDisplayName string  `json:"jobDisplayName"`
	Seconds        float64 `json:"seconds"` // of work, after the step
	Run            string  `json:"run"`     // the step: a shell script
}

// Exit codes of the real worker (agent repository,
// src/Microsoft.VisualStudio.Services.Agent/Util/TaskResultUtil.cs).
const (
	workerSucceeded = 100
	workerFailed    = 102
	workerCanceled  = 103
)

// How long a step that is cancelled has after SIGINT, and then after SIGTERM (agent repository,
// src/Agent.Sdk/ProcessInvoker.cs).
const (
	afterInterrupt = 7500 * time.Millisecond
	afterTerminate = 2500 * time.Millisecond
)

// worker is bin/Agent.Worker: it takes one job from its listener and does it. SIGINT cancels the
// job, as a word of the listener does to the real one.
func worker() int {
	cancel := make(chan os.Signal, 1)
	signal.Notify(cancel, os.Interrupt, syscall.SIGTERM)
	var j jobMessage
	if err := json.NewDecoder(os.Stdin).Decode(&j); err != nil {
		fmt.Println("The job message cannot be read:", err)
		return 1
	}
	hearEnd(cancel)
	if j.Run != "" {
		if code := step(j.Run, cancel); code != workerSucceeded {
			return code
		}
	}
	select {
	case <-time.After(time.Duration(j.Seconds * float64(time.Second))):
		return workerSucceeded
	case <-cancel:
		return workerCanceled
	}
}

// step runs a script in the work folder. What it writes goes to the worker's log and to stdout.
func step(script string, cancel <-chan os.Signal) int {
	log, err := workerLog()
	if err != nil {
		fmt.Println(err)
		return workerFailed
	}
	defer log.Close() //nolint:errcheck // a log
	out := io.MultiWriter(log, os.Stdout)
	cmd := shell(script)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.WaitDelay = time.Second // what the script leaves running does not hold the job
	if cmd.Dir, err = workFolder(); err == nil {
		err = cmd.Start()
	}
	if err != nil {
		fmt.Fprintln(out, err)
		return workerFailed
	}
	easyToKill(cmd.Process.Pid)
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err = <-ended:
	case <-cancel:
		end(cmd.Process, ended)
		return workerCanceled
	}
	if err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		select { // a signal for the whole group ends the step as well, and may be heard of later
		case <-cancel:
			return workerCanceled
		case <-time.After(200 * time.Millisecond):
		}
		fmt.Fprintf(out, "##[error]The step failed: %v\n", err)
		return workerFailed
	}
	return workerSucceeded
}

// end ends a step as the real worker does: SIGINT, SIGTERM, SIGKILL.
func end(p *os.Process, ended <-chan error) {
	for _, s := range []struct {
		signal os.Signal
		wait   time.Duration
	}{{os.Interrupt, afterInterrupt}, {syscall.SIGTERM, afterTerminate}, {os.Kill, time.Second}} {
		_ = p.Signal(s.signal)
		select {
		case <-ended:
			return
		case <-time.After(s.wait):
		}
	}
}

// easyToKill makes a step the first to die when memory is short, as the real ProcessInvoker does
// with all that a worker starts (agent repository, src/Agent.Sdk/ProcessInvoker.cs: 500, or
// PIPELINE_JOB_OOMSCOREADJ).
func easyToKill(pid int) {
	score := 500
	if n, err := strconv.Atoi(os.Getenv("PIPELINE_JOB_OOMSCOREADJ")); err == nil && n >= -1000 && n <= 1000 {
		score = n
	}
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid), []byte(strconv.Itoa(score)), 0o600)
}

// workFolder is the agent's; its first job makes it.
func workFolder() (string, error) {
	s, err := readSettings()
	if err != nil {
		return "", err
	}
	dir, err := filepath.Abs(s.WorkFolder)
	if err != nil {
		return "", err
	}
	return dir, os.MkdirAll(dir, 0o755) //nolint:gosec // as the real one
}

func workerLog() (*os.File, error) {
	if err := os.MkdirAll("_diag", 0o755); err != nil { //nolint:gosec // as the real one
		return nil, err
	}
	name := "Worker_" + time.Now().UTC().Format("20060102-150405") + "-utc.log"
	return os.OpenFile(
		filepath.Join("_diag", name),
		os.O_CREATE|os.O_APPEND|os.O_WRONLY,
		0o644,
	) //nolint:gosec // a log
}
