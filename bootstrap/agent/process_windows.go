package agent

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
)

// A process runs config.cmd in a job object of its own: whatever ends it, the daemon's death
// included, ends all that it started. So no record is needed here.
type process struct {
	Dir    string
	User   string
	Env    []string
	Argv   []string
	Record string
	Ready  func() error // the program begins if it returns nil; nil = at once
}

// plain are arguments that cmd.exe passes on as they are. Others would be read by it as syntax.
var plain = regexp.MustCompile(`^[A-Za-z0-9 _.:/\\,-]*$`)

// command keeps from cmd.exe what it would read as syntax: such values go by environment, where the
// agent looks for every option too (CommandSettings.cs, VSTS_AGENT_INPUT_<NAME>).
func (p process) command() *exec.Cmd {
	args, env := []string{"/d", "/c", p.Argv[0]}, p.Env
	rest := p.Argv[1:]
	for i := 0; i < len(rest); i++ {
		if i+1 < len(rest) && !strings.HasPrefix(rest[i+1], "--") && !plain.MatchString(rest[i+1]) {
			env = append(env, "VSTS_AGENT_INPUT_"+strings.ToUpper(strings.TrimPrefix(rest[i], "--"))+"="+rest[i+1])
			i++
			continue
		}
		args = append(args, rest[i])
	}
	cmd := exec.Command("cmd.exe", args...) //nolint:gosec // argv is ours
	cmd.Dir, cmd.Env = p.Dir, env
	return cmd
}

func (p process) run(ctx context.Context, consume func(out io.Reader, stop func())) (int, error) {
	if p.Ready != nil {
		if err := p.Ready(); err != nil {
			return -1, err
		}
	}
	job, err := windows.CreateJobObject(nil, nil)
	if err != nil {
		return -1, err
	}
	defer windows.CloseHandle(job) //nolint:errcheck // ends what is left
	limits := windows.JOBOBJECT_EXTENDED_LIMIT_INFORMATION{BasicLimitInformation: windows.JOBOBJECT_BASIC_LIMIT_INFORMATION{LimitFlags: windows.JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE}}
	if _, err := windows.SetInformationJobObject(job, windows.JobObjectExtendedLimitInformation, uintptr(unsafe.Pointer(&limits)), uint32(unsafe.Sizeof(limits))); err != nil {
		return -1, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return -1, err
	}
	defer r.Close() //nolint:errcheck // only read
	cmd := p.command()
	cmd.Stdout, cmd.Stderr = w, w
	err = cmd.Start()
	_ = w.Close()
	if err != nil {
		return -1, err
	}
	h, err := windows.OpenProcess(windows.PROCESS_SET_QUOTA|windows.PROCESS_TERMINATE, false, uint32(cmd.Process.Pid)) //nolint:gosec // a process number
	if err == nil {
		err = windows.AssignProcessToJobObject(job, h)
		_ = windows.CloseHandle(h)
	}
	if err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return -1, err
	}
	end := func() { _ = windows.TerminateJobObject(job, 1) }
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
	end() // children that config.cmd left behind
	select {
	case <-read:
	case <-time.After(2 * time.Second):
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
