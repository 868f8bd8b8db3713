//go:build unix

package agent

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/line"
	"azp-bootstrap/bootstrap/secret"
)

// What config.sh is told, as the agent's listener would read it: only options that have no value
// are arguments, and whatever a value looks like, it is one line of the environment.
func TestOptions(t *testing.T) {
	proxy := func(name, password string) *url.URL {
		return &url.URL{Scheme: "http", Host: "proxy:8080", User: url.UserPassword(name, password)}
	}
	for _, c := range []struct {
		name, args string
		r          Registration
		values     []string
	}{
		{"environment on Services", "--environment --addvirtualmachineresourcetags",
			Registration{Kind: "environment", Project: "My Shop", Name: "production", Tags: []string{"web", "blue"}, URL: "https://dev.azure.com/contoso"},
			[]string{"ENVIRONMENTNAME=production", "PROJECTNAME=My Shop", "VIRTUALMACHINERESOURCETAGS=web,blue"}},
		{"environment on premises", "--environment",
			Registration{Kind: "environment", Project: "Shop", Name: "production", Collection: "DefaultCollection", URL: "https://tfs.corp:8080/tfs"},
			[]string{"COLLECTIONNAME=DefaultCollection", "ENVIRONMENTNAME=production", "PROJECTNAME=Shop"}},
		{"deployment group", "--replace --deploymentgroup --adddeploymentgrouptags",
			Registration{Kind: "deploymentGroup", Project: "Shop", Name: "web-servers", Collection: "C", Tags: []string{"web"}, Replace: true, URL: "https://devops.corp"},
			[]string{"COLLECTIONNAME=C", "DEPLOYMENTGROUPNAME=web-servers", "DEPLOYMENTGROUPTAGS=web", "PROJECTNAME=Shop"}},
		{"pool", "", Registration{Kind: "pool", Name: "Default", Proxy: proxy(`CORP\user`, "p@ss w:rd#"), Trusted: []byte("PEM"), URL: "https://devops.corp/C"},
			[]string{"POOL=Default", "PROXYPASSWORD=p@ss w:rd#", "PROXYURL=http://proxy:8080", `PROXYUSERNAME=CORP\user`, "SSLCACERT=azp-bootstrap-ca.pem"}},
		{"words that look like options", "--environment --addvirtualmachineresourcetags",
			Registration{Kind: "environment", Project: "--replace", Name: "--sslskipcertvalidation", Tags: []string{"--unattended"}, URL: "--url"},
			[]string{"ENVIRONMENTNAME=--sslskipcertvalidation", "PROJECTNAME=--replace", "VIRTUALMACHINERESOURCETAGS=--unattended"}},
	} {
		c.r.AgentName, c.r.Work = "web-1", "_work"
		if got, want := strings.Join(
			c.r.Args(),
			" ",
		), strings.TrimSpace(
			"--unattended --acceptTeeEula "+c.args,
		); got != want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, want)
		}
		want := append([]string{"AGENT=web-1", "AUTH=PAT", "URL=" + c.r.URL, "WORK=_work"}, c.values...)
		slices.Sort(want)
		if got := variables("", c.r.values()); !slices.Equal(got, want) {
			t.Errorf("%s:\n got %q\nwant %q", c.name, got, want)
		}
	}
}

// Whoever gave a word, it stays in its line.
func TestRegistrationRefusesLineBreaks(t *testing.T) {
	good := Registration{
		Kind:       "environment",
		Project:    "Shop",
		Name:       "production",
		Tags:       []string{"web"},
		URL:        "https://dev.azure.com/contoso",
		Collection: "C",
		AgentName:  "web-1",
		Work:       "_work",
		Marks: Marks{
			InstanceID:     "1",
			ScaleSet:       "web",
			SubscriptionID: "2",
			Registered:     "2026-11-26T12:00:00Z",
		},
		Proxy: &url.URL{Scheme: "http", Host: "proxy:1", User: url.UserPassword("u", "p")},
	}
	if err := good.check(); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"a\nVSTS_AGENT_INPUT_REPLACE=true", "a\rb", "a\x00b", "a\u2028b", "a\xff", strings.Repeat("a", line.Longest+1)} {
		for name, set := range map[string]func(r *Registration){
			"project": func(r *Registration) { r.Project = bad }, "target": func(r *Registration) { r.Name = bad }, "tag": func(r *Registration) { r.Tags = []string{"web", bad} },
			"url": func(r *Registration) { r.URL = bad }, "collection": func(r *Registration) { r.Collection = bad }, "agent": func(r *Registration) { r.AgentName = bad },
			"work": func(r *Registration) { r.Work = bad }, "instance": func(r *Registration) { r.InstanceID = bad }, "scale set": func(r *Registration) { r.ScaleSet = bad },
			"subscription": func(r *Registration) { r.SubscriptionID = bad }, "proxy's user": func(r *Registration) { r.Proxy = &url.URL{Host: "p", User: url.UserPassword(bad, "p")} },
			"proxy's password": func(r *Registration) { r.Proxy = &url.URL{Host: "p", User: url.UserPassword("u", "Passw0rd"+bad)} },
		} {
			r := good
			set(&r)
			err := r.check()
			if f := fault.From(
				err,
			); err == nil || f.Class != fault.Config || f.Advice == "" ||
				line.Wrong(f.Error()+f.Advice, 1<<10) != "" {
				t.Errorf("%s %.20q: %v", name, bad, err)
			} else if strings.Contains(
				f.Error()+f.Advice,
				"Passw0rd",
			) {
				t.Errorf("the proxy's password is told: %v", f)
			}
		}
	}
}

func TestServiceName(t *testing.T) {
	long := strings.Repeat("o", 40)
	for _, c := range []struct {
		s    Service
		want string
	}{
		{Service{ServerURL: "https://dev.azure.com/contoso", Agent: "web-1", Group: "Default"}, "vsts.agent.contoso.Default.web-1.service"},
		{Service{ServerURL: "https://dev.azure.com/contoso/", Agent: "web-1", Group: "production"}, "vsts.agent.contoso.production.web-1.service"},
		{Service{ServerURL: "https://contoso.visualstudio.com", Agent: "a b", Group: "P"}, "vsts.agent.contoso.P.a b.service"},
		{Service{ServerURL: "https://tfs.corp:8080/tfs/C", Agent: "web-1", Group: "Default"}, "vsts.agent.tfs.Default.web-1.service"},
		{Service{ServerURL: "https://dev.azure.com/" + long, Agent: strings.Repeat("a", 30), Group: strings.Repeat("p", 30)},
			"vsts.agent." + long[:25] + "." + strings.Repeat("p", 25) + "." + strings.Repeat("a", 9) + ".service"},
	} {
		got, err := c.s.name("vsts.agent.{0}.{1}.{2}.service")
		if err != nil || got != c.want || len(got) > 80 {
			t.Errorf("got %q (%d, %v), want %q (%d)", got, len(got), err, c.want, len(c.want))
		}
	}
	for name, ours := range map[string]bool{"vsts.agent.a.b.c.service": true, `vsts.agent.a.b.c\x2dd.service`: true, "ssh.service": false, "vsts.agent.a\n.service": false, "vsts.agent.\x00.service": false, "-vsts.agent.a.service": false, "vsts.agent." + strings.Repeat("a", 300) + ".service": false, "vsts.agent./../../x.service": false, "vsts.agent.x": false, "": false} {
		if agentService(name) != ours && servicePattern == "vsts.agent.{0}.{1}.{2}.service" {
			t.Errorf("%q: ours is %v", name, !ours)
		}
	}
}

// The texts are those of the agent's strings.json and scripts.
func TestMeanings(t *testing.T) {
	for _, c := range []struct {
		text string
		want fault.Class
		wait bool
		cut  bool
	}{
		{"Must not run with sudo", fault.Agent, false, false},
		{"Dependencies is missing for .NET Core 6.0", fault.Agent, false, false},
		{"Libicu's dependencies missing for .NET 8", fault.Agent, false, false},
		{"Agent pool not found: 'Fast'", fault.Target, false, false},
		{"Deployment Group not found: 'web'", fault.Target, false, false},
		{"Environment not found: 'x'", fault.Target, false, false},
		{"Pool 1 already contains an agent with name web-1.", fault.Target, true, false},
		{"DeploymentGroup 1 already contains a machine with name web-1.", fault.Target, true, false},
		{"Environment with id '1' already contains a virtual machine resource with name 'web-1'.", fault.Target, true, false},
		{"The local machine's clock may be out of sync with the server time by more than five minutes.", fault.Agent, true, false},
		{"VS30063: You are not authorized to access https://dev.azure.com.", fault.Scope, false, false},
		{"Access denied. Agents needs Manage permissions for pool Default to perform the action.", fault.Scope, false, false},
		{"Cannot configure the agent because it is already configured.", fault.Agent, true, false},
		{"Verify whether you have (network) access to https://dev.azure.com/contoso", fault.Network, true, true},
		{"Failed to replace the agent.  Try again or ctrl-c to quit", fault.Agent, true, true},
		{"The SSL connection could not be established, see inner exception.", fault.Network, false, false},
		{"Invalid configuration provided for url. Terminating unattended configuration.", fault.Agent, false, false},
		{"something nobody knows", fault.Agent, false, false},
	} {
		r := Registration{
			Kind:      "pool",
			Name:      "Default",
			URL:       "https://dev.azure.com/contoso",
			AgentName: "web-1",
			ScopeHint: "Give the PAT its scope.",
		}
		o := &outputReader{}
		o.read(">> Connect:")
		if cut := o.read(c.text); cut != c.cut {
			t.Errorf("%q: cut is %v", c.text, cut)
		}
		f := fault.From(o.verdict(r, 1, nil, context.Background()))
		if f.Class != c.want || f.Wait != c.wait || f.Advice == "" || !strings.Contains(f.Error(), c.text[:10]) {
			t.Errorf("%q became %s (%v), wait %v, hint %q", c.text, f, f.Class, f.Wait, f.Advice)
		}
	}
	o := &outputReader{replacing: true}
	o.read("Pool Default already contains an agent with name web-1.")
	if err := o.verdict(Registration{}, 0, nil, context.Background()); err != nil {
		t.Errorf("a replacement that went well became %v", err)
	}
}

// Behind an environment or a deployment group "Pool … already contains" is an agent that a deleted
// resource left; beside the target's own word it says nothing new.
func TestConfigureMeetsTheNameInThePool(t *testing.T) {
	const pool = "Pool environment-3-x already contains an agent with name web-1."
	for _, c := range []struct {
		kind  string
		lines []string
		left  bool
	}{
		{"environment", []string{pool}, true},
		{"deploymentGroup", []string{pool}, true},
		{"pool", []string{pool}, false},
		{"environment", []string{pool, "Environment with id '1' already contains a virtual machine resource with name 'web-1'."}, false},
		{"deploymentGroup", []string{pool, "DeploymentGroup 1 already contains a machine with name web-1."}, false},
	} {
		o := &outputReader{}
		for _, line := range c.lines {
			o.read(line)
		}
		err := o.verdict(Registration{Kind: c.kind, Name: "x", AgentName: "web-1"}, 1, nil, context.Background())
		if f := fault.From(
			err,
		); errors.Is(err, ErrInPool) != c.left || strings.Contains(f.Error(), "a moment ago") == c.left ||
			!f.Wait {
			t.Errorf("%s, %v: %v", c.kind, c.lines, err)
		}
	}
}

type entry struct {
	name, link, text string
	kind             byte
	mode             int64
}

func archive(t testing.TB, entries ...entry) (file, sum string) {
	t.Helper()
	data, err := packed(entries...)
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "vsts-agent-linux-x64-4.248.0.tar.gz")
	if err := os.WriteFile(file, data, 0o644); err != nil {
		t.Fatal(err)
	}
	s := sha256.Sum256(data)
	return file, hex.EncodeToString(s[:])
}

// packed fails for names that Go's own writer does not take: one that ends in a slash and is no
// folder, say.
func packed(entries ...entry) ([]byte, error) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, e := range entries {
		if e.mode == 0 {
			e.mode = 0o755
		}
		if err := w.WriteHeader(
			&tar.Header{Name: e.name, Linkname: e.link, Typeflag: e.kind, Mode: e.mode, Size: int64(len(e.text))},
		); err != nil {
			return nil, err
		}
		if _, err := w.Write([]byte(e.text)); err != nil {
			return nil, err
		}
	}
	err := errors.Join(w.Close(), z.Close())
	return b.Bytes(), err
}

func home(t testing.TB) Home {
	h := Home{Dir: filepath.Join(t.TempDir(), "agent")}
	if os.Geteuid() == 0 {
		h.User = "nobody"
	}
	return h
}

var honest = []entry{
	{name: "./config.sh", text: "#!/bin/sh\n", kind: tar.TypeReg},
	{name: "./bin/", kind: tar.TypeDir},
	{name: "./bin/runsvc.sh", text: "#!/bin/sh\n", kind: tar.TypeReg},
	{name: "./bin/node", link: "runsvc.sh", kind: tar.TypeSymlink},
	{name: "./bin/twin", link: "./config.sh", kind: tar.TypeLink},
	{name: "./suid", text: "x", kind: tar.TypeReg, mode: 0o6777},
	{name: "./open", text: "x", kind: tar.TypeReg, mode: 0o666},
}

func quiet(string, ...any) {}

func laid(h Home, instance string) error {
	m, err := h.lay()
	if err != nil {
		return err
	}
	if _, err := h.hand(m, instance); err != nil {
		return err
	}
	return h.handOver()
}

func TestPrepare(t *testing.T) {
	h := home(t)
	file, sum := archive(t, honest...)
	defer syscall.Umask(syscall.Umask(0)) // what the package says counts, not who unpacks it
	m, err := h.Prepare(file, strings.ToUpper(sum), quiet)
	if err != nil || m.Version != "4.248.0" || m.SHA256 != sum {
		t.Fatalf("got %+v, %v", m, err)
	}
	if fi, err := os.Stat(h.path("open")); err != nil || fi.Mode().Perm() != 0o644 {
		t.Errorf("others may write a file of the package: %v, %v", fi, err)
	}
	if fi, err := os.Stat(h.path("suid")); err != nil || fi.Mode().Perm() != 0o755 || fi.Mode()&os.ModeSetuid != 0 {
		t.Errorf("set-user-ID or others' write survived: %v", fi.Mode())
	}
	if b, err := os.ReadFile(h.path("bin/node")); err != nil || len(b) == 0 {
		t.Errorf("links are lost: %v", err)
	}
	if !h.fresh(sum) {
		t.Error("the folder is not fresh")
	}
	said := ""
	if _, err := h.Prepare(
		file,
		sum,
		func(f string, a ...any) { said += fmt.Sprintf(f, a...) },
	); err != nil ||
		!strings.Contains(said, "in place already") {
		t.Errorf("asked again: %q, %v", said, err)
	}
	// damage between prepare and boot is noticed
	if err := h.setLayout(layout{SHA256: sum}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(h.archive(m), []byte("damaged"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := laid(h, "vm"); err == nil || fault.From(err).Class != fault.Agent {
		t.Errorf("a damaged package was laid: %v", err)
	}
}

// A package that is whole, and not the one that was verified at image time, is not laid: it would
// get the PAT.
func TestASpoiltPackageIsNotLaid(t *testing.T) {
	h := home(t)
	file, sum := archive(t, honest...)
	m, err := h.Prepare(file, sum, quiet)
	if err != nil {
		t.Fatal(err)
	}
	if err := laid(h, "vm"); err != nil {
		t.Fatal(err)
	}
	evil, _ := archive(t, append([]entry{{name: "./evil", text: "x", kind: tar.TypeReg}}, honest...)...)
	data, err := os.ReadFile(evil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(h.archive(m), data, 0o644); err != nil { //nolint:gosec // as it was
		t.Fatal(err)
	}
	if err := laid(h, "vm"); err == nil || !strings.Contains(err.Error(), "is not the package it should be") {
		t.Errorf("it was laid: %v", err)
	}
	if _, err := os.Stat(h.path("evil")); err == nil {
		t.Error("its files are in the agent's folder")
	}
}

// What no agent's package has is not unpacked: a disk is full before its end.
func TestPackagesAreBounded(t *testing.T) {
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close() //nolint:errcheck // nothing pending
	u := &unpacker{root: root, left: 10}
	if err := u.file("a", 0o644, 10, strings.NewReader("0123456789")); err != nil {
		t.Fatal(err)
	}
	if err := u.file("b", 0o644, 1, strings.NewReader("0")); err == nil || !u.refused {
		t.Errorf("a byte more was taken: %v", err)
	}
	u = &unpacker{root: root, entries: maxEntries - 1}
	if _, err := u.inside("c"); err != nil {
		t.Fatal(err)
	}
	if _, err := u.inside("d"); err == nil || !u.refused {
		t.Errorf("a file more was taken: %v", err)
	}
}

// A job may put a pipe in place of a file, and write nothing to it.
func TestAPipeInTheFolderHoldsNothingUp(t *testing.T) {
	h := Home{Dir: t.TempDir()}
	if err := syscall.Mkfifo(h.path(".agent"), 0o666); err != nil {
		t.Skipf("no pipes here: %v", err)
	}
	writer, err := os.OpenFile(h.path(".agent"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close() //nolint:errcheck // nothing was written
	done := make(chan error, 1)
	go func() { _, err := h.Registered(); done <- err }()
	select {
	case err := <-done:
		if err == nil {
			t.Error("a pipe was read")
		}
	case <-time.After(20 * time.Second):
		t.Error("root waits for a pipe")
	}
}

func TestPrepareRefusesForeignFolder(t *testing.T) {
	h := home(t)
	if err := os.MkdirAll(h.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	precious := h.path("precious")
	if err := os.WriteFile(precious, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	file, sum := archive(t, honest...)
	if _, err := h.Prepare(file, sum, quiet); err == nil {
		t.Error("a folder of somebody's was replaced")
	}
	if _, err := os.Stat(precious); err != nil {
		t.Error("the file in it is gone")
	}
}

func TestHostileArchives(t *testing.T) {
	reg := func(name string) entry { return entry{name: name, text: "evil", kind: tar.TypeReg} }
	for name, entries := range map[string][]entry{
		"up":              {reg("../evil")},
		"up inside":       {reg("bin/../../evil")},
		"absolute":        {reg("/tmp/azp-evil")},
		"backslash":       {reg(`..\evil`)},
		"link up":         {{name: "l", link: "../..", kind: tar.TypeSymlink}},
		"link absolute":   {{name: "l", link: "/etc", kind: tar.TypeSymlink}},
		"through a link":  {{name: "bin", link: "..", kind: tar.TypeSymlink}, reg("bin/evil")},
		"chain of links":  {{name: "a", kind: tar.TypeDir}, {name: "a/b", link: "..", kind: tar.TypeSymlink}, {name: "a/b/c", link: "..", kind: tar.TypeSymlink}, reg("c/evil")},
		"hard link out":   {{name: "p", link: "/etc/passwd", kind: tar.TypeLink}},
		"hard link up":    {{name: "p", link: "../../etc/passwd", kind: tar.TypeLink}},
		"device":          {{name: "d", kind: tar.TypeChar}},
		"fifo":            {{name: "f", kind: tar.TypeFifo}},
		"no config.sh":    {reg("readme")},
		"config is a dir": {{name: "config.sh", kind: tar.TypeDir}},
		"config is link":  {{name: "config.sh", link: "x", kind: tar.TypeSymlink}},
	} {
		h := home(t)
		file, sum := archive(t, entries...)
		_, err := h.Prepare(file, sum, quiet)
		if f := fault.From(err); err == nil || f.Class != fault.Agent || f.Advice == "" {
			t.Errorf("%s: got %v", name, err)
		}
		above := filepath.Dir(h.Dir)
		got, _ := filepath.Glob(filepath.Join(above, "*"))
		for _, g := range got {
			if b := filepath.Base(g); b != "agent.package" {
				t.Errorf("%s: left %s", name, b)
			}
		}
	}
	if _, err := os.Stat("/tmp/azp-evil"); err == nil {
		t.Error("an absolute name was written")
	}
}

// The names of a Windows package are refused everywhere: a drive, a stream beside a file, what
// leads out.
func TestHostileZips(t *testing.T) {
	for _, name := range []string{"C:evil", `C:\evil`, "config.sh:evil", "../evil", `..\evil`, "/evil", "good", "bin/good"} {
		var b bytes.Buffer
		w := zip.NewWriter(&b)
		f, err := w.Create(name)
		if err == nil {
			_, err = f.Write([]byte("x"))
		}
		if err := errors.Join(err, w.Close()); err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		file := filepath.Join(dir, "package.zip")
		if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		err = Home{}.unpack(file, filepath.Join(dir, "out"))
		if good := strings.HasSuffix(
			name,
			"good",
		); (err == nil) != good ||
			err != nil && fault.From(err).Class != fault.Agent {
			t.Errorf("%s: %v", name, err)
		}
		if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 2 {
			t.Errorf("%s: left %v", name, left)
		}
	}
}

// The agent's folder is the service user's: a link that a job put there must not be followed.
func TestFolderLinksAreNotFollowed(t *testing.T) {
	h := home(t)
	file, sum := archive(t, honest...)
	if _, err := h.Prepare(file, sum, quiet); err != nil {
		t.Fatal(err)
	}
	victim := filepath.Join(t.TempDir(), "victim")
	if err := os.WriteFile(victim, []byte(`{"agentId":7}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{".service", ".agent", ".env"} {
		if err := os.Symlink(victim, h.path(name)); err != nil {
			t.Fatal(err)
		}
	}
	if id, err := h.Registered(); err == nil {
		t.Errorf("a link was read: %d", id)
	}
	if err := h.put(".service", "x", 0o644); err != nil {
		t.Fatal(err)
	}
	if err := h.Wipe(); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(victim); err != nil || string(b) != `{"agentId":7}` {
		t.Errorf("the file behind the link was touched: %q %v", b, err)
	}
}

func TestRegisteredAndKeptPAT(t *testing.T) {
	h := home(t)
	file, sum := archive(t, honest...)
	if _, err := h.Prepare(file, sum, quiet); err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) {
		if err := os.WriteFile(h.path(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if id, err := h.Registered(); id != 0 || err != nil {
		t.Errorf("not configured: %d %v", id, err)
	}
	for _, text := range []string{`{"agentId":7,"agentName":"a","environmentVMResourceId":3}`, "\xef\xbb\xbf" + `{"AgentId":7,"AgentName":"a","EnvironmentVMResourceId":3}`} {
		write(".agent", text)
		if id, err := h.Registered(); err != nil || id != 7 {
			t.Errorf("%q: %d %v", text, id, err)
		}
	}
	for _, text := range []string{"", "{", `{"agentId":0}`, `[]`, `{"agentId":"x"}`, `{"agentId":-7}`} {
		write(".agent", text)
		if id, err := h.Registered(); err == nil {
			t.Errorf("%q became %d", text, id)
		}
	}
	p, err := secret.NewPAT("opaque-token-1")
	if err != nil {
		t.Fatal(err)
	}
	for text, kept := range map[string]bool{
		`{"scheme":"OAuth","data":{"clientId":"x"}}`:                false,
		"\xef\xbb\xbf" + `{"Scheme":"oauth","Data":{}}`:             false,
		`{"scheme":"PAT","data":{"token":"something"}}`:             true,
		`{"scheme":"OAuth","data":{"refresh":"opaque-token-1"}}`:    true,
		`{"scheme":"Basic","data":{"password":"b3BhcXVlLXRva2Vu"}}`: true,
		`garbage`: true,
	} {
		write(".credentials", text)
		if h.keptPAT(p) != kept {
			t.Errorf("%s: kept is %v", text, !kept)
		}
	}
}

func TestAccountRefusesRoot(t *testing.T) {
	if _, err := account("root"); err == nil {
		t.Error("root was taken")
	}
	if _, err := account("no-such-account-here"); err == nil {
		t.Error("an account that is not there was taken")
	}
	if _, err := account(""); (err == nil) != (os.Geteuid() != 0) {
		t.Errorf("the caller's own account: %v", err)
	}
}

func FuzzUnpack(f *testing.F) {
	file, _ := archive(f, honest...)
	data, err := os.ReadFile(file)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data, "l", "../..", "l/x")
	f.Add(data[:20], "/etc", "x", "..")
	f.Add(data[:20], "a", "b", "c/")
	f.Fuzz(func(t *testing.T, raw []byte, a, b, c string) {
		dir := t.TempDir()
		name := filepath.Join(dir, "raw.tar.gz")
		if err := os.WriteFile(name, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		_ = Home{}.unpack(name, filepath.Join(dir, "one"))
		if made, err := packed(
			entry{name: a, link: b, kind: tar.TypeSymlink},
			entry{name: c, text: "x", kind: tar.TypeReg},
			entry{name: b, link: c, kind: tar.TypeLink},
		); err == nil {
			name := filepath.Join(dir, "made.tar.gz")
			if err := os.WriteFile(name, made, 0o600); err != nil {
				t.Fatal(err)
			}
			_ = Home{}.unpack(name, filepath.Join(dir, "two"))
		}
		left, _ := filepath.Glob(filepath.Join(dir, "*"))
		for _, l := range left {
			if base := filepath.Base(l); !slices.Contains([]string{"raw.tar.gz", "made.tar.gz", "one", "two"}, base) {
				t.Errorf("%q left the folder", base)
			}
		}
	})
}

func FuzzOutput(f *testing.F) {
	f.Add("Pool 1 already contains an agent with name x.", 1)
	f.Add("\x00\xff", -1)
	f.Fuzz(func(t *testing.T, text string, exit int) {
		o := &outputReader{}
		for _, l := range strings.Split(text, "\n") {
			o.read(l)
		}
		err := o.verdict(Registration{Kind: "pool"}, exit, nil, context.Background())
		var own *fault.Error
		if exit != 0 && (!errors.As(err, &own) || own.Advice == "" || len(own.Error()) > 2000) {
			t.Errorf("exit %d became %v", exit, err)
		}
	})
}

// prepare on a VM whose agent is registered must not pull the folder away under it.
func TestPrepareLeavesAnAgentInUseAlone(t *testing.T) {
	h := home(t)
	file, sum := archive(t, honest...)
	if _, err := h.Prepare(file, sum, quiet); err != nil {
		t.Fatal(err)
	}
	if err := laid(h, "vm-1"); err != nil {
		t.Fatal(err)
	}
	if err := h.put(".agent", `{"agentId":7}`, 0o644); err != nil {
		t.Fatal(err)
	}
	said := ""
	if _, err := h.Prepare(
		file,
		sum,
		func(f string, a ...any) { said += fmt.Sprintf(f, a...) },
	); err != nil ||
		!strings.Contains(said, "in place already") {
		t.Errorf("the same package: %q, %v", said, err)
	}
	newer, newSum := archive(t, append([]entry{{name: "./news", text: "new", kind: tar.TypeReg}}, honest...)...)
	if _, err := h.Prepare(newer, newSum, quiet); err != nil {
		t.Fatal(err)
	}
	if id, err := h.Registered(); err != nil || id != 7 || h.LaidFor() != "vm-1" {
		t.Errorf("the registration is gone: %d, %v", id, err)
	}
	if err := laid(h, "vm-1"); err != nil { // the next registration
		t.Fatal(err)
	}
	if _, err := os.Stat(h.path("news")); err != nil {
		t.Errorf("the next registration does not use the newer package: %v", err)
	}
	kept, _ := filepath.Glob(filepath.Join(h.keep(), "*.tar.gz"))
	if len(kept) != 1 {
		t.Errorf("kept: %v", kept)
	}
}

// TestOthersFilesBesideThePackageStay: the folder is named by people, and may have been theirs
// before.
func TestOthersFilesBesideThePackageStay(t *testing.T) {
	h := home(t)
	others := []string{
		h.keep() + "/.bashrc",
		h.keep() + "/.ssh/key",
		h.keep() + "/notes",
		h.keep() + "/0123456789abcdef-folder/x",
		h.Dir + ".new/precious",
	}
	ours := []string{
		h.keep() + "/.layout.json1234567890123456789",
		h.keep() + "/.azp-bootstrap-scratch-1",
		h.keep() + "/0123456789abcdef-old.tar.gz",
		h.keep() + "/new/half",
	}
	for _, name := range append(ours, others...) {
		if err := errors.Join(
			os.MkdirAll(filepath.Dir(name), 0o755),
			os.WriteFile(name, []byte("x"), 0o644),
		); err != nil {
			t.Fatal(err)
		}
	}
	file, sum := archive(t, honest...)
	if _, err := h.Prepare(file, sum, quiet); err != nil {
		t.Fatal(err)
	}
	if err := laid(h, "vm"); err != nil {
		t.Fatal(err)
	}
	if err := laid(h, "vm"); err != nil { // from the package anew
		t.Fatal(err)
	}
	for _, name := range others {
		if _, err := os.Stat(name); err != nil {
			t.Errorf("%s was removed", name)
		}
	}
	for _, name := range ours {
		if _, err := os.Stat(name); err == nil {
			t.Errorf("%s is still there", name)
		}
	}
}

// What config.sh's last words come to, by the words of .NET, of the server and of shells.
func TestConfigsWords(t *testing.T) {
	for words, c := range map[string]struct {
		class   fault.Class
		passing bool
		unknown bool
	}{
		"TF400898: An Internal Error Occurred. Activity Id: 3c-1":                              {fault.Network, true, false},
		"Name or service not known (dev.azure.com:443)":                                        {fault.Network, true, false},
		"Resource temporarily unavailable (dev.azure.com:443)":                                 {fault.Network, true, false},
		"Response status code does not indicate success: 503 (Service Unavailable).":           {fault.Network, true, false},
		"Unable to read data from the transport connection: Connection reset by peer.":         {fault.Network, true, false},
		"The SSL connection could not be established. Unable to read data from the transport":  {fault.Network, false, false},
		"VS30063: You are not authorized to access https://dev.azure.com. Service Unavailable": {fault.Scope, false, false},
		"Agent pool not found: 'Default'":                                                      {fault.Target, false, false},
		"Something that nobody has ever seen":                                                  {fault.Agent, false, true},
	} {
		o := &outputReader{}
		o.read(words)
		f := fault.From(o.verdict(Registration{Kind: "pool"}, 1, nil, t.Context()))
		if f.Class != c.class || f.Wait != c.passing || (f.Subject == OfWords) != c.unknown || !strings.Contains(f.Error(), words[:20]) {
			t.Errorf("%s: %+v", words, f)
		}
	}
}
