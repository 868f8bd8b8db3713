//go:build unix

package agent

import (
	"archive/tar"
	"context"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/secret"
)

const tokenOfATest = "opaque-token-of-a-test"

// reached lets other users reach a test's folder, as config.sh is one.
func reached(dir string) {
	for ; dir != "/tmp" && dir != "/"; dir = filepath.Dir(dir) {
		_ = os.Chmod(dir, 0o755)
	}
}

// configured lets a package's config.sh run.
func configured(t *testing.T, script string) (h Home, id int, err error) {
	t.Helper()
	return configuredWithin(t, script, time.Minute)
}

func configuredWithin(t *testing.T, script string, limit time.Duration) (h Home, id int, err error) {
	t.Helper()
	h = home(t)
	reached(filepath.Dir(h.Dir))
	file, sum := archive(t, entry{name: "./config.sh", kind: tar.TypeReg, text: "#!/bin/sh\n" + script})
	if _, err := h.Prepare(file, sum, quiet); err != nil {
		t.Fatal(err)
	}
	pat, err := secret.NewPAT(tokenOfATest)
	if err != nil {
		t.Fatal(err)
	}
	r := Registration{
		Kind:      "pool",
		Name:      "Default",
		URL:       "https://dev.azure.com/contoso",
		AgentName: "web-1",
		Work:      "_work",
		Marks:     Marks{InstanceID: "1"},
		Timeout:   limit,
	}
	id, err = Runner{Home: h, State: t.TempDir()}.Configure(t.Context(), r, pat, &secret.Redactor{}, func(string) {})
	return h, id, err
}

const succeeds = `printf '{"agentId": 7}' >.agent` + "\n"

// What the daemon's own environment holds (the proxy's password, say) is not for config.sh, nor for
// the jobs that get its variables.
func TestTheEnvironmentOfConfigIsItsOwn(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "http://user:password@proxy:3128")
	t.Setenv("AZP_BOOTSTRAP_LOG_LEVEL", "debug")
	h, id, err := configured(t, "env | grep -v TOKEN= >seen\n"+succeeds)
	if err != nil || id != 7 {
		t.Fatal(id, err)
	}
	text, err := os.ReadFile(h.path("seen"))
	if err != nil {
		t.Fatal(err)
	}
	names := []string{
		"PATH",
		"HOME",
		"USER",
		"LOGNAME",
		"LANG",
		"PWD",
		"OLDPWD",
		"SHLVL",
		"_",
	} // a shell adds the last ones
	for _, variable := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		name, _, _ := strings.Cut(variable, "=")
		if !slices.Contains(names, name) && !strings.HasPrefix(name, inputs) {
			t.Errorf("config.sh sees %s", variable)
		}
	}
}

// Wherever config.sh leaves the PAT, in whichever form, neither the registration nor the file
// stays.
func TestAPATThatConfigLeavesIsFound(t *testing.T) {
	for _, leaves := range []string{
		`mkdir _diag; echo "token: $VSTS_AGENT_INPUT_TOKEN" >_diag/Agent_1.log`,
		`printf ":$VSTS_AGENT_INPUT_TOKEN" | base64 >.git-config`,
		`printf '{"scheme":"PAT","data":{"token":"%s"}}' "$VSTS_AGENT_INPUT_TOKEN" >.credentials`,
	} {
		h, _, err := configured(t, leaves+"\n"+succeeds)
		if !errors.Is(err, ErrKeptPAT) || fault.From(err).Advice == "" {
			t.Errorf("%s: %v", leaves, err)
		}
		if id, err := h.Registered(); id != 0 || err != nil {
			t.Errorf("%s: it is still registered as %d, %v", leaves, id, err)
		}
		_ = filepath.WalkDir(h.Dir, func(name string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			data, err := os.ReadFile(name)
			for _, form := range []string{tokenOfATest, "Om9wYXF1ZS10b2tlbi1vZi1hLXRlc3Q"} {
				if err != nil || strings.Contains(string(data), form) {
					t.Errorf("%s: the PAT is still in %s, %v", leaves, name, err)
				}
			}
			return nil
		})
	}
}

// The agent trusts what the daemon trusts, and does not ask IMDS through a proxy.
func TestFurnish(t *testing.T) {
	h := Home{Dir: t.TempDir(), User: home(t).User}
	ca, system := filepath.Join(t.TempDir(), "ca.pem"), filepath.Join(t.TempDir(), "system.pem")
	if err := errors.Join(
		os.WriteFile(ca, []byte("OWN"), 0o600),
		os.WriteFile(system, []byte("SYSTEM"), 0o600),
	); err != nil {
		t.Fatal(err)
	}
	r := Registration{
		Proxy:     &url.URL{Scheme: "http", Host: "proxy:1"},
		Bypass:    []string{`^https?://[^/:]+\.corp$`, "b"},
		Trusted:   []byte("OWN"),
		SystemCAs: system,
	}
	if err := h.furnish(r); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{".proxybypass": `^http://169\.254\.169\.254(/|$)` + "\n" + `^https?://[^/:]+\.corp$` +
		"\nb\n", caBundle: "SYSTEM\nOWN"} {
		if text, err := os.ReadFile(h.path(name)); err != nil || string(text) != want {
			t.Errorf("%s: %q, %v", name, text, err)
		}
	}
	text, err := os.ReadFile(h.path(".env"))
	for _, name := range []string{"SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "GIT_SSL_CAINFO", "CURL_CA_BUNDLE",
		"REQUESTS_CA_BUNDLE"} {
		if err != nil || !strings.Contains(string(text), name+"="+h.path(caBundle)+"\n") {
			t.Errorf(".env has no %s: %q, %v", name, text, err)
		}
	}
}

// The listener's own word that another try may do, and a signal, are waited out. What else it says
// lasts.
func TestExitCodesThatPass(t *testing.T) {
	for exit, passes := range map[int]bool{1: false, 2: true, 3: false, 4: false, 126: false, 127: false, 128: false,
		134: true, 137: true, -1: true} {
		err := (&outputReader{}).verdict(Registration{Kind: "pool", Name: "Default"}, exit, nil, context.Background())
		if f := fault.From(err); f.Class != fault.Agent || f.Wait != passes || f.Advice == "" {
			t.Errorf("exit code %d: passing %v, %v", exit, f.Wait, err)
		}
	}
}

// config.sh holds the PAT: one that hangs is ended, with all that it started.
func TestConfigureIsEndedInTime(t *testing.T) {
	begin := time.Now()
	_, _, err := configuredWithin(t, "sleep 30 & sleep 30\n", 200*time.Millisecond)
	if f := fault.From(
		err,
	); f.Class != fault.Agent || !f.Wait || !strings.Contains(f.Error(), "did not end within 200ms") ||
		time.Since(begin) > 20*time.Second {
		t.Errorf("after %s: %v", time.Since(begin), err)
	}
}

// What config.sh leaves running has the PAT in its environment: it ends with it.
func TestNothingOfConfigRunsOn(t *testing.T) {
	h, id, err := configured(t, "sleep 100 >/dev/null 2>&1 &\necho $! >child\n"+succeeds)
	if err != nil || id != 7 {
		t.Fatal(id, err)
	}
	text, err := os.ReadFile(h.path("child"))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); startTime(pid) != ""; <-time.After(5 * time.Millisecond) {
		if time.Now().After(end) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			t.Fatal("its child runs on")
		}
	}
}

// The files are those that the agent's own `remove` deletes (ConfigurationManager.cs), and what
// config.sh and the daemon add.
func TestWipeLeavesNothingOfARegistration(t *testing.T) {
	h := home(t)
	file, sum := archive(t, honest...)
	if _, err := h.Prepare(file, sum, quiet); err != nil {
		t.Fatal(err)
	}
	files := []string{
		".credentials",
		".credentials_rsaparams",
		".credentials_migrated",
		".agent",
		".agent_migrated",
		".service",
		".proxycredentials",
		".credential_store",
		".env",
	}
	for _, name := range files {
		if err := os.WriteFile(h.path(name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.Wipe(); err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if _, err := os.Lstat(h.path(name)); err == nil {
			t.Errorf("%s is still there", name)
		}
	}
}
