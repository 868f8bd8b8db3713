//go:build unix

package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/whole"
)

// A process runs a program, most often one of the agent's folder as the service user, in a process
// group of its own that is recorded on disk before the program begins: a daemon that was killed meanwhile finds and
// ends what it left behind.
type process struct {
	Dir    string
	User   string
	Groups []uint32 // besides those that User is in
	Apart  int      // in place of User: a user number that no account has
	Self   bool     // in place of User: as who runs this
	Env    []string
	Argv   []string
	Record string // file
	Stays  bool   // the file of the record, for the next: a full disk does not keep that from being written
}

// gate holds the program back until its record is written: if the daemon dies before, the program
// never begins.
const gate = `read -r go || exit 125; exec "$@" </dev/null`

func (p process) start(ctx context.Context, output *os.File, session bool) (cmd *exec.Cmd, err error) {
	if err := endRecorded(ctx, p.Record, syscall.SIGKILL, 10*time.Second); err != nil {
		return nil, err
	}
	cmd = exec.Command("/bin/sh", append([]string{"-c", gate, "sh"}, p.Argv...)...) //nolint:gosec // argv is ours
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = p.Dir, p.Env, output, output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: !session, Setsid: session}
	if p.Apart != 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{
			Uid: uint32(p.Apart),
			Gid: uint32(p.Apart),
		} //nolint:gosec // a user number
	} else if !p.Self {
		if cmd.SysProcAttr.Credential, err = credentialOf(p.User); err != nil {
			return nil, err
		}
		if c := cmd.SysProcAttr.Credential; c != nil {
			c.Groups = append(c.Groups, p.Groups...)
		}
	}
	open, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	shut := func(err error) error {
		_ = open.Close() // the program never begins
		_ = cmd.Wait()
		return err
	}
	// No process outlives a power cut: half a record is none.
	record := fmt.Sprintf("%d %s", cmd.Process.Pid, startTime(cmd.Process.Pid))
	if err := whole.Over(p.Record, record, 0o644); err != nil {
		return nil, shut(
			fault.New(fault.State, "the record of a process").
				Because(err).
				Hint("Check free space and rights of %s (--state-dir); run as root.", filepath.Dir(p.Record)),
		)
	}
	if _, err := io.WriteString(open, "go\n"); err != nil {
		return nil, shut(err)
	}
	_ = open.Close()
	return cmd, nil
}

// run runs the program to its end or ctx's, with its output going to consume. It returns the exit
// code, -1 for a signal. Nothing of the group is left afterwards.
func (p process) run(ctx context.Context, consume func(out io.Reader, stop func())) (int, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return -1, err
	}
	defer r.Close() //nolint:errcheck // only read
	cmd, err := p.start(ctx, w, false)
	_ = w.Close()
	if err != nil {
		return -1, err
	}
	defer p.forget()
	end := func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	read := make(chan struct{})
	go func() {
		defer close(read)
		consume(r, end)
	}()
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	select {
	case err = <-exited:
	case <-ctx.Done():
		end()
		err = <-exited
	}
	end() // children that the program left behind
	select {
	case <-read:
	case <-time.After(2 * time.Second): // one that left the group holds the pipe
		_ = r.Close()
		<-read
	}
	var ee *exec.ExitError
	if errors.As(err, &ee) {
		return ee.ExitCode(), nil
	}
	if err != nil {
		return -1, err
	}
	return 0, nil
}

// forget removes the record, or what it says. A stale one is recognized.
func (p process) forget() {
	if p.Stays {
		_ = whole.Over(p.Record, "", 0o644)
		return
	}
	_ = os.Remove(p.Record)
}

// recorded returns the process of a record, 0 if it no longer runs.
func recorded(record string) int {
	if pid, start := written(record); start != "" && startTime(pid) == start {
		return pid
	}
	return 0
}

// written is what a record says; 0 if nothing.
func written(record string) (pid int, start string) {
	data, err := os.ReadFile(record) //nolint:gosec // the state folder's
	if err != nil {
		return 0, ""
	}
	number, start, _ := strings.Cut(strings.TrimSpace(string(data)), " ")
	if pid, err = strconv.Atoi(number); err != nil || pid <= 1 {
		return 0, ""
	}
	return pid, start
}

// endRecorded ends the group of a recorded process, if it still runs, and waits until it is gone;
// after patience, or shortly before ctx's deadline, it is killed.
func endRecorded(ctx context.Context, record string, sig syscall.Signal, patience time.Duration) error {
	pid := recorded(record)
	if pid == 0 {
		return nil
	}
	if end, limited := ctx.Deadline(); limited {
		patience = max(0, min(patience, time.Until(end)-killedBefore))
	}
	_ = syscall.Kill(-pid, sig)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	begin := time.Now()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("process %d of an earlier run has not ended yet: %w", pid, ctx.Err())
		}
		// A zombie that nobody waits for still counts as a member of its group; startTime tells it.
		if syscall.Kill(-pid, 0) == syscall.ESRCH || startTime(pid) == "" {
			_ = os.Remove(record)
			return nil
		}
		if waited := time.Since(begin); waited > patience+5*time.Second {
			return fmt.Errorf("process %d of an earlier run does not end", pid)
		} else if waited > patience {
			_ = syscall.Kill(-pid, syscall.SIGKILL)
		}
	}
}

// killedBefore is how long before a deadline what does not end by itself is killed: what comes
// after needs time as well.
const killedBefore = 10 * time.Second

const notExecutable, notFound = 126, 127 // a shell's own

// ended and notRun are what a shell's exit codes say of the program that it was to run: a signal ended it
// (above 128), or it could not be begun.
func ended(exit int) bool { return exit > 128 }

func notRun(exit int) bool { return exit == notExecutable || exit == notFound }
