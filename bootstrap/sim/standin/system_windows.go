package standin

import (
	"bufio"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/svc"
	"golang.org/x/sys/windows/svc/mgr"
)

const (
	system        = "Windows_NT"
	workerProgram = `.\bin\Agent.Worker.exe`

	lingering = `bin\Agent.Listener.exe linger`
)

// beginUpdate changes nothing here: the listener ends, and is started again as it was.
func beginUpdate(string) error { return nil }

// roots are whom the agent trusts: those of the machine's store, and of a file that stands for it in tests,
// so that they need not change the machine. What --sslcacert names .NET does not trust here.
func roots() *x509.CertPool {
	pool, err := x509.SystemCertPool()
	if err != nil {
		return nil
	}
	data, _ := os.ReadFile(filepath.Join(os.Getenv("ProgramData"), "azp-sim", "roots.pem"))
	pool.AppendCertsFromPEM(data)
	return pool
}

// shell takes the script as it is written: cmd.exe has rules of its own for quotes.
func shell(script string) *exec.Cmd {
	cmd := exec.Command("cmd.exe")
	cmd.SysProcAttr = &syscall.SysProcAttr{CmdLine: `cmd.exe /d /s /c "` + script + `"`}
	return cmd
}

// telling is how a worker is told to end: by the end of its input, as Windows has no signals.
func telling(worker *exec.Cmd, body string) func() error {
	r, w, err := os.Pipe()
	if err != nil {
		return nil
	}
	worker.Stdin = r
	go func() { _, _ = io.WriteString(w, body) }()
	return func() error { return errors.Join(w.Close(), r.Close()) }
}

func hearEnd(cancel chan<- os.Signal) {
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel <- os.Interrupt
	}()
}

// underService lets the listener end with its service, and write what it says to its diagnostic log,
// as the real one does (HostTraceListener.cs, Terminal.cs): a service has no console.
func underService(ctx context.Context) (context.Context, func()) {
	if os.Getenv("AZP_SIM_SERVICE") == "" {
		return ctx, func() {}
	}
	ctx, stop := context.WithCancel(ctx)
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	now := time.Now().UTC()
	_ = os.MkdirAll("_diag", 0o755) //nolint:gosec // as the real one
	log, err := os.OpenFile(filepath.Join("_diag", "Agent_"+now.Format("20060102-150405")+"-utc.log"),
		os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644) //nolint:gosec // a log
	r, w, e := os.Pipe()
	if err != nil || e != nil {
		return ctx, stop
	}
	os.Stdout, os.Stderr = w, w
	written := make(chan struct{})
	go func() {
		defer close(written)
		for lines := bufio.NewScanner(r); lines.Scan(); {
			fmt.Fprintf(log, "[%s INFO Terminal] WRITE LINE: %s\r\n", time.Now().UTC().Format("2006-01-02 15:04:05Z"), lines.Text())
		}
	}()
	return ctx, func() {
		stop()
		_ = w.Close()
		<-written
		_ = log.Close()
	}
}

// makeService makes the agent's service if it was asked to (WindowsServiceControlManager.cs).
func (t *target) makeService(o options) error {
	if !o.flags["runasservice"] {
		return nil
	}
	account := o.values["windowslogonaccount"]
	if account == "" { // deployment agents and those of environments: an administrator
		account = map[bool]string{true: `NT AUTHORITY\NETWORK SERVICE`, false: `NT AUTHORITY\SYSTEM`}[t.kind == "pool"]
	}
	address, err := url.Parse(t.ServerURL)
	if err != nil {
		return err
	}
	organization, _, _ := strings.Cut(address.Hostname(), ".")
	if strings.EqualFold(address.Hostname(), "dev.azure.com") {
		organization, _, _ = strings.Cut(strings.Trim(address.Path, "/"), "/")
	}
	group := t.PoolName
	if group == "" {
		group = t.EnvironmentName
	}
	name := strings.Join([]string{"vstsagent", organization, group, t.AgentName}, ".")
	root, err := os.Getwd()
	if err != nil {
		return err
	}
	m, err := mgr.Connect()
	if err != nil {
		return errors.New("Needs Administrator privileges for configuring agent as windows service.")
	}
	defer m.Disconnect() //nolint:errcheck // nothing pending
	if old, err := m.OpenService(name); err == nil {
		fmt.Printf("The service already exists: %s, it will be replaced\n", name)
		_ = old.Delete()
		_ = old.Close()
	}
	fmt.Printf("Granting file permissions to '%s'.\n", account)
	if out, err := exec.Command("icacls", root, "/grant", account+":(OI)(CI)F").CombinedOutput(); err != nil {
		return failure("Cannot grant file permissions: " + string(out))
	}
	s, err := m.CreateService(name, filepath.Join(root, "bin", "AgentService.exe"), mgr.Config{
		DisplayName: "Azure Pipelines Agent (" + strings.TrimPrefix(name, "vstsagent.") + ")",
		StartType:   mgr.StartAutomatic, ServiceStartName: account,
	})
	if err != nil {
		return failure("Cannot install the service " + name + ": " + err.Error())
	}
	_ = s.Close()
	fmt.Printf("Service %s successfully installed\n", name)
	if err := os.WriteFile(".service", []byte(name), 0o600); err != nil {
		return err
	}
	hidden, err := windows.UTF16PtrFromString(".service")
	if err != nil {
		return err
	}
	return windows.SetFileAttributes(hidden, windows.FILE_ATTRIBUTE_HIDDEN)
}

// agentService is bin\AgentService.exe: the service, which keeps the listener alive.
func agentService() int {
	exe, err := os.Executable()
	if err == nil {
		err = os.Chdir(filepath.Dir(filepath.Dir(exe)))
	}
	if err == nil {
		err = svc.Run("", serviceHost{})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

type serviceHost struct{}

// Execute runs the listener until the service is stopped or the listener ends for good.
func (serviceHost) Execute(_ []string, asked <-chan svc.ChangeRequest, state chan<- svc.Status) (bool, uint32) {
	const accepts = svc.AcceptStop | svc.AcceptShutdown
	state <- svc.Status{State: svc.Running, Accepts: accepts}
	for {
		listener := exec.Command(`.\bin\Agent.Listener.exe`, "run", "--startuptype", "service")
		listener.Env = append(os.Environ(), "AZP_SIM_SERVICE=1")
		end, err := listener.StdinPipe()
		if err == nil {
			err = listener.Start()
		}
		if err != nil {
			return true, 1
		}
		ended := make(chan struct{})
		go func() {
			_ = listener.Wait()
			close(ended)
		}()
		for running := true; running; {
			select {
			case c := <-asked:
				switch c.Cmd {
				case svc.Interrogate:
					state <- c.CurrentStatus
				case svc.Stop, svc.Shutdown:
					state <- svc.Status{State: svc.StopPending, WaitHint: 30000}
					if fileText("bin/behaviour") == "deaf" {
						continue
					}
					_ = end.Close()
					select {
					case <-ended:
					case <-time.After(20 * time.Second):
						_ = listener.Process.Kill()
					}
					return false, 0
				}
			case <-ended:
				running = false
			}
		}
		if code := listener.ProcessState.ExitCode(); code != retryable {
			return false, 0 // the service ends, as the real one does
		}
	}
}
