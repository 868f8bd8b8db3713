package agent

import (
	"cmp"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strings"

	"azp-bootstrap/bootstrap/acl"
	"azp-bootstrap/bootstrap/fault"
)

// Script configures the agent: the package's own, as it is named on this system.
const Script = "config.cmd"

// baseEnvironment is the daemon's own without what it was configured by: config.cmd runs
// PowerShell, which needs much of it.
func (h Home) baseEnvironment() ([]string, error) {
	var env []string
	for _, kv := range os.Environ() {
		upper := strings.ToUpper(kv)
		if !strings.HasPrefix(upper, "AZP_BOOTSTRAP_") && !strings.HasPrefix(upper, inputs) &&
			!strings.HasPrefix(upper, "LANG=") {
			env = append(env, kv)
		}
	}
	return append(env, "LANG=en_US.UTF-8"), nil
}

// account, on Windows, has no home that a template could name.
func account(string) (*user.User, error) { return &user.User{}, nil }

// rootsAlone: there is no image's file here; services have the system's variables.
func rootsAlone(fs.FileInfo) bool { return false }

// serviceArgs let config.cmd make the service, which on Windows is its own work
// (WindowsServiceControlManager.cs): it grants rights on the folder to the account as well.
func (h Home) serviceArgs() []string {
	return []string{"--runasservice", "--preventservicestart"}
}

// leastAccount runs the agent unless another is configured. config.cmd's own default is this one for a pool,
// and LocalSystem, an administrator, for environments and deployment groups.
const leastAccount = `NT AUTHORITY\NETWORK SERVICE`

func (h Home) serviceValues() map[string]string {
	return map[string]string{"windowslogonaccount": cmp.Or(h.User, leastAccount)}
}

// ensureUser refuses accounts that need a password: there is no place for one.
func (h Home) ensureUser(func(string, ...any)) error {
	u := strings.ToUpper(h.User)
	if u == "" || strings.HasPrefix(u, `NT AUTHORITY\`) || strings.HasSuffix(u, "$") {
		return nil
	}
	return fault.New(fault.Config, "agent.user %s needs a password, which has no place in an image", h.User).
		Hint(`Leave agent.user empty for the agent's default, or name a built-in account (NT AUTHORITY\NETWORK SERVICE) or a group managed service account (CONTOSO\azp$).`)
}

func (h Home) furnishService() error { return nil }
func (h Home) handOver() error       { return nil } // config.cmd grants the rights

// configurer: here config.cmd runs as the daemon does: a process of another session does not see
// its environment.
func (h Home) configurer() (uid int, err error) { return 0, nil }
func (h Home) giveTo(int, int) error            { return nil }
func (h Home) own(*os.File) error               { return nil }

// WorkFolder makes the work folder where it lies outside the agent's own; config.cmd grants rights
// on it.
func (h Home) WorkFolder(work string) error {
	if !filepath.IsAbs(work) {
		return nil
	}
	return diskFault(os.MkdirAll(work, 0o755), work)
}

// Guarded: what lies above is for the lists of the system.
func (h Home) Guarded() error { return nil }

// rootsOwn reports whether nobody but administrators, the system, and who asks, may write a file.
func rootsOwn(name string, _ fs.FileInfo) bool {
	who, err := acl.Others(name)
	return err == nil && who == ""
}

// protectKept keeps others from the package's folder, and from what is laid out there: the agent's folder is
// administrators' until config.cmd grants it to the agent's account.
func (h Home) protectKept() error { return diskFault(acl.Protect(h.keep()), h.keep()) }
