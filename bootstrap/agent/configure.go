package agent

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/secret"
)

// environ is the whole environment of config.sh: nothing of the daemon's own reaches it.
func (h Home) environ(r Registration, pat secret.PAT) ([]string, error) {
	env, err := h.baseEnvironment()
	if err != nil {
		return nil, err
	}
	env = append(env, variables(inputs, r.values(), h.serviceValues())...)
	return append(append(env, inputs+"TOKEN="+pat.Reveal()), h.trust(len(r.Trusted) > 0)...), nil
}

// variables are lines NAME=value, in an order of their own.
func variables(prefix string, all ...map[string]string) (lines []string) {
	for _, values := range all {
		for name, value := range values {
			if value != "" {
				lines = append(lines, prefix+strings.ToUpper(name)+"="+value)
			}
		}
	}
	slices.Sort(lines)
	return lines
}

// trust points TLS clients of every make at the same bundle, so that one setting serves the daemon,
// the agent and its jobs (azure-pipelines-agent issue 5164: the CA set twice). .NET on Linux reads
// SSL_CERT_FILE, node NODE_EXTRA_CA_CERTS.
func (h Home) trust(own bool) []string {
	if !own {
		return nil
	}
	bundle := h.path(caBundle)
	return []string{
		"SSL_CERT_FILE=" + bundle,
		"NODE_EXTRA_CA_CERTS=" + bundle,
		"GIT_SSL_CAINFO=" + bundle,
		"CURL_CA_BUNDLE=" + bundle,
		"REQUESTS_CA_BUNDLE=" + bundle,
	}
}

// furnish writes what config.sh is to find: the instance ID, network settings and certificates. The
// folder is fresh and still root's here.
func (h Home) furnish(r Registration) error {
	if err := h.furnishService(); err != nil {
		return err
	}
	jobs := h.jobs(r.Environment)
	lines := variables("", r.Marks.lines())
	if jobs["LANG"] == "" {
		lines = append(lines, "LANG=C.UTF-8")
	}
	lines = append(append(lines, environmentLines(jobs)...), h.trust(len(r.Trusted) > 0)...)
	if err := h.put(".env", strings.Join(lines, "\n")+"\n", 0o644); err != nil {
		return err
	}
	if err := h.capable(r.Capabilities, h.put); err != nil {
		return err
	}
	bypass := ""
	if r.Proxy != nil {
		// Configuring a deployment group asks IMDS, which must not go through a proxy.
		lines := append([]string{`^http://169\.254\.169\.254(/|$)`}, r.Bypass...)
		bypass = strings.Join(lines, "\n") + "\n"
	}
	if err := h.put(".proxybypass", bypass, 0o644); err != nil {
		return err
	}
	if len(r.Trusted) == 0 {
		return h.put(caBundle, "", 0o644)
	}
	var all bytes.Buffer
	if data, err := os.ReadFile(r.SystemCAs); err == nil { //nolint:gosec // the system's
		all.Write(data)
	}
	all.WriteByte('\n')
	all.Write(r.Trusted)
	return h.put(caBundle, all.String(), 0o644)
}

// put writes a file of the agent's folder, replacing what stands there; without content there is
// none afterwards. It follows no link: the folder may be the service user's. The file is root's:
// what a job left behind must get no handle of a file that config.sh will read.
func (h Home) put(name, content string, mode fs.FileMode) error {
	return h.write(name, content, mode, func(*os.File) error { return nil })
}

// putOwn is put for a folder that is the service user's: so is the file.
func (h Home) putOwn(name, content string, mode fs.FileMode) error {
	return h.write(name, content, mode, h.own)
}

func (h Home) write(name, content string, mode fs.FileMode, own func(*os.File) error) error {
	root, err := os.OpenRoot(h.Dir)
	if err != nil {
		return diskFault(err, h.Dir)
	}
	defer root.Close()                           //nolint:errcheck // the file's own Close reports
	if err := root.RemoveAll(name); err != nil { // a job may have made it a folder
		return diskFault(err, h.path(name))
	}
	if content == "" {
		return nil
	}
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return diskFault(err, h.path(name))
	}
	_, err = f.WriteString(content)
	if e := own(f); err == nil {
		err = e
	}
	if e := f.Close(); err == nil {
		err = e
	}
	return diskFault(err, h.path(name))
}

// Configure lays the folder fresh, runs config.sh there, and reads its result; then the folder is
// the service user's. The PAT is in the environment of that process tree alone, which, if root
// asks, runs as a user that no job ever runs as. Each line of output goes to said, redacted.
func (h Runner) Configure(
	ctx context.Context,
	r Registration,
	pat secret.PAT,
	redactor *secret.Redactor,
	said func(string),
) (id int, err error) {
	if err := r.check(); err != nil {
		return 0, err
	}
	if err := h.Guarded(); err != nil {
		return 0, err
	}
	m, err := h.lay()
	if err != nil {
		return 0, err
	}
	if err := h.furnish(r); err != nil {
		return 0, err
	}
	env, err := h.environ(r, pat)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	argv := append([]string{h.path(Script)}, append(r.Args(), h.serviceArgs()...)...)
	p := process{Dir: h.Dir, User: h.User, Env: env, Argv: argv, Record: h.configureRecord()}
	if p.Apart, err = h.hand(m, r.InstanceID); err != nil {
		return 0, err
	}
	if p.Apart != 0 { // the service user's home is not its own
		for i, e := range p.Env {
			if strings.HasPrefix(e, "HOME=") {
				p.Env[i] = "HOME=" + h.Dir
			}
		}
	}
	reader := &outputReader{replacing: r.Replace}
	begin := time.Now()
	exit, err := p.run(ctx, func(out io.Reader, stop func()) {
		_ = redactor.Lines(out, func(s string) {
			said(s)
			if reader.read(s) {
				stop()
			}
		})
	})
	if err := h.hunt(pat, begin); err != nil {
		return 0, err
	}
	// Only now: a folder in the jobs' PATH may be the jobs' to write, and config.sh has the PAT.
	if path := h.jobs(r.Environment)["PATH"]; path != "" {
		if err := h.put(".path", path+"\n", 0o644); err != nil {
			return 0, err
		}
	}
	if err := h.handOver(); err != nil {
		return 0, err
	}
	if verdict := reader.verdict(r, exit, err, ctx); verdict != nil {
		return 0, verdict
	}
	id, err = h.Registered()
	if err == nil && id == 0 {
		err = fault.New(fault.Agent, "config.sh ended well but wrote no .agent").
			Passing().
			Hint("Look at its output in the log; the folder is recreated.")
	}
	return id, err
}

// ErrKeptPAT says that the agent kept the PAT because the server offers no key exchange.
var ErrKeptPAT = errors.New("it was wiped at once")

// hunt looks for the PAT in what config.sh wrote. It is the wall behind the agent's own masking:
// whatever holds the PAT is wiped at once, before any job can run.
func (h Home) hunt(pat secret.PAT, since time.Time) error {
	root, err := os.OpenRoot(h.Dir)
	if err != nil {
		return diskFault(err, h.Dir)
	}
	defer root.Close() //nolint:errcheck // only read
	found := h.keptPAT(pat)
	forms := pat.Forms()
	var holders []string
	_ = fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // unreadable entries are not config.sh's work
		}
		if d.IsDir() && (name == "bin" || name == "externals") {
			return fs.SkipDir // programs, from the package
		}
		if !d.Type().IsRegular() {
			return nil
		}
		if fi, err := d.Info(); err == nil && fi.Size() < 16<<20 && fi.ModTime().After(since.Add(-2*time.Second)) {
			data, err := readIn(root, name)
			if err == nil &&
				slices.ContainsFunc(forms, func(f string) bool { return bytes.Contains(data, []byte(f)) }) {
				holders = append(holders, name)
			}
		}
		return nil
	})
	if !found && len(holders) == 0 {
		return nil
	}
	for _, name := range holders {
		err = errors.Join(err, root.Remove(name))
	}
	if err := errors.Join(err, h.Wipe()); err != nil {
		return diskFault(err, h.Dir)
	}
	return fault.New(fault.Agent, "the agent kept the PAT on disk, which is what it does with servers that offer "+
		"no key exchange (TFS 2015)").
		Because(ErrKeptPAT).
		Hint("Upgrade the server to TFS 2018 Update 2 or newer: this one cannot be joined without leaving the PAT " +
			"where jobs can read it.")
}

// registration are the files that make a folder that of a registered agent.
var registration = []string{
	".credentials",
	".credentials_rsaparams",
	".credentials_migrated",
	".agent",
	".agent_migrated",
	".service",
	".proxycredentials",
	credentialStore,
	".env",
	capabilitiesFile,
}

// Wipe removes the local registration: the folder is no longer configured, and the next Lay makes
// it anew. The server is not told.
func (h Home) Wipe() error {
	root, err := os.OpenRoot(h.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return diskFault(err, h.Dir)
	}
	defer root.Close() //nolint:errcheck // nothing pending
	for _, n := range registration {
		if e := root.Remove(n); e != nil && !errors.Is(e, fs.ErrNotExist) {
			err = e
		}
	}
	if err != nil { // a job has made a folder of it, or mounted something there: the folder goes whole
		if e := h.layAside(); e != nil {
			return diskFault(errors.Join(err, e), h.Dir)
		}
	}
	if _, err := os.Stat(h.keep()); errors.Is(err, fs.ErrNotExist) {
		return nil // somebody deleted the package: there is no layout to keep, and the VM may leave all the same
	}
	l := h.layout()
	return h.setLayout(layout{SHA256: l.SHA256})
}
