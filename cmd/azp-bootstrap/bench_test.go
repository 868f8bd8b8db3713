//go:build linux

package main_test

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"azp-bootstrap/bootstrap/sim"
)

var (
	benchPrograms = flag.String(
		"bench-programs",
		"",
		"benchmark the programs of this `folder` (scripts/bench.sh does)",
	)
	benchRuns = flag.Int("bench-runs", 20, "runs of each kind")
	benchOnly = flag.String(
		"bench-only",
		"",
		"measure the contenders whose names match this `regexp`, near and warm (once: agents of one job), and write no page",
	)
	benchDocs = flag.String("bench-docs", "", "write performance.md to this `folder`")
)

// The latencies of an Azure that is near, and of one that is no distance away.
var distances = map[string]string{
	"azure": "[{service: identity, path: ., delay: 60ms}, {service: imds, path: ., delay: 5ms}, {service: vault, path: ., delay: 35ms}, {service: devops, path: ., delay: 60ms}]",
	"none":  "[]",
}

// trusted is Debian's bundle of certificates; the machine's own.
const trusted = "/etc/ssl/certs/ca-certificates.crt"

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
	boots    int
	system   []byte // the certificates that Debian trusts
	distance string
}

// A boot is what was measured of one.
type boot struct {
	// from the start until the registration begins (config.sh, or the daemon's own), until config.sh asks, until
	// the agent's service script begins, and until the agent has its session
	config, begun, listens, online time.Duration
	cpu                            time.Duration // of all processes but config.sh's
	rss                            int64         // bytes, of the largest process
	requests                       map[string]int
	bytes                          int64 // of the answers to them
}

// A contender boots the VM: run returns its command, or for the floor does it itself.
type contender struct {
	name string
	rest bool // registers without config.sh
	run  func(b *bench) *exec.Cmd
	self func(b *bench) (boot func() (syscall.Rusage, error))
}

func (c contender) ours() bool { return strings.HasPrefix(c.name, "azp-bootstrap") }

// restRegistered is the daemon that registers the agent itself.
const restRegistered = "azp-bootstrap, by rest"

func contenders() []contender {
	script := func(name string) func(*bench) *exec.Cmd {
		return func(b *bench) *exec.Cmd { return b.script(name) }
	}
	once := func(set string) func(*bench) *exec.Cmd {
		return func(b *bench) *exec.Cmd {
			return exec.Command(filepath.Join(b.bin, "azp-bootstrap"),
				"--config", b.path("config.yaml"), "--state-dir", b.path("state"), "--set", set, "run", "--once")
		}
	}
	return []contender{
		{name: "azp-bootstrap", run: once("agent.registration=script")},
		{name: restRegistered, rest: true, run: once("agent.registration=rest")},
		{name: "curl + jq", run: script("curl-jq")},
		{name: "curl + jq, with our checks", run: script("curl-jq-checked")},
		{name: "azure-cli", run: script("azure-cli")},
		{name: "floor", self: func(b *bench) func() (syscall.Rusage, error) { return b.floor(false) }},
		{name: "floor, with our checks", self: func(b *bench) func() (syscall.Rusage, error) { return b.floor(true) }},
	}
}

// script is a peer of ours.
func (b *bench) script(name string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(b.scripts, name+".sh"))
	cmd.Env = append(
		os.Environ(),
		"VAULT=https://contoso.vault.azure.net",
		"SECRET=azp-pat",
		"URL=https://dev.azure.com/contoso",
		"PROJECT=Shop",
		"ENVIRONMENT=production",
		"POOL=Default",
		"NAME=web-000001",
		"AGENT_DIR="+b.agent(),
		"REQUESTS_CA_BUNDLE="+trusted,
		"AZURE_CONFIG_DIR="+b.path("cli"),
		"AZURE_CORE_COLLECT_TELEMETRY=no",
		"AZURE_CORE_ONLY_SHOW_ERRORS=yes",
	)
	return cmd
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
	b.sim = exec.Command(
		filepath.Join(b.bin, "azp-sim"),
		"serve",
		"--dir",
		b.path("azure"),
		"--scenario",
		b.path("azure.yaml"),
		"--imds",
		"169.254.169.254:80",
		"--tls",
		"127.0.0.1:443",
	)
	b.must(b.sim.Start())
	b.t.Cleanup(b.end)
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
	b.must(os.WriteFile(trusted, slices.Concat(b.system, ours), 0o644))
	b.must(
		os.WriteFile(
			b.path("config.yaml"),
			[]byte(
				fmt.Sprintf(
					"url: https://dev.azure.com/contoso\ntarget: {environment: {project: Shop, name: production, tags: [web]}}\nagent: {dir: %s, user: nobody}\ncredential: {keyVault: {url: https://contoso.vault.azure.net, secret: azp-pat}}\n",
					b.agent(),
				),
			),
			0o600,
		),
	)
}

func (b *bench) end() {
	_ = b.sim.Process.Kill()
	_ = b.sim.Wait()
}

// What .NET reads when it starts: the stand-in's config.sh reads as many files of that size.
const assemblies, assemblySize = 200, 200 << 10

// makePackage makes the agent's package: the stand-in, whose config.sh says when it begins and what
// CPU it took, and reads as much from the disk as .NET does when it starts.
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
	marks := fmt.Sprintf(
		"\necho \"$EPOCHREALTIME\" >%s\ntrap 'times >%s' EXIT\n",
		b.path("mark/config"),
		b.path("mark/times"),
	)
	b.must(os.WriteFile(filepath.Join(root, "config.sh"), []byte(head+marks+rest), 0o755))
	for _, name := range []string{"run.sh", "bin/runsvc.sh"} { // the listener is of .NET as well
		script, err := os.ReadFile(filepath.Join(root, name))
		b.must(err)
		head, rest, _ := strings.Cut(string(script), "\n")
		begins := fmt.Sprintf("\necho \"$EPOCHREALTIME\" >%s\ncat \"$(dirname \"$(readlink -f \"$0\")\")\"/{.,bin}/assembly-* >/dev/null 2>&1\n", b.path("mark/listens"))
		b.must(os.WriteFile(filepath.Join(root, name), []byte(head+begins+rest), 0o755))
	}
	b.exec("install", "-m", "755", filepath.Join(b.scripts, "svc.sh"), filepath.Join(root, "bin"))
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

// image is a VM that never booted, on a disk where all is written. What an earlier boot left is
// kept until the end: ext4 takes long to make a file where many were just deleted.
func (b *bench) image(c contender) {
	b.boots++
	old := b.path(fmt.Sprint("old/", b.boots))
	b.must(os.MkdirAll(old, 0o755))
	for _, name := range []string{"agent", "agent.package", "state", "cli"} {
		if err := os.Rename(b.path(name), filepath.Join(old, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			b.t.Fatal(err)
		}
	}
	for _, name := range []string{"mark/config", "mark/times", "mark/listens"} {
		b.must(os.RemoveAll(b.path(name)))
	}
	defer b.exec("sync")
	if c.ours() {
		b.exec(
			filepath.Join(b.bin, "azp-bootstrap"),
			"--config",
			b.path("config.yaml"),
			"prepare",
			"--package",
			b.pack,
			"--sha256",
			b.sum,
		)
		return
	}
	b.must(os.Mkdir(b.agent(), 0o755))
	b.exec("tar", "-xzf", b.pack, "-C", b.agent())
	b.exec("chown", "-R", "nobody:nogroup", b.agent())
}

// measure boots once.
func (b *bench) measure(c contender, cold bool) (r boot) {
	b.image(c)
	if cold {
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
	r.cpu = time.Duration(usage.Utime.Nano()+usage.Stime.Nano()) - b.configTook()
	r.rss = usage.Maxrss << 10
	if !c.rest {
		r.config = b.marked("config").Sub(begin)
	}
	r.requests = map[string]int{}
	for end := time.Now().Add(20 * time.Second); r.online == 0; <-time.After(2 * time.Millisecond) {
		for _, q := range b.requests() {
			switch done := q.At.Add(time.Duration(q.Millis * float64(time.Millisecond))); {
			case q.Service == "proxy":
			case strings.HasPrefix(q.Agent, "VSServices") || strings.Contains(q.URL, "vstoken"):
				if r.begun == 0 && !c.rest {
					r.begun = q.At.Sub(begin)
				}
				if q.Method == http.MethodPost && strings.Contains(q.URL, "/sessions") && r.online == 0 {
					r.online = done.Sub(begin)
				}
			default:
				if c.rest && q.Service == "devops" && q.Method != http.MethodGet && r.config == 0 {
					r.config = q.At.Sub(begin)
					r.begun = r.config
				}
				r.requests[q.Service]++
				r.bytes += int64(q.Bytes)
			}
		}
		if time.Now().After(end) {
			b.t.Fatalf("%s: the agent has no session", c.name)
		}
	}
	r.listens = b.marked("listens").Sub(begin)
	b.reset()
	return r
}

// marked is when a script of the agent's began.
func (b *bench) marked(name string) time.Time {
	mark, err := os.ReadFile(b.path("mark/" + name))
	b.must(err)
	at, err := strconv.ParseFloat(strings.TrimSpace(string(mark)), 64)
	b.must(err)
	return time.Unix(0, int64(at*1e9))
}

// configTook is the CPU that config.sh took: the shell's own and its children's, user and system
// (times, a builtin of bash).
func (b *bench) configTook() (took time.Duration) {
	said, err := os.ReadFile(b.path("mark/times"))
	if errors.Is(err, fs.ErrNotExist) { // there was none
		return 0
	}
	b.must(err)
	for _, word := range strings.Fields(string(said)) {
		d, err := time.ParseDuration(word)
		b.must(err)
		took += d
	}
	return took
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

// reset ends the agent, removes its service and lets the server forget it.
func (b *bench) reset() {
	units, _ := filepath.Glob("/etc/systemd/system/vsts.agent.*.service")
	for _, u := range units {
		if fi, err := os.Lstat(u); err == nil && fi.Mode().IsRegular() {
			_ = exec.Command("systemctl", "kill", "--signal=KILL", filepath.Base(u)).
				Run()
				// it may have ended by itself
			b.exec("systemctl", "disable", "--now", filepath.Base(u))
			b.must(os.Remove(u))
		}
	}
	b.exec("systemctl", "daemon-reload")
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

// TestBench measures; without -bench-programs there is nothing to do.
func TestBench(t *testing.T) {
	if *benchPrograms == "" {
		t.Skip("make bench runs this")
	}
	dir, err := os.MkdirTemp("/var/tmp", "boots-") // a disk, not memory
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	b := &bench{t: t, dir: dir, bin: *benchPrograms}
	b.system, err = os.ReadFile(trusted)
	b.must(err)
	b.must(os.Chmod(dir, 0o755))
	b.scripts, err = filepath.Abs("../../scripts/bench")
	b.must(err)
	b.makePackage()
	page := &benchPage{runs: *benchRuns}
	only, err := regexp.Compile(*benchOnly)
	b.must(err)
	for _, distance := range []string{"azure", "none"} {
		for _, cold := range []bool{false, true} {
			if *benchOnly != "" && (distance != "azure" || cold) {
				continue
			}
			b.begin(distance)
			measured := map[string][]boot{}
			for i := range *benchRuns + 1 {
				for _, c := range contenders() {
					if !only.MatchString(c.name) {
						continue
					}
					r := b.measure(c, cold)
					if i == 0 { // the first warms up
						continue
					}
					measured[c.name] = append(measured[c.name], r)
					cache := map[bool]string{false: "warm", true: "cold"}[cold]
					fmt.Printf(
						"BenchmarkBoot/azure=%s/cache=%s/client=%s 1 %d config-ns/op %d asks-ns/op %d online-ns/op %d cpu-ns/op %d rss-B %d requests/op %d listens-ns/op\n",
						distance,
						cache,
						strings.NewReplacer(" ", "_", ",", "").Replace(c.name),
						r.config,
						r.begun,
						r.online,
						r.cpu,
						r.rss,
						r.requests["imds"]+r.requests["identity"]+r.requests["vault"]+r.requests["devops"],
						r.listens,
					)
				}
			}
			b.end()
			b.must(os.RemoveAll(b.path("old")))
			page.add(distance, cold, measured)
		}
	}
	if *benchOnly == "" || only.MatchString("once") {
		b.begin("azure")
		page.once = b.once()
		b.end()
	}
	if *benchOnly != "" {
		return
	}
	b.begin("none")
	page.idle = b.idle()
	page.sweep = b.sweep()
	b.end()
	page.programs = b.starts()
	if *benchDocs != "" {
		b.must(os.WriteFile(filepath.Join(*benchDocs, "performance.md"), []byte(page.render()), 0o644))
	}
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
