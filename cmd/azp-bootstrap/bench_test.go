//go:build linux

package main_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"azp-bootstrap/bootstrap/sim"
)

var (
	benchPrograms = flag.String("bench-programs", "", "benchmark the programs of this `folder` (scripts/bench.sh does)")
	benchRuns     = flag.Int("bench-runs", 20, "runs of each kind")
	benchDocs     = flag.String("bench-docs", "", "write performance.md to this `folder`")
)

// The latencies of an Azure that is near, and of one that is no distance away.
var distances = map[string]string{
	"azure": "[{service: identity, path: ., delay: 60ms}, {service: imds, path: ., delay: 5ms}, {service: vault, path: ., delay: 35ms}, {service: devops, path: ., delay: 60ms}]",
	"none":  "[]",
}

// A bench is where boots are measured: a simulated Azure at its production names, and a VM's disk.
type bench struct {
	t        *testing.T
	dir      string
	bin      string // folder of the programs
	scripts  string // folder of the peers
	sim      *exec.Cmd
	at       sim.Addresses
	pack     string // the agent's package
	sum      string
	log      int64 // how much of the requests was read
	trusted  string
	distance string
}

// A boot is what was measured of one.
type boot struct {
	config, begun, online time.Duration // from the start until config.sh begins, asks, and until the agent has its session
	cpu                   time.Duration // of all processes but config.sh's
	rss                   int64         // bytes, of the largest process
	requests              map[string]int
	bytes                 int64 // of the answers to them
}

// A contender boots the VM: run returns its command, or for the floor does it itself.
type contender struct {
	name string
	run  func(b *bench) *exec.Cmd
	self func(b *bench) (boot func() (syscall.Rusage, error))
}

func contenders() []contender {
	script := func(name string) func(*bench) *exec.Cmd {
		return func(b *bench) *exec.Cmd {
			cmd := exec.Command(filepath.Join(b.scripts, name+".sh"))
			cmd.Env = append(os.Environ(), "VAULT=https://contoso.vault.azure.net", "SECRET=azp-pat", "URL=https://dev.azure.com/contoso", "PROJECT=Shop", "ENVIRONMENT=production",
				"NAME=web-000001", "AGENT_DIR="+b.agent(), "CURL_CA_BUNDLE="+b.trusted, "SSL_CERT_FILE="+b.trusted, "REQUESTS_CA_BUNDLE="+b.trusted,
				"AZURE_CONFIG_DIR="+b.path("cli"), "AZURE_CORE_COLLECT_TELEMETRY=no", "AZURE_CORE_ONLY_SHOW_ERRORS=yes")
			return cmd
		}
	}
	return []contender{
		{name: "azp-bootstrap", run: func(b *bench) *exec.Cmd {
			return exec.Command(filepath.Join(b.bin, "azp-bootstrap"), "--config", b.path("config.yaml"), "--state-dir", b.path("state"), "run", "--once")
		}},
		{name: "curl + jq", run: script("curl-jq")},
		{name: "curl + jq, with our checks", run: script("curl-jq-checked")},
		{name: "azure-cli", run: script("azure-cli")},
		{name: "floor", self: func(b *bench) func() (syscall.Rusage, error) { return b.floor(false) }},
		{name: "floor, with our checks", self: func(b *bench) func() (syscall.Rusage, error) { return b.floor(true) }},
	}
}

func (b *bench) path(name string) string { return filepath.Join(b.dir, name) }
func (b *bench) agent() string           { return b.path("agent") }

func (b *bench) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) exec(name string, args ...string) string {
	b.t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		b.t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// begin serves an Azure at a distance.
func (b *bench) begin(distance string) {
	b.distance, b.log = distance, 0
	scenario := strings.TrimSpace(string(sim.DefaultScenario)) + "\nfaults: " + distances[distance] + "\n"
	b.must(os.WriteFile(b.path("azure.yaml"), []byte(scenario), 0o600))
	_ = os.RemoveAll(b.path("azure"))
	b.sim = exec.Command(filepath.Join(b.bin, "azp-sim"), "serve", "--dir", b.path("azure"), "--scenario", b.path("azure.yaml"), "--imds", "169.254.169.254:80", "--tls", "127.0.0.1:443")
	b.must(b.sim.Start())
	for end := time.Now().Add(10 * time.Second); ; <-time.After(5 * time.Millisecond) {
		data, err := os.ReadFile(b.path("azure/sim.json"))
		if err == nil && json.Unmarshal(data, &b.at) == nil {
			break
		}
		if time.Now().After(end) {
			b.t.Fatal("the simulator does not serve")
		}
	}
	ours, err := os.ReadFile(b.at.CA)
	b.must(err)
	system, err := os.ReadFile("/etc/ssl/certs/ca-certificates.crt")
	b.must(err)
	b.must(os.WriteFile(b.trusted, append(system, ours...), 0o644))
	b.must(os.WriteFile(b.path("config.yaml"), []byte(fmt.Sprintf("url: https://dev.azure.com/contoso\ntarget: {environment: {project: Shop, name: production, tags: [web]}}\nagent: {dir: %s, user: nobody, service: process}\ncredential: {keyVault: {url: https://contoso.vault.azure.net, secret: azp-pat}}\nnetwork: {caFile: %s}\nhealth: {listen: %q}\n", b.agent(), b.at.CA, "127.0.0.1:0")), 0o600))
}

func (b *bench) end() {
	_ = b.sim.Process.Kill()
	_ = b.sim.Wait()
}

// What .NET reads when it starts: the stand-in's config.sh reads as many files of that size.
const assemblies, assemblySize = 200, 200 << 10

// makePackage makes the agent's package: the stand-in, whose config.sh says when it begins and reads as much
// from the disk as .NET does when it starts.
func (b *bench) makePackage() {
	b.pack = b.path("vsts-agent-linux-x64-4.248.0.tar.gz")
	b.exec(filepath.Join(b.bin, "azp-sim"), "agent-package", b.pack)
	root := b.path("package")
	b.must(os.Mkdir(root, 0o755))
	b.exec("tar", "-xzf", b.pack, "-C", root)
	script, err := os.ReadFile(filepath.Join(root, "config.sh"))
	b.must(err)
	head, rest, _ := strings.Cut(string(script), "\n")
	rest = strings.Replace(rest, ". ./env.sh\n", ". ./env.sh\ncat bin/assembly-* >/dev/null\n", 1)
	b.must(os.WriteFile(filepath.Join(root, "config.sh"), []byte(head+"\necho \"$EPOCHREALTIME\" >"+b.path("mark/config")+"\n"+rest), 0o755))
	for i := range assemblies {
		data := make([]byte, assemblySize)
		_, _ = rand.Read(data)
		b.must(os.WriteFile(filepath.Join(root, fmt.Sprintf("bin/assembly-%03d.dll", i)), data, 0o644))
	}
	b.exec("tar", "--use-compress-program=gzip -1", "-cf", b.pack, "-C", root, ".")
	b.sum, _, _ = strings.Cut(b.exec("sha256sum", b.pack), " ")
	b.must(os.RemoveAll(root))
	b.must(os.Mkdir(b.path("mark"), 0o777))
	b.must(os.Chmod(b.path("mark"), 0o777))
}

// image is a VM that never booted.
func (b *bench) image(c contender) {
	for _, name := range []string{"agent", "agent.package", "state", "cli", "mark/config"} {
		b.must(os.RemoveAll(b.path(name)))
	}
	if c.name == "azp-bootstrap" {
		b.exec(filepath.Join(b.bin, "azp-bootstrap"), "--config", b.path("config.yaml"), "prepare", "--package", b.pack, "--sha256", b.sum)
		return
	}
	b.must(os.Mkdir(b.agent(), 0o755))
	b.exec("tar", "-xzf", b.pack, "-C", b.agent())
	b.exec("cp", b.trusted, b.agent()+"/azp-bootstrap-ca.pem")
	b.exec("chown", "-R", "nobody:nogroup", b.agent())
}

// measure boots once.
func (b *bench) measure(c contender, cold bool) (r boot) {
	b.image(c)
	if cold {
		b.exec("sync")
		b.must(os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0))
	}
	var self func() (syscall.Rusage, error)
	if c.self != nil {
		self = c.self(b)
	}
	begin := time.Now()
	var usage syscall.Rusage
	if self != nil {
		var err error
		usage, err = self()
		b.must(err)
	} else {
		cmd := c.run(b)
		var said bytes.Buffer
		out, err := os.CreateTemp(b.dir, "said")
		b.must(err)
		cmd.Stdout, cmd.Stderr = out, out
		if err := cmd.Run(); err != nil {
			_, _ = out.Seek(0, 0)
			_, _ = said.ReadFrom(out)
			b.t.Fatalf("%s: %v\n%s", c.name, err, said.String())
		}
		_ = out.Close()
		_ = os.Remove(out.Name())
		usage = *cmd.ProcessState.SysUsage().(*syscall.Rusage)
	}
	r.cpu = time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	r.rss = usage.Maxrss << 10
	mark, err := os.ReadFile(b.path("mark/config"))
	b.must(err)
	at, err := strconv.ParseFloat(strings.TrimSpace(string(mark)), 64)
	b.must(err)
	r.config = time.Unix(0, int64(at*1e9)).Sub(begin)
	r.requests = map[string]int{}
	for end := time.Now().Add(20 * time.Second); r.online == 0; <-time.After(2 * time.Millisecond) {
		for _, q := range b.requests() {
			switch done := q.At.Add(time.Duration(q.Millis * float64(time.Millisecond))); {
			case q.Service == "proxy":
			case strings.HasPrefix(q.Agent, "VSServices") || strings.Contains(q.URL, "vstoken"):
				if r.begun == 0 {
					r.begun = q.At.Sub(begin)
				}
				if q.Method == http.MethodPost && strings.Contains(q.URL, "/sessions") && r.online == 0 {
					r.online = done.Sub(begin)
				}
			default:
				r.requests[q.Service]++
				r.bytes += int64(q.Bytes)
			}
		}
		if time.Now().After(end) {
			b.t.Fatalf("%s: the agent has no session", c.name)
		}
	}
	b.reset()
	return r
}

// requests are those that were answered since they were read last.
func (b *bench) requests() (all []sim.Request) {
	f, err := os.Open(b.path("azure/requests.jsonl"))
	b.must(err)
	defer f.Close()
	_, err = f.Seek(b.log, 0)
	b.must(err)
	for lines := bufio.NewReader(f); ; {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return all
		}
		b.log += int64(len(line))
		var q sim.Request
		b.must(json.Unmarshal(line, &q))
		all = append(all, q)
	}
}

// reset ends the agent and lets the server forget it.
func (b *bench) reset() {
	links, _ := filepath.Glob("/proc/[0-9]*/cwd")
	for _, l := range links {
		if cwd, err := os.Readlink(l); err == nil && strings.HasPrefix(cwd, b.agent()) {
			if pid, err := strconv.Atoi(strings.Split(l, "/")[2]); err == nil {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	}
	res, err := http.PostForm(b.at.Control+"/delete", url.Values{"name": {"web-000001"}})
	b.must(err)
	_ = res.Body.Close()
	<-time.After(50 * time.Millisecond) // its last requests
	b.requests()
}

// floor is the least that the protocols allow: a process that runs already, connections that stand, nothing that
// waits for what it does not need. checked asks what a boot of ours asks.
func (b *bench) floor(checked bool) func() (syscall.Rusage, error) {
	standing := b.standing("contoso.vault.azure.net", "dev.azure.com")
	client := &http.Client{Transport: standing}
	get := func(address string, header http.Header, user string, into any) error {
		r, err := http.NewRequestWithContext(context.Background(), http.MethodGet, address, nil)
		if err != nil {
			return err
		}
		if header != nil {
			r.Header = header
		}
		if user != "" {
			r.SetBasicAuth("", user)
		}
		res, err := client.Do(r)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusOK {
			return errors.New(res.Status)
		}
		return json.NewDecoder(res.Body).Decode(into)
	}
	return func() (syscall.Rusage, error) {
		defer standing.close()
		var token struct {
			AccessToken string `json:"access_token"`
		}
		if err := get("http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fvault.azure.net", http.Header{"Metadata": {"true"}}, "", &token); err != nil {
			return syscall.Rusage{}, err
		}
		var secret struct{ Value string }
		if err := get("https://contoso.vault.azure.net/secrets/azp-pat?api-version=7.4", http.Header{"Authorization": {"Bearer " + token.AccessToken}}, "", &secret); err != nil {
			return syscall.Rusage{}, err
		}
		if checked {
			members := "https://dev.azure.com/contoso/Shop/_apis/pipelines/environments"
			var found struct{ Value []struct{ ID int } }
			if err := get(members+"?name=production&api-version=7.1-preview", nil, secret.Value, &found); err != nil {
				return syscall.Rusage{}, err
			}
			if err := get(fmt.Sprintf("%s/%d/providers/virtualmachines?name=web-000001&api-version=7.1-preview", members, found.Value[0].ID), nil, secret.Value, &found); err != nil {
				return syscall.Rusage{}, err
			}
		}
		nobody := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}, Setsid: true}
		configure := exec.Command("./config.sh", "--unattended", "--acceptTeeEula", "--replace", "--url", "https://dev.azure.com/contoso", "--auth", "PAT", "--agent", "web-000001", "--environment",
			"--environmentname", "production", "--projectname", "Shop", "--addvirtualmachineresourcetags", "--virtualmachineresourcetags", "web", "--sslcacert", "azp-bootstrap-ca.pem")
		configure.Dir, configure.SysProcAttr, configure.Env = b.agent(), nobody, append(os.Environ(), "SSL_CERT_FILE="+b.trusted, "VSTS_AGENT_INPUT_TOKEN="+secret.Value)
		if out, err := configure.CombinedOutput(); err != nil {
			return syscall.Rusage{}, fmt.Errorf("%w: %s", err, out)
		}
		listener := exec.Command("./run.sh")
		listener.Dir, listener.SysProcAttr, listener.Env = b.agent(), nobody, append(os.Environ(), "SSL_CERT_FILE="+b.trusted)
		if err := listener.Start(); err != nil {
			return syscall.Rusage{}, err
		}
		go func() { _ = listener.Wait() }()
		return *configure.ProcessState.SysUsage().(*syscall.Rusage), nil
	}
}

// standing are connections that were made before.
type standing map[string]*http.ClientConn

func (b *bench) standing(hosts ...string) standing {
	pem, err := os.ReadFile(b.trusted)
	b.must(err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	t := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	s := standing{}
	for _, h := range hosts {
		s[h], err = t.NewClientConn(context.Background(), "https", h+":443")
		b.must(err)
	}
	s["169.254.169.254"], err = t.NewClientConn(context.Background(), "http", "169.254.169.254:80")
	b.must(err)
	return s
}

func (s standing) RoundTrip(r *http.Request) (*http.Response, error) {
	return s[r.URL.Host].RoundTrip(r)
}

func (s standing) close() {
	for _, c := range s {
		_ = c.Close()
	}
}

// TestBench measures; without -bench-programs there is nothing to do.
func TestBench(t *testing.T) {
	if *benchPrograms == "" {
		t.Skip("make bench runs this")
	}
	dir, err := os.MkdirTemp("/var/tmp", "azp-bench-") // a disk, not memory
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	b := &bench{t: t, dir: dir, bin: *benchPrograms, trusted: filepath.Join(dir, "trusted.pem")}
	b.must(os.Chmod(dir, 0o755))
	b.scripts, err = filepath.Abs("../../scripts/bench")
	b.must(err)
	b.makePackage()
	page := &benchPage{runs: *benchRuns}
	for _, distance := range []string{"azure", "none"} {
		for _, cold := range []bool{false, true} {
			b.begin(distance)
			measured := map[string][]boot{}
			for i := range *benchRuns + 1 {
				for _, c := range contenders() {
					r := b.measure(c, cold)
					if i == 0 { // the first warms up
						continue
					}
					measured[c.name] = append(measured[c.name], r)
					cache := map[bool]string{false: "warm", true: "cold"}[cold]
					fmt.Printf("BenchmarkBoot/azure=%s/cache=%s/client=%s 1 %d config-ns/op %d asks-ns/op %d online-ns/op %d cpu-ns/op %d rss-B %d requests/op\n", distance, cache, strings.NewReplacer(" ", "_", ",", "").Replace(c.name),
						r.config, r.begun, r.online, r.cpu, r.rss, r.requests["imds"]+r.requests["identity"]+r.requests["vault"]+r.requests["devops"])
				}
			}
			b.end()
			page.add(distance, cold, measured)
		}
	}
	b.begin("none")
	page.idle = b.idle()
	b.end()
	page.programs = b.starts()
	if *benchDocs != "" {
		b.must(os.WriteFile(filepath.Join(*benchDocs, "performance.md"), []byte(page.render()), 0o644))
	}
}

// idle is what the daemon takes while nothing happens.
type idle struct {
	rss     int64
	wakeups float64 // in a second
	cpu     float64 // of a core
	length  time.Duration
}

func (b *bench) idle() (i idle) {
	b.image(contenders()[0])
	cmd := exec.Command(filepath.Join(b.bin, "azp-bootstrap"), "--config", b.path("config.yaml"), "--state-dir", b.path("state"), "run")
	b.must(cmd.Start())
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		b.reset()
	}()
	b.exec(filepath.Join(b.bin, "azp-bootstrap"), "--state-dir", b.path("state"), "status", "--wait", "--timeout", "30s")
	<-time.After(5 * time.Second)
	i.length = time.Minute
	switches, ticks := b.activity(cmd.Process.Pid)
	<-time.After(i.length)
	switches2, ticks2 := b.activity(cmd.Process.Pid)
	i.wakeups = float64(switches2-switches) / i.length.Seconds()
	i.cpu = float64(ticks2-ticks) / 100 / i.length.Seconds()
	i.rss = statusField(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid), "VmRSS") << 10
	return i
}

// activity is how often the threads of a process gave way because they had nothing to do, and the CPU that it took.
func (b *bench) activity(pid int) (switches, ticks int64) {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	for _, f := range threads {
		switches += statusField(f, "voluntary_ctxt_switches")
	}
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	b.must(err)
	f := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	user, _ := strconv.ParseInt(f[11], 10, 64)
	system, _ := strconv.ParseInt(f[12], 10, 64)
	return switches, user + system
}

func statusField(file, name string) (n int64) {
	data, _ := os.ReadFile(file)
	for line := range strings.Lines(string(data)) {
		if k, v, ok := strings.Cut(line, ":"); ok && k == name {
			n, _ = strconv.ParseInt(strings.Fields(v)[0], 10, 64)
		}
	}
	return n
}

// A program's start, without work.
type started struct {
	name       string
	size       int64
	warm, cold []time.Duration
}

func (b *bench) starts() (all []started) {
	for _, argv := range [][]string{{filepath.Join(b.bin, "azp-bootstrap"), "version"}, {"/usr/bin/curl", "--version"}, {"/usr/bin/az", "version"}} {
		s := started{name: filepath.Base(argv[0]) + " " + argv[1]}
		if fi, err := os.Stat(argv[0]); err == nil && strings.HasPrefix(argv[0], b.bin) {
			s.size = fi.Size()
		}
		run := func() time.Duration {
			begin := time.Now()
			b.exec(argv[0], argv[1:]...)
			return time.Since(begin)
		}
		run()
		for range *benchRuns {
			s.warm = append(s.warm, run())
		}
		for range *benchRuns {
			b.exec("sync")
			b.must(os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0))
			s.cold = append(s.cold, run())
		}
		all = append(all, s)
	}
	return all
}

// middle is the median and the half of the quartiles' distance.
func middle[T int64 | time.Duration](values []T) (median, spread T) {
	if len(values) == 0 {
		return 0, 0
	}
	v := slices.Sorted(slices.Values(values))
	at := func(share float64) T { return v[int(share*float64(len(v)-1)+0.5)] }
	return at(0.5), (at(0.75) - at(0.25)) / 2
}
