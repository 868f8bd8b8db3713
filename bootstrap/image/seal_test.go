//go:build unix

package image

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

const shapedLikeAPAT = "abcdefgh234567abcdefgh234567abcdefgh234567abcdefgh23"

// anImage is a folder with an image's skeleton, and beside it a folder that stands for the host.
type anImage struct {
	*testing.T
	root, host string
}

func newImage(t *testing.T) anImage {
	dir := t.TempDir()
	i := anImage{t, filepath.Join(dir, "image"), filepath.Join(dir, "host")}
	i.put("etc/hostname", "builder-7\n")
	return i
}

func (i anImage) put(name, text string) { i.putAt(filepath.Join(i.root, name), text) }

func (i anImage) putAt(name, text string) {
	i.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		i.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		i.Fatal(err)
	}
}

func (i anImage) link(to, name string) {
	i.Helper()
	name = filepath.Join(i.root, name)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		i.Fatal(err)
	}
	if err := os.Symlink(to, name); err != nil {
		i.Fatal(err)
	}
}

func (i anImage) there(name string) bool {
	_, err := os.Lstat(filepath.Join(i.root, name))
	return err == nil
}

// seal returns the findings by the file's name in the image.
func (i anImage) seal(check bool) map[string]Finding {
	i.Helper()
	w := Where{ConfigFile: "/etc/azp-bootstrap/config.yaml", StateDir: "/var/lib/azp-bootstrap"}
	found, err := Seal(i.Context(), w, Sealing{Root: i.root, Check: check, Deep: true, Say: func(string, ...any) {}})
	if err != nil {
		i.Fatal(err)
	}
	byName := map[string]Finding{}
	for _, f := range found {
		byName[strings.TrimPrefix(f.File, i.root)] = f
	}
	return byName
}

// an example of what a pattern matches.
func example(pattern string) string { return strings.ReplaceAll(pattern, "*", "x") }

// What no image may hold. The tests below plant a file for each pattern of the lists; this says
// what the lists must have.
func TestTheListsHoldWhatTheyMust(t *testing.T) {
	for _, c := range []struct {
		name string
		list []string
		must []string
	}{
		{"stateFiles", stateFiles, []string{"state.json", "state.json.damaged", ".state.json.spare-a", ".state.json.spare-b", "lock", "lock.ask", "agent.pid", "configure.pid", "agent.log", "start.pid", "gate.passed", "hook-afterJob.pid", "hook-leaving.sh", "lock.hook-failed"}},
		{"deep", deep, []string{"/etc/ssh/ssh_host_*", "/var/lib/systemd/random-seed", "/var/lib/systemd/credential.secret", "/var/lib/cloud/instance", "/var/lib/cloud/instances/*", "/var/lib/waagent/*.xml"}},
		{"textFiles", textFiles, []string{"/etc/environment", "/etc/profile.d/*", "/etc/default/*", unitFolder + "/*.service", unitFolder + "/*.d/*.conf", "/root/.*history", "/home/*/.*history",
			"/root/.netrc", "/home/*/.netrc", "/root/.git-credentials", "/home/*/.git-credentials", "/root/.azure/*", "/home/*/.azure/*", "/tmp/*", "/var/tmp/*"}},
	} {
		for _, m := range c.must {
			if !slices.Contains(c.list, m) {
				t.Errorf("%s has no %s", c.name, m)
			}
		}
	}
}

// A VM that works is not sealed by mistake: its agent would be lost.
func TestSealRefusesAVMThatWorks(t *testing.T) {
	const registered, works = "/opt/azp-agent/.agent", "/var/lib/azp-bootstrap/state.json"
	for name, text := range map[string]string{registered: "{}", works: `{"schema":1,"phase":"ready","agent":{"id":7}}`} {
		i := newImage(t)
		i.put(name, text)
		w := Where{ConfigFile: "/etc/azp-bootstrap/config.yaml", StateDir: "/var/lib/azp-bootstrap"}
		s := Sealing{Root: i.root, Say: func(string, ...any) {}}
		if _, err := Seal(
			i.Context(),
			w,
			s,
		); err == nil ||
			!strings.Contains(err.Error(), "the agent of this VM is registered ("+filepath.Join(i.root, name)+")") {
			t.Errorf("%s: %v", name, err)
		}
		if !i.there(name) {
			t.Errorf("%s was removed", name)
		}
		s.Force = true
		if _, err := Seal(i.Context(), w, s); err != nil {
			t.Errorf("%s, with force: %v", name, err)
		}
	}
}

// TestSealFindsAndRemovesEach plants one file for each pattern of the lists.
func TestSealFindsAndRemovesEach(t *testing.T) {
	var files []string
	for _, n := range stateFiles {
		files = append(files, "/var/lib/azp-bootstrap/"+n)
	}
	for _, p := range deep {
		files = append(files, example(p))
	}
	files = append(
		files,
		unitFolder+"/vsts.agent.a.b.c.service",
		unitFolder+"/multi-user.target.wants/vsts.agent.a.b.c.service",
		"/var/log/journal/1/system.journal",
		"/var/log/old.gz",
		"/var/log/older.xz",
	)
	i := newImage(t)
	for _, name := range files {
		i.put(name, "x")
	}
	emptied := map[string]string{
		"/var/log/syslog":  "builder-7 said",
		"/var/log/app.log": "pat=" + shapedLikeAPAT,
		machineID:          "0123",
	}
	for name, text := range emptied {
		i.put(name, text)
		files = append(files, name)
	}
	i.put("/var/log/dpkg.log", "installed")
	found := i.seal(true)
	for _, name := range files {
		if _, ok := found[name]; !ok {
			t.Errorf("%s is not found", name)
		}
		if !i.there(name) {
			t.Errorf("--check removed %s", name)
		}
	}
	found = i.seal(false)
	for _, name := range files {
		if f, ok := found[name]; ok {
			t.Errorf("%s is still found: %s", name, f.Wrong)
		}
		if fi, err := os.Stat(
			filepath.Join(i.root, name),
		); emptied[name] != "" && (err != nil || fi.Size() != 0) ||
			emptied[name] == "" && err == nil {
			t.Errorf("%s is still there", name)
		}
	}
	if text, _ := os.ReadFile(filepath.Join(i.root, "/var/log/dpkg.log")); string(text) != "installed" {
		t.Error("a log that names nobody was emptied")
	}
}

// TestSealFindsTokens plants a token for each pattern, and a link to one.
func TestSealFindsTokens(t *testing.T) {
	i := newImage(t)
	i.put("/data/token", shapedLikeAPAT)
	var files []string
	for _, p := range textFiles {
		if strings.HasSuffix(p, "/*") {
			files = append(files, example(p)+"-link")
			i.link("/data/token", example(p)+"-link")
		}
		i.put(example(p), "PAT="+shapedLikeAPAT)
		files = append(files, example(p))
	}
	found := i.seal(true)
	for _, name := range files {
		if f := found[name]; !strings.Contains(f.Wrong, "shaped like a token") {
			t.Errorf("%s: found as %+v", name, f)
		}
	}
}

// TestSealFindsWhatOthersMayWrite makes each file that root trusts writable.
func TestSealFindsWhatOthersMayWrite(t *testing.T) {
	conf, home := "/etc/azp-bootstrap", "/opt/azp-agent"
	trusted := []string{
		conf + "/config.yaml",
		conf,
		conf + "/conf.d",
		conf + "/conf.d/50-target.yaml",
		conf + "/start.d",
		conf + "/start.d/10-disks.1",
		home,
		home + ".package",
		home + "/config.sh",
		home + "/bin/Agent.Listener",
		home + ".package/a.tar.gz",
		"/usr/bin/azp-bootstrap",
	}
	for _, dir := range unitFolders {
		trusted = append(trusted, dir+"/"+daemonUnit)
	}
	for _, name := range trusted {
		i := newImage(t)
		for _, n := range trusted {
			if filepath.Ext(n) != "" || strings.HasSuffix(n, "Listener") || strings.HasSuffix(n, "bin/azp-bootstrap") {
				if n != home+".package" && filepath.Ext(n) != ".d" {
					i.put(n, "url: https://dev.azure.com/contoso\n")
				}
			}
		}
		mine := func() map[string]Finding {
			found := i.seal(true)
			for n, f := range found {
				if !strings.Contains(f.Wrong, "may write it") {
					delete(found, n)
				}
			}
			return found
		}
		if found := mine(); len(found) != 0 {
			t.Fatalf("before: %v", found)
		}
		if err := os.Chmod(filepath.Join(i.root, name), 0o777); err != nil {
			t.Fatal(err)
		}
		found := mine()
		if name == home+".package" {
			continue // of which it is said first that there is no package in it
		}
		if _, ok := found[name]; !ok && !strings.Contains(found[conf+"/config.yaml"].Wrong, name) {
			t.Errorf("%s may be written by all and is not found: %v", name, found)
		}
	}
}

// An image may leave the whole configuration to cloud-init, and its folder for drop-ins be somebody
// else's all the same.
func TestSealFindsAnOpenFolderForDropIns(t *testing.T) {
	i := newImage(t)
	dir := "/etc/azp-bootstrap/conf.d"
	i.put(dir+"/x", "")
	if err := os.Chmod(filepath.Join(i.root, dir), 0o777); err != nil {
		t.Fatal(err)
	}
	if f := i.seal(true)[dir]; !strings.Contains(f.Wrong, "may write it") {
		t.Errorf("found: %+v", f)
	}
}

// TestSealLeavesTheHostAlone lets every path that seal touches lead out of the image, by every kind
// of link.
func TestSealLeavesTheHostAlone(t *testing.T) {
	paths := []string{
		"/etc",
		"/etc/ssh",
		"/var",
		"/var/log",
		"/var/log/journal",
		"/var/lib",
		"/var/lib/systemd",
		"/var/lib/azp-bootstrap",
		"/var/lib/cloud",
		"/var/lib/cloud/data",
		machineID,
		dbusMachineID,
		"/etc/hostname",
		"/etc/systemd",
		unitFolder,
		"/etc/azp-bootstrap",
		"/etc/azp-bootstrap/config.yaml",
		"/etc/azp-bootstrap/conf.d",
		"/opt",
		"/opt/azp-agent",
		"/opt/azp-agent.package",
		"/root",
		"/tmp",
		"/etc/ssh/ssh_host_x",
		"/var/log/syslog",
	}
	for _, p := range deep {
		paths = append(paths, example(p))
	}
	for _, n := range stateFiles {
		paths = append(paths, "/var/lib/azp-bootstrap/"+n)
	}
	kinds := []string{"absolute", "dots", "many dots", "through a link", "hard"}
	written := len(paths)
	for _, p := range textFiles {
		paths = append(paths, example(p))
	}
	for n, path := range paths {
		if n == written { // the rest is only read
			kinds = kinds[:1]
		}
		for _, kind := range kinds {
			t.Run(strings.ReplaceAll(path[1:], "/", "_")+" "+kind, func(t *testing.T) {
				t.Parallel()
				i := newImage(t)
				// The host has what the image might have, at the same places.
				for _, n := range append(append([]string{machineID, dbusMachineID, "/var/log/syslog", "/var/log/journal/1/system.journal", unitFolder + "/vsts.agent.a.b.c.service", "/opt/azp-agent/.agent", "/opt/azp-agent/config.sh", "/opt/azp-agent.package/layout.json"}, paths...), "/etc/ssh/ssh_host_y") {
					if fi, err := os.Lstat(
						filepath.Join(i.host, n),
					); err != nil && !slices.ContainsFunc(paths, func(p string) bool { return strings.HasPrefix(p, n+"/") }) ||
						err == nil && fi.Mode().IsRegular() {
						i.putAt(filepath.Join(i.host, n), "builder-7 "+shapedLikeAPAT)
					}
				}
				from, to := filepath.Join(i.root, path), filepath.Join(i.host, path)
				_ = os.RemoveAll(from)
				if err := os.MkdirAll(filepath.Dir(from), 0o755); err != nil {
					t.Fatal(err)
				}
				switch kind {
				case "dots":
					to, _ = filepath.Rel(filepath.Dir(from), to)
				case "many dots":
					to = strings.Repeat("../", 30) + to
				case "through a link":
					i.link(i.host, "elsewhere")
					to = "/elsewhere" + path
				case "hard":
					if err := os.Link(to, from); err != nil {
						t.Skip(err) // a folder
					}
				}
				if kind != "hard" {
					i.link(to, path)
				}
				before := contents(t, i.host)
				w := Where{ConfigFile: "/etc/azp-bootstrap/config.yaml", StateDir: "/var/lib/azp-bootstrap"}
				for _, s := range []Sealing{{Check: true, Deep: true}, {Deep: true, Force: true}} {
					s.Root, s.Say = i.root, func(string, ...any) {}
					found, _ := Seal(i.Context(), w, s) // it may well refuse
					for _, f := range found {
						if !strings.HasPrefix(f.File, i.root) {
							t.Errorf("found outside of the image: %v", f)
						}
					}
				}
				if after := contents(t, i.host); after != before {
					t.Errorf("the host was changed:\n%s\nbefore:\n%s", after, before)
				}
			})
		}
	}
}

// contents of a folder: names, modes, sizes and texts.
func contents(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err == nil {
			b.WriteString(strings.TrimPrefix(name, dir) + " " + fi.Mode().String())
		}
		if err == nil && fi.Mode().IsRegular() {
			text, _ := os.ReadFile(name)
			b.WriteString(" " + string(text))
		}
		b.WriteString("\n")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestSealFollowsLinksInsideTheImage: what the image keeps elsewhere is its own all the same.
func TestSealFollowsLinksInsideTheImage(t *testing.T) {
	i := newImage(t)
	i.link("/etc/ssh.real", "/etc/ssh")
	i.put("/etc/ssh.real/ssh_host_rsa_key", "key")
	i.link("/data/systemd", "/var/lib/systemd")
	i.put("/data/systemd/random-seed", "seed")
	i.link("/data/machine-id", machineID)
	i.put("/data/machine-id", "0123")
	i.link("../data/log", "/var/log")
	i.put("/data/log/syslog", "builder-7")
	i.link("/data/journal", "/data/log/journal")
	i.put("/data/journal/1/system.journal", "x")
	i.link("/usr/lib/units", unitFolder)
	i.put("/usr/lib/units/vsts.agent.a.b.c.service", "x")
	i.link("/data/state", "/var/lib/azp-bootstrap")
	i.put("/data/state/agent.log", "x")
	i.link("/var/lib/cloud/instances/i-1", "/var/lib/cloud/instance") // as cloud-init makes it
	i.put("/var/lib/cloud/instances/i-1/sem", "x")
	// What is behind the link of one file may serve others: it is named.
	i.link("/data/key", "/etc/ssh.real/ssh_host_ed25519_key")
	i.put("/data/key", "key")
	// These lead to no file.
	i.link("nowhere", "/etc/ssh.real/ssh_host_dangling")
	i.link("ssh_host_loop", "/etc/ssh.real/ssh_host_loop")
	i.link("/dev/zero", "/etc/ssh.real/ssh_host_device")
	i.put("/dev/null", "") // no device, but as good
	pipe := filepath.Join(i.root, "/etc/ssh.real/ssh_host_pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	found := i.seal(false)
	for _, gone := range []string{"/etc/ssh.real/ssh_host_rsa_key", "/data/systemd/random-seed", "/data/journal/1/system.journal", "/usr/lib/units/vsts.agent.a.b.c.service", "/data/state/agent.log", "/var/lib/cloud/instance", "/var/lib/cloud/instances/i-1",
		"/etc/ssh.real/ssh_host_dangling", "/etc/ssh.real/ssh_host_loop", "/etc/ssh.real/ssh_host_device", "/etc/ssh.real/ssh_host_pipe"} {
		if i.there(gone) {
			t.Errorf("%s is still there", gone)
		}
	}
	for _, name := range []string{"/data/machine-id", "/data/log/syslog"} {
		if fi, err := os.Stat(filepath.Join(i.root, name)); err != nil || fi.Size() != 0 {
			t.Errorf("%s was not emptied: %v", name, err)
		}
	}
	if f := found["/etc/ssh/ssh_host_ed25519_key"]; !strings.Contains(f.Wrong, "a link to "+i.root+"/data/key") ||
		!i.there("/data/key") {
		t.Errorf("the key behind a link: %+v", f)
	}
}
