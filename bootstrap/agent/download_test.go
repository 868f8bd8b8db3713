package agent

import (
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"azp-bootstrap/bootstrap/fault"
)

func TestDownloadLeavesNothingHalfMade(t *testing.T) {
	whole := strings.Repeat("package", 100_000)
	sum := sha256.Sum256([]byte(whole))
	pin := Pin{"linux-x64", "4.248.0", hex.EncodeToString(sum[:])}
	for _, c := range []struct {
		name  string
		serve func(http.ResponseWriter)
		class fault.Class // none = it is taken
		wait  bool
	}{
		{"whole", func(w http.ResponseWriter) { _, _ = w.Write([]byte(whole)) }, fault.Class{}, false},
		{"cut short", func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", "700000")
			_, _ = w.Write([]byte(whole[:1000]))
		}, fault.Network, true},
		{"cut short, of unknown length", func(w http.ResponseWriter) { _, _ = w.Write([]byte(whole[:1000])) }, fault.Agent, false},
		{"something else", func(w http.ResponseWriter) { _, _ = w.Write([]byte("<html>Sign in to the network")) }, fault.Agent, false},
		{"not there", func(w http.ResponseWriter) { w.WriteHeader(http.StatusNotFound) }, fault.Agent, false},
		{"busy", func(w http.ResponseWriter) { w.WriteHeader(http.StatusServiceUnavailable) }, fault.Agent, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/agent/4.248.0/vsts-agent-linux-x64-4.248.0.tar.gz" {
					t.Errorf("asked for %s", r.URL.Path)
				}
				c.serve(w)
			}))
			defer s.Close()
			h := Home{Dir: filepath.Join(t.TempDir(), "agent")}
			file, err := h.Download(t.Context(), s.Client(), s.URL+"/agent/", pin, func(int64, int64) {})
			if err == nil {
				if data, _ := os.ReadFile(file); string(data) != whole || c.class != (fault.Class{}) {
					t.Errorf("%d bytes were taken", len(data))
				}
				h.Discard(file)
			} else if f := fault.From(err); f.Class != c.class || f.Wait != c.wait || f.Advice == "" {
				t.Errorf("class %s, passing %v, %q: %v", f.Class.Code, f.Wait, f.Advice, err)
			}
			left(t, h)
		})
	}
}

// A review finds a lock file right, or it is refused whole, also for the platforms whose lines are
// good.
func TestReadLockRefuses(t *testing.T) {
	sum := strings.Repeat("a", 64)
	good := "linux-x64 4.248.0 " + sum + " # pinned\n\n"
	file := filepath.Join(t.TempDir(), "agent.lock")
	for text, says := range map[string]string{
		good: "", "\ufeff" + good: "", good + good: "given twice", good + "linux-x46 4.248.0 " + sum: "unknown platform", good + "win-x64 4.248 " + sum: "not a version",
		good + "win-x64 4.248.0 " + sum[1:]: "not a SHA-256 sum", good + "win-x64 4.248.0": "not PLATFORM VERSION SHA256", "win-x64 4.248.0 " + sum: "pins no package for linux-x64",
		good + "win-x64 ../4.248.0 " + sum: "not a version",
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		pin, err := ReadLock(file, "linux-x64")
		if says == "" && (err != nil || pin.Version != "4.248.0" || pin.SHA256 != sum) ||
			says != "" && (err == nil || !strings.Contains(err.Error(), says)) {
			t.Errorf("%q: %+v, %v", text, pin, err)
		}
	}
}

// Whoever is on the way could give another package, and see which.
func TestDownloadRefusesHTTP(t *testing.T) {
	asked := 0
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked++ }))
	defer s.Close()
	h := Home{Dir: filepath.Join(t.TempDir(), "agent")}
	for _, source := range []string{s.URL, "ftp://x", "https://", "x"} {
		_, err := h.Download(t.Context(), s.Client(), source, Pin{"linux-x64", "4.248.0", ""}, func(int64, int64) {})
		if f := fault.From(err); err == nil || f.Class != fault.Usage || f.Advice == "" || asked > 0 {
			t.Errorf("%s: %v, %d requests", source, err, asked)
		}
	}
}

func left(t *testing.T, h Home) {
	t.Helper()
	_ = filepath.WalkDir(h.keep(), func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			t.Errorf("%s is left", name)
		}
		return err
	})
}

func TestPrepareOnAFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a small disk")
	}
	disk := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=64k,mode=755", "tmpfs", disk).
		CombinedOutput(); err != nil {
		t.Skipf("no small disk here: %s", out)
	}
	defer func() { _ = exec.Command("umount", disk).Run() }()
	file := filepath.Join(t.TempDir(), "vsts-agent-linux-x64-4.248.0.tar.gz")
	content := []byte(strings.Repeat("package", 100_000))
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(content)
	h := Home{Dir: filepath.Join(disk, "agent"), User: "nobody"}
	_, err := h.Prepare(file, hex.EncodeToString(sum[:]), func(string, ...any) {})
	if f := fault.From(err); f == nil || f.Class != fault.Agent || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("%v", err)
	}
	left(t, h)

	s := httptest.NewTLSServer(
		http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(content) }),
	)
	defer s.Close()
	_, err = h.Download(
		t.Context(),
		s.Client(),
		s.URL,
		Pin{"linux-x64", "4.248.0", hex.EncodeToString(sum[:])},
		func(int64, int64) {},
	)
	if f := fault.From(err); f == nil || f.Class != fault.Agent || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("%v", err)
	}
	left(t, h)
}

// The lock file of this repository pins a package for each platform that the pinned version has.
func TestTheLockFilePinsEveryPlatform(t *testing.T) {
	for _, p := range Platforms {
		if p == "win-arm64" { // since version 5
			continue
		}
		pin, err := ReadLock("../../packer/agent.lock", p)
		if err != nil {
			t.Error(err)
		} else if pin.Platform != p || len(pin.SHA256) != 64 {
			t.Errorf("%+v", pin)
		}
	}
}
