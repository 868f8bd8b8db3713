package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
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
	Apart  int // for Unix
}

// command runs config.cmd by its name in its own folder, with options alone: there is nothing that
// cmd.exe would read as syntax, nor anything to quote.
func (p process) command() *exec.Cmd {
	args := append([]string{"/d", "/c", `.\` + filepath.Base(p.Argv[0])}, p.Argv[1:]...)
	cmd := exec.Command("cmd.exe", args...) //nolint:gosec // argv is ours
	cmd.Dir, cmd.Env = p.Dir, p.Env
	return cmd
}

func (p process) run(ctx context.Context, consume func(out io.Reader, stop func())) (int, error) {
	job, err := windows.CreateJobObject(nil, nil)
	if err != nil {
		return -1, err
	}
	defer windows.CloseHandle(job) //nolint:errcheck // ends what is left
	limits := windows.JOBOBJECT_EXTENDED_LIMIT_INFORMATION{
		BasicLimitInformation: windows.JOBOBJECT_BASIC_LIMIT_INFORMATION{
			LimitFlags: windows.JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE,
		},
	}
	if _, err := windows.SetInformationJobObject(
		job,
		windows.JobObjectExtendedLimitInformation,
		uintptr(unsafe.Pointer(&limits)),
		uint32(unsafe.Sizeof(limits)),
	); err != nil {
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
	h, err := windows.OpenProcess(
		windows.PROCESS_SET_QUOTA|windows.PROCESS_TERMINATE,
		false,
		uint32(cmd.Process.Pid),
	) //nolint:gosec // a process number
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

// Workers are the processes that run jobs: the number of each, and when it began. Whose they are does
// not matter: in doubt a job runs.
func (r Runner) Workers(string) (workers []string, err error) {
	all, err := windows.CreateToolhelp32Snapshot(windows.TH32CS_SNAPPROCESS, 0)
	if err != nil {
		return nil, err
	}
	defer windows.CloseHandle(all) //nolint:errcheck // only read
	p := windows.ProcessEntry32{Size: uint32(unsafe.Sizeof(windows.ProcessEntry32{}))}
	for err = windows.Process32First(all, &p); err == nil; err = windows.Process32Next(all, &p) {
		if strings.EqualFold(windows.UTF16ToString(p.ExeFile[:]), worker+".exe") {
			workers = append(workers, fmt.Sprint(p.ProcessID, " ", startTime(int(p.ProcessID))))
		}
	}
	if errors.Is(err, windows.ERROR_NO_MORE_FILES) {
		err = nil
	}
	return workers, err
}
