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
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"

	"azp-bootstrap/bootstrap/scm"
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
func (p process) command() (*exec.Cmd, error) {
	system, err := windows.GetSystemDirectory()
	if err != nil {
		return nil, err
	}
	args := append([]string{"/d", "/c", `.\` + filepath.Base(p.Argv[0])}, p.Argv[1:]...)
	cmd := exec.Command(filepath.Join(system, "cmd.exe"), args...) //nolint:gosec // argv is ours
	cmd.Dir, cmd.Env = p.Dir, p.Env
	return cmd, nil
}

// newJob is a job object whose processes end with its last handle, which is ours.
func newJob() (windows.Handle, error) {
	job, err := windows.CreateJobObject(nil, nil)
	if err != nil {
		return 0, err
	}
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
		_ = windows.CloseHandle(job)
		return 0, err
	}
	return job, nil
}

// startIn starts a program that is in the job object before its first instruction: what it starts is so, too.
func startIn(job windows.Handle, cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: windows.CREATE_SUSPENDED}
	if err := cmd.Start(); err != nil {
		return err
	}
	pid := uint32(cmd.Process.Pid) //nolint:gosec // a process number
	h, err := windows.OpenProcess(windows.PROCESS_SET_QUOTA|windows.PROCESS_TERMINATE, false, pid)
	if err == nil {
		err = windows.AssignProcessToJobObject(job, h)
		_ = windows.CloseHandle(h)
	}
	if err == nil {
		err = resume(pid)
	}
	if err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	return err
}

// resume lets a process begin that was started suspended: it has one thread.
func resume(pid uint32) error {
	all, err := windows.CreateToolhelp32Snapshot(windows.TH32CS_SNAPTHREAD, 0)
	if err != nil {
		return err
	}
	defer windows.CloseHandle(all) //nolint:errcheck // only read
	t := windows.ThreadEntry32{Size: uint32(unsafe.Sizeof(windows.ThreadEntry32{}))}
	for err = windows.Thread32First(all, &t); err == nil; err = windows.Thread32Next(all, &t) {
		if t.OwnerProcessID != pid {
			continue
		}
		h, err := windows.OpenThread(windows.THREAD_SUSPEND_RESUME, false, t.ThreadID)
		if err != nil {
			return err
		}
		defer windows.CloseHandle(h) //nolint:errcheck // nothing pending
		_, err = windows.ResumeThread(h)
		return err
	}
	return err
}

func (p process) run(ctx context.Context, consume func(out io.Reader, stop func())) (int, error) {
	cmd, err := p.command()
	if err != nil {
		return -1, err
	}
	job, err := newJob()
	if err != nil {
		return -1, err
	}
	defer windows.CloseHandle(job) //nolint:errcheck // ends what is left
	r, w, err := os.Pipe()
	if err != nil {
		return -1, err
	}
	defer r.Close() //nolint:errcheck // only read
	cmd.Stdout, cmd.Stderr = w, w
	err = startIn(job, cmd)
	_ = w.Close()
	if err != nil {
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

// ended and notRun are what an exit code says: the program crashed (an NTSTATUS of an error; .NET's is
// 0xE0434352), or cmd.exe did not find it.
func ended(exit int) bool { return uint32(exit) >= 0xC0000000 } //nolint:gosec // as Windows has it

func notRun(exit int) bool { return exit == 9009 }

// Workers are the processes that run jobs: the number of each, and when it began. The program of each is in this
// agent's bin (bin.VERSION, after the agent's update); another agent's is none of ours, and in doubt it is ours.
func (r Runner) Workers(string) (workers []string, err error) {
	all, err := scm.Processes()
	for _, p := range all {
		if !strings.EqualFold(p.Name, worker+".exe") {
			continue
		}
		image, e := scm.Image(p.PID)
		if errors.Is(e, windows.ERROR_INVALID_PARAMETER) { // it has ended meanwhile
			continue
		}
		if e != nil || r.brings(image) {
			workers = append(workers, fmt.Sprint(p.PID, " ", startTime(int(p.PID))))
		}
	}
	return workers, err
}

// brings reports whether a program is in this agent's bin.
func (h Home) brings(image string) bool {
	begin := strings.ToLower(h.path("bin"))
	rest, below := strings.CutPrefix(strings.ToLower(filepath.Clean(image)), begin)
	return below && (strings.HasPrefix(rest, `\`) || strings.HasPrefix(rest, ".") && strings.Count(rest, `\`) == 1)
}
