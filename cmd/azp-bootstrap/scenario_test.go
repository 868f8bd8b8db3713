// The black-box scenarios: scripts that run the real programs against the simulated Azure, as a
// user would. positive holds what must work, negative what must be refused, each class with its
// message and hint. The PAT of each script is its own, and at its end nothing that was written may
// hold it.
package main_test

import (
	"bytes"
	"crypto/rand"
	"encoding/base32"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"go.yaml.in/yaml/v3"
)

var (
	update   = flag.Bool("update", false, "write golden files anew")
	programs = flag.String("programs", "", "folder of programs that are built")
	bin      string // folder of the built programs
	packed   string // folder of the agent packages
	packages sync.Map

	buildFlags []string // of the programs
	cgo        = "0"
)

func TestMain(m *testing.M) {
	flag.Parse()
	cores := runtime.GOMAXPROCS(0)
	if f := flag.Lookup("test.parallel"); f.Value.String() == strconv.Itoa(cores) { // scenarios mostly wait
		_ = f.Value.Set(strconv.Itoa(3 * cores))
	}
	if f := flag.Lookup("bench-programs"); f != nil && f.Value.String() != "" {
		os.Exit(m.Run()) // they are built
	}
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "azp-scenarios-")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		_ = os.Chmod(dir, 0o755) // the agent runs as another user
		packed = dir
		if bin = *programs; bin != "" {
			return m.Run()
		}
		bin = dir
		build := exec.Command(
			"go",
			append(append([]string{"build", "-trimpath"}, buildFlags...), "-o", dir, "azp-bootstrap/cmd/...")...)
		build.Env = append(os.Environ(), "CGO_ENABLED="+cgo)
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "%s%v\n", out, err)
			return 1
		}
		return m.Run()
	}())
}

// ofScript are the scenarios that are about config.sh, or that say themselves who registers.
var ofScript = []string{"leak", "half", "flood"}

// byRest are the scenarios that the default tier runs by rest as well.
var byRest = []string{"services", "server", "tfs", "environment", "proxy", "crash", "crash-pool", "replace", "taken-over", "clone-deregister", "deregister"}

func scripts(t *testing.T, folder, registration string) {
	files, err := filepath.Glob(filepath.Join("testdata", folder, "*.txt"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	if registration == "rest" {
		files = slices.DeleteFunc(files, func(f string) bool {
			name := strings.TrimSuffix(filepath.Base(f), ".txt")
			return slices.Contains(ofScript, name) || os.Getenv("CI_FULL") != "1" && !slices.Contains(byRest, name)
		})
	}
	root, err := os.MkdirTemp("", "azp-scripts-")
	if err != nil {
		t.Fatal(err)
	}
	_ = os.Chmod(root, 0o755)
	t.Cleanup(func() {
		if !t.Failed() {
			_ = os.RemoveAll(root)
		}
	})
	cmds := map[string]func(*testscript.TestScript, bool, []string){
		"azure":        azure,
		"apply":        apply,
		"machine":      machine,
		"prepare":      prepare,
		"exits":        exits,
		"sampled":      sampled,
		"sampled-rest": sampledByRest,
		"crash":        crash,
		"agents":       agents,
		"noleak":       noleak,
		"daemon":       daemon,
		"stop-daemon":  stopDaemon,
		"kill-daemon":  killDaemon,
		"health":       healthIs,
		"get":          get,
		"await-grep":   awaitGrep,
		"await-metric": awaitMetric,
		"stop-agent":   stopAgent,
		"reap":         reap,
	}
	maps.Copy(cmds, ofSystem)
	testscript.Run(t, testscript.Params{
		Files:               files,
		WorkdirRoot:         root,
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			raw := make([]byte, 33)
			_, _ = rand.Read(raw)
			w := &world{registration: registration, dir: e.WorkDir, pat: strings.ToLower(base32.StdEncoding.EncodeToString(raw))[:52]}
			e.Values["world"] = w
			e.Vars = append(e.Vars, "PATH="+bin+string(os.PathListSeparator)+os.Getenv("PATH"), "HOME="+e.WorkDir)
			e.Vars = append(e.Vars, systemVars()...)
			e.Defer(w.end)
			return nil
		},
		Condition: func(name string) (bool, error) {
			if name != "root" {
				return false, fmt.Errorf("unknown condition %q", name)
			}
			return os.Geteuid() == 0, nil
		},
		Cmds: cmds,
	})
}

// A world is what one script has around it.
type world struct {
	dir          string
	pat          string
	registration string // agent.registration of its machines, unless their own configuration says otherwise
	sim          *exec.Cmd
	machines     []string
	daemons      []*exec.Cmd
}

func in(ts *testscript.TestScript) *world { return ts.Value("world").(*world) }

func (w *world) end() {
	for _, d := range w.daemons {
		_ = d.Process.Kill()
		_ = d.Wait()
	}
	for _, m := range w.machines {
		w.reapMachine(m)
		forget(m)
	}
	if w.sim != nil {
		interrupt(w.sim.Process)
		_ = w.sim.Wait()
	}
}

// scenario is the default one with the given file's top-level keys in place of its own.
func (w *world) scenario(ts *testscript.TestScript, args []string) string {
	out, err := exec.Command(filepath.Join(bin, "azp-sim"), "scenario").Output()
	ts.Check(err)
	all := map[string]any{}
	ts.Check(
		yaml.Unmarshal(
			bytes.ReplaceAll(out, []byte("simulatedpersonalaccesstoken234567abcdefghijklmnopqr"), []byte(w.pat)),
			&all,
		),
	)
	for _, file := range args {
		own := map[string]any{}
		ts.Check(
			yaml.Unmarshal(
				[]byte(
					strings.NewReplacer("@PAT@", w.pat, "@SOON@", time.Now().AddDate(0, 0, 5).UTC().Format(time.RFC3339)).
						Replace(ts.ReadFile(file)),
				),
				&own,
			),
		)
		maps.Copy(all, own)
	}
	data, err := yaml.Marshal(all)
	ts.Check(err)
	name := filepath.Join(w.dir, "azure", "scenario.yaml")
	ts.Check(os.MkdirAll(filepath.Dir(name), 0o755))
	ts.Check(os.WriteFile(name, data, 0o600))
	return name
}

// azure [FILE]: Azure, with FILE's parts of the scenario.
func azure(ts *testscript.TestScript, _ bool, args []string) {
	w := in(ts)
	file := w.scenario(ts, args)
	w.sim = exec.Command(filepath.Join(bin, "azp-sim"), "serve", "--dir", filepath.Dir(file), "--scenario", file)
	var said bytes.Buffer
	w.sim.Stderr = &said
	ts.Check(w.sim.Start())
	var where struct {
		IMDS      map[string]string
		Proxy, CA string
	}
	await(ts, "azp-sim", func() bool {
		data, err := os.ReadFile(filepath.Join(filepath.Dir(file), "sim.json"))
		return err == nil && json.Unmarshal(data, &where) == nil
	})
	trust(ts, where.CA)
	ts.Setenv("PROXY", where.Proxy)
	ts.Setenv("PROXYHOST", strings.TrimPrefix(where.Proxy, "http://"))
	ts.Setenv("CA", where.CA)
	ts.Setenv("IMDS", where.IMDS["web_1"])
	for vm, address := range where.IMDS {
		ts.Setenv("IMDS_"+vm, address)
	}
}

// apply FILE...: the running Azure takes these parts of the scenario, and the default for the rest.
func apply(ts *testscript.TestScript, _ bool, args []string) {
	w := in(ts)
	ts.Check(ts.Exec("azp-sim", "apply", "--dir", filepath.Join(w.dir, "azure"), w.scenario(ts, args)))
}

// machine NAME SERVER KIND [FILE]: a VM's disk with a configuration; FILE goes to conf.d.
func machine(ts *testscript.TestScript, _ bool, args []string) {
	w := in(ts)
	dir := filepath.Join(w.dir, args[0])
	w.machines = append(w.machines, dir)
	server := map[string]string{"services": "https://dev.azure.com/contoso", "server": "https://devops.corp/DefaultCollection/", "tfs": "https://tfs.corp:8080/tfs/"}[args[1]]
	target := map[string]string{
		"environment":     `environment: {project: Shop, name: production, tags: [web, "{{.Location}}"]}`,
		"deploymentGroup": `deploymentGroup: {project: Shop, name: web-servers, tags: [web, "{{.ScaleSet}}"]}`,
		"pool":            `pool: {name: Default}`,
		"none":            "",
	}[args[2]]
	if server == "" {
		server = args[1]
	}
	user := ""
	if os.Geteuid() == 0 {
		user = "nobody"
	}
	registration := ""
	if w.registration != "script" {
		registration = "  registration: " + w.registration + "\n"
	}
	credential := "credential:\n  keyVault: {url: https://contoso.vault.azure.net, secret: azp-pat}\n"
	for _, file := range args[3:] {
		if strings.Contains(ts.ReadFile(file), "entra:") {
			credential = ""
		}
	}
	deadline := "30s"
	if runtime.GOOS == "windows" {
		deadline = "90s" // several Windows side by side, and Wine starts a program in seconds
	}
	ts.Check(os.MkdirAll(filepath.Join(dir, "etc", "conf.d"), 0o755))
	ts.Check(os.WriteFile(filepath.Join(dir, "etc", "config.yaml"), fmt.Appendf(nil, `url: %s
target:
  %s
agent:
  dir: %q
  user: %q
  service: %s
%s%snetwork: {proxy: %q, caFile: %q}
imds: {endpoint: %q}
deadline: %s
`, server, target, filepath.Join(dir, "agent"), user, serviceForm, registration, credential, ts.Getenv("PROXY"), ts.Getenv("CA"), ts.Getenv("IMDS"), deadline), 0o644))
	for i, file := range args[3:] {
		text := os.Expand(ts.ReadFile(file), ts.Getenv)
		ts.Check(os.WriteFile(filepath.Join(dir, "etc", "conf.d", fmt.Sprintf("%d.yaml", i)), []byte(text), 0o644))
	}
	ts.Setenv("M", dir)
	ts.Setenv("AZP_BOOTSTRAP_CONFIG", filepath.Join(dir, "etc", "config.yaml"))
	ts.Setenv("AZP_BOOTSTRAP_STATE_DIR", filepath.Join(dir, "state"))
}

// prepare [BEHAVIOUR]: image time; the stand-in agent, which may be told to go wrong.
func prepare(ts *testscript.TestScript, _ bool, args []string) {
	behaviour := strings.Join(args, "")
	file, sum := agentPackage(ts, behaviour)
	exits(ts, false, []string{"0", "azp-bootstrap", "prepare", "--package", file, "--sha256", sum})
}

func agentPackage(ts *testscript.TestScript, behaviour string) (file, sum string) {
	made, _ := packages.LoadOrStore(behaviour, sync.OnceValues(func() ([2]string, error) {
		dir := filepath.Join(packed, "package-"+behaviour)
		file := filepath.Join(dir, packageName)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return [2]string{}, err
		}
		out, err := exec.Command(filepath.Join(bin, "azp-sim"), "agent-package", "--behaviour", behaviour, file).
			Output()
		return [2]string{file, strings.TrimSpace(string(out))}, err
	}))
	pair, err := made.(func() ([2]string, error))()
	ts.Check(err)
	ts.Setenv("PACKAGE", pair[0])
	ts.Setenv("SHA256", pair[1])
	return pair[0], pair[1]
}

// exits CODE COMMAND...: the command ends with exactly this code, and says no secret.
func exits(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	var ee *exec.ExitError
	if errors.As(err, &ee) {
		code = ee.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	in(ts).clean(ts, "stdout", ts.ReadFile("stdout"))
	in(ts).clean(ts, "stderr", ts.ReadFile("stderr"))
	if strings.Contains(ts.ReadFile("stderr"), "goroutine ") {
		ts.Fatalf("it panicked")
	}
	if strings.Contains(ts.ReadFile("stderr"), "Unrecognized command-line") { // the agent only says so and goes on
		ts.Fatalf("config.sh was given an option that it does not have")
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("exit code %d, want %s", code, args[0])
	}
}

func (w *world) clean(ts *testscript.TestScript, what, text string) {
	for _, form := range w.forms() {
		if strings.Contains(text, form) {
			ts.Fatalf("the PAT is in %s", what)
		}
	}
}

func (w *world) forms() []string {
	return []string{
		w.pat,
		base64.StdEncoding.EncodeToString([]byte(":" + w.pat)),
		base64.StdEncoding.EncodeToString([]byte(w.pat)),
	}
}

// accessToken is the shape of a JWT, such as the managed identity's tokens.
var accessToken = regexp.MustCompile(`eyJ[\w-]+\.eyJ[\w-]+\.`)

// noleak: nothing that was written holds the PAT, but for Azure's own scenario.
func noleak(ts *testscript.TestScript, _ bool, _ []string) {
	w := in(ts)
	seen := 0
	ts.Check(filepath.WalkDir(w.dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || name == filepath.Join(w.dir, "azure", "scenario.yaml") {
			return err
		}
		data, err := os.ReadFile(name)
		w.clean(ts, name, string(data))
		if accessToken.Match(data) {
			ts.Fatalf("an access token is in %s", name)
		}
		seen++
		return err
	}))
	ts.Logf("%d files searched", seen)
}

// agents N STATUS: so many agents of this status stand on all servers together.
func agents(ts *testscript.TestScript, _ bool, args []string) {
	var last string
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	await(ts, strings.Join(args, " ")+" agents", func() bool {
		out, err := exec.Command(filepath.Join(bin, "azp-sim"), "agents", "--json", "--dir", filepath.Join(in(ts).dir, "azure")).
			Output()
		var all []struct{ Status string }
		if err != nil || json.Unmarshal(out, &all) != nil {
			return false
		}
		last = string(out)
		n := 0
		for _, a := range all {
			if len(args) == 1 || a.Status == args[1] {
				n++
			}
		}
		return n == want
	})
	ts.Logf("%s", last)
}

// reap: all processes of the machines end, as when a VM is powered off.
func reap(ts *testscript.TestScript, _ bool, _ []string) {
	for _, m := range in(ts).machines {
		in(ts).reapMachine(m)
	}
}

// stop-agent: the agent's own process ends.
func stopAgent(ts *testscript.TestScript, _ bool, _ []string) { in(ts).reapMachine(ts.Getenv("M")) }

// crash PHASE|file:NAME COMMAND...: SIGKILL as soon as this run has begun the phase or written the
// file. On a busy machine that may be noticed a phase late: it is a crash all the same.
func crash(ts *testscript.TestScript, _ bool, args []string) {
	cmd := exec.Command(filepath.Join(bin, args[1]), args[2:]...)
	for _, k := range []string{"PATH", "HOME", "AZP_BOOTSTRAP_CONFIG", "AZP_BOOTSTRAP_STATE_DIR"} {
		cmd.Env = append(cmd.Env, k+"="+ts.Getenv(k))
	}
	cmd.Env = append(cmd.Env, systemVars()...)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	begun := time.Now().Truncate(time.Millisecond)
	ts.Check(cmd.Start())
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	file, isFile := strings.CutPrefix(args[0], "file:")
	for {
		select {
		case <-ended:
			ts.Fatalf("it ended before %s:\n%s", args[0], said.String())
		case <-time.After(time.Millisecond):
		}
		reached := false
		if isFile {
			fi, err := os.Stat(ts.MkAbs(file))
			reached = err == nil && !fi.ModTime().Before(begun)
		} else {
			data, _ := os.ReadFile(filepath.Join(ts.Getenv("AZP_BOOTSTRAP_STATE_DIR"), "state.json"))
			var s struct {
				Phases []struct {
					Name      string
					StartedAt time.Time
				}
			}
			_ = json.Unmarshal(data, &s)
			for _, p := range s.Phases {
				reached = reached || p.Name == args[0] && !p.StartedAt.Before(begun)
			}
		}
		if reached {
			_ = cmd.Process.Kill()
			<-ended
			in(ts).clean(ts, "the output", said.String())
			return
		}
	}
}

// patience is how long a script waits for what comes by itself: the agent and the daemon take half
// a minute each to be sure that Azure DevOps is lost.
const patience = 90 * time.Second

func await(ts *testscript.TestScript, what string, ok func() bool) {
	for end := time.Now().Add(patience); !ok(); <-time.After(50 * time.Millisecond) {
		if time.Now().After(end) {
			for _, m := range in(ts).machines { // what its service said, which nobody else shows
				if log, err := os.ReadFile(filepath.Join(m, "state", "azp-bootstrap.log")); err == nil {
					ts.Logf("%s:\n%s", m, log)
				}
			}
			ts.Fatalf("no %s", what)
		}
	}
}
