package agent

import (
	"archive/tar"
	"cmp"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // what the server uses
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"math/big"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"azp-bootstrap/bootstrap/fault"
)

var enrolled = Enrolment{
	ID: 7, ResourceID: 71, TargetID: 3, PoolID: 30, PoolName: "a pool", ProjectID: "p-1",
	ClientID: "c-1", AuthURL: "https://vstoken.dev.azure.com/oauth2/1",
}

func newcomer(kind string) Registration {
	r := Registration{
		Kind: kind, Name: "production", Project: "Shop", URL: "https://dev.azure.com/contoso", AgentName: "web-1", Work: "_work",
		Marks: Marks{InstanceID: "vm-1", Registered: "now"}, Capabilities: []string{"role=web"},
	}
	if kind == "pool" {
		r.Project = ""
	}
	return r
}

// preparedHome is a package in place.
func preparedHome(t *testing.T) Home {
	t.Helper()
	h := home(t)
	reached(filepath.Dir(h.Dir))
	file, sum := archive(t, entry{name: "./config.sh", kind: tar.TypeReg, text: "#!/bin/sh\ntouch \"$0.was-run\"\n"})
	if _, err := h.Prepare(file, sum, quiet); err != nil {
		t.Fatal(err)
	}
	return h
}

func readJSON(t *testing.T, h Home, name string) map[string]any {
	t.Helper()
	data, err := h.read(name)
	if err != nil {
		t.Fatal(err)
	}
	text, marked := strings.CutPrefix(string(data), byteOrderMark)
	var all map[string]any
	if err := json.Unmarshal([]byte(text), &all); err != nil || !marked {
		t.Fatalf("%s: marked %v, %v: %s", name, marked, err, data)
	}
	return all
}

// What stands in .agent and .credentials is what config.sh leaves for each kind of target, on
// Services and on premises.
func TestEnrolLeavesWhatConfigLeaves(t *testing.T) {
	onPremises := enrolled
	onPremises.OnPremises, onPremises.AuthURL = true, "https://internal:8443/tfs/_apis/oauth2/token"
	told := onPremises
	told.ServerURL = "https://internal:8443/tfs/Mine/"
	loud := enrolled
	loud.AuthURL = "https://VSTOKEN.dev.azure.com:443/oauth2/1"
	common := map[string]any{"acceptTeeEula": true, "agentId": 7.0, "agentName": "web-1", "poolId": 30.0, "workFolder": "_work"}
	for name, c := range map[string]struct {
		change   func(r *Registration)
		kind     string
		made     Enrolment
		want     map[string]any
		endpoint string
		audience string // "" = as the server says
	}{
		"a pool": {nil, "pool", enrolled, map[string]any{"poolName": "a pool", "serverUrl": "https://dev.azure.com/contoso"},
			"https://vstoken.dev.azure.com/oauth2/1", ""},
		"a token service in capitals": {nil, "pool", loud, map[string]any{"poolName": "a pool", "serverUrl": "https://dev.azure.com/contoso"},
			"https://vstoken.dev.azure.com/oauth2/1", "https://vstoken.dev.azure.com/oauth2/1"},
		"an environment": {nil, "environment", enrolled, map[string]any{
			"serverUrl": "https://dev.azure.com/contoso", "environmentId": 3.0, "environmentName": "production",
			"environmentVMResourceId": 71.0, "projectId": "p-1", "projectName": "Shop"}, "https://vstoken.dev.azure.com/oauth2/1", ""},
		"a deployment group of a server": {func(r *Registration) { r.URL, r.Collection = "https://tfs.corp:8080/tfs", "Mine" }, "deploymentGroup",
			onPremises, map[string]any{"serverUrl": "https://tfs.corp:8080/tfs", "collectionName": "Mine", "poolName": "a pool",
				"deploymentGroupId": 3.0, "projectId": "p-1"}, "https://tfs.corp:8080/tfs/_apis/oauth2/token", ""},
		"a server that says where it is": {func(r *Registration) { r.URL = "https://tfs.corp:8080/tfs" }, "pool", told,
			map[string]any{"serverUrl": "https://tfs.corp:8080/tfs/Mine/", "poolName": "a pool"},
			"https://tfs.corp:8080/tfs/_apis/oauth2/token", ""},
	} {
		t.Run(name, func(t *testing.T) {
			h, r := preparedHome(t), newcomer(c.kind)
			if c.change != nil {
				c.change(&r)
			}
			id, err := h.Enrol(t.Context(), r, func(_ context.Context, n Newcomer) (Enrolment, error) {
				shows := n.Capabilities
				if n.Version != "4.248.0" || n.OSDescription == "" || shows["AZP_BOOTSTRAP_INSTANCE_ID"] != "vm-1" ||
					shows["AZP_BOOTSTRAP_REGISTERED"] != "now" || shows["role"] != "web" || shows["Agent.Name"] != "web-1" {
					t.Errorf("the server is told %+v", n)
				}
				return c.made, nil
			})
			if err != nil || id != 7 {
				t.Fatal(id, err)
			}
			want := maps.Clone(common)
			maps.Copy(want, c.want)
			if got := readJSON(t, h, ".agent"); !maps.Equal(got, want) {
				t.Errorf(".agent is %v\nwant %v", got, want)
			}
			credentials := readJSON(t, h, ".credentials")
			data, _ := credentials["data"].(map[string]any)
			if credentials["scheme"] != "OAuth" || !maps.Equal(data, map[string]any{
				"clientId": "c-1", "authorizationUrl": cmp.Or(c.audience, c.made.AuthURL), "oauthEndpointUrl": c.endpoint}) {
				t.Errorf(".credentials is %v", credentials)
			}
			if id, err := h.Registered(); id != 7 || err != nil || h.LaidFor() != "vm-1" {
				t.Errorf("%d, %v, laid for %q", id, err, h.LaidFor())
			}
			path, _ := h.read(".path")
			if !strings.HasPrefix(string(path), "/") || !strings.HasSuffix(string(path), "/bin\n") && !strings.Contains(string(path), ":") {
				t.Errorf(".path is %q", path)
			}
			if _, err := os.Lstat(h.path("config.sh.was-run")); err == nil {
				t.Error("config.sh was run")
			}
			allOwn(t, h)
		})
	}
}

// Addresses are written as .NET's Uri.AbsoluteUri does.
func TestAbsolute(t *testing.T) {
	for address, want := range map[string]string{
		"https://vstoken.dev.azure.com/oauth2/1": "https://vstoken.dev.azure.com/oauth2/1",
		"HTTPS://TFS-01:443/tfs/_apis/Oauth2 b":  "https://tfs-01/tfs/_apis/Oauth2%20b",
		"http://TFS-01:80":                       "http://tfs-01/",
		"https://tfs-01:80/a?b=C":                "https://tfs-01:80/a?b=C",
		"https://[::1]:443/a":                    "https://[::1]/a",
		"https://[::1]/a":                        "https://[::1]/a",
		"none":                                   "none",
	} {
		if got := absolute(address); got != want {
			t.Errorf("%s: %s, want %s", address, got, want)
		}
	}
}

// allOwn looks whether all is the service user's, and the key nobody else's to read.
func allOwn(t *testing.T, h Home) {
	t.Helper()
	u, err := account(h.User)
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := ids(u)
	modes := map[string]fs.FileMode{".credentials_rsaparams": 0o600, ".credential_store": 0o600}
	err = filepath.WalkDir(h.Dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		if st, ok := fi.Sys().(*syscall.Stat_t); ok && int(st.Uid) != uid {
			t.Errorf("%s is %d's", name, st.Uid)
		}
		if want, known := modes[d.Name()]; known && fi.Mode().Perm() != want {
			t.Errorf("%s has the mode %o", name, fi.Mode().Perm())
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// A proxy's password and certificates of one's own are where the agent looks for them.
func TestEnrolHandsOnProxyAndCertificates(t *testing.T) {
	h, r := preparedHome(t), newcomer("pool")
	r.Proxy = &url.URL{Scheme: "http", Host: "proxy.corp:3128", User: url.UserPassword("agents", "Sesame1")}
	r.Trusted = []byte("OWN")
	if _, err := h.Enrol(t.Context(), r, func(context.Context, Newcomer) (Enrolment, error) { return enrolled, nil }); err != nil {
		t.Fatal(err)
	}
	if text, _ := h.read(".proxy"); string(text) != "http://proxy.corp:3128" {
		t.Errorf(".proxy is %q", text)
	}
	key, _ := h.read(".proxycredentials")
	store := readJSON(t, h, ".credential_store")
	kept, _ := store["VSTS_AGENT_PROXY_"+string(key)].(map[string]any)
	hidden, err := storedPassword("Sesame1", machineID())
	if err != nil || len(key) != 36 || kept["userName"] != "agents" || kept["password"] != hidden {
		t.Errorf("%q: %v, %v", key, store, err)
	}
	if got := readJSON(t, h, ".certificates"); got["caCert"] != h.path(caBundle) || got["skipServerCertValidation"] != false {
		t.Errorf(".certificates is %v", got)
	}
	allOwn(t, h)
	if err := h.Wipe(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{".agent", ".credentials", ".credentials_rsaparams", ".proxycredentials", ".credential_store"} {
		if _, err := os.Lstat(h.path(name)); err == nil {
			t.Errorf("%s is still there", name)
		}
	}
}

// The agent's store is AES-256 in CBC mode with the machine's ID for a key: this is what openssl makes of it (openssl enc
// -aes-256-cbc -K 3031… -iv 36643733363637343736373337343733).
func TestStoredPassword(t *testing.T) {
	if got, err := storedPassword("Sesame1", "0123456789abcdef0123456789abcdef"); got != "vhGHjUS+GycI8320Ysaucg==" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

// Numbers keep their leading zeros: .NET refuses others.
func TestKeysHaveTheirFullLength(t *testing.T) {
	small := big.NewInt(5)
	k := &rsa.PrivateKey{PublicKey: rsa.PublicKey{N: small, E: 65537}, D: small, Primes: []*big.Int{small, small}}
	k.Precomputed = rsa.PrecomputedValues{Dp: small, Dq: small, Qinv: small}
	f := keyFileOf(k)
	for name, c := range map[string]struct {
		number []byte
		length int
	}{
		"d": {f.D, 256}, "modulus": {f.Modulus, 256}, "p": {f.P, 128}, "q": {f.Q, 128}, "dp": {f.DP, 128}, "dq": {f.DQ, 128},
		"inverseQ": {f.InverseQ, 128}, "exponent": {f.Exponent, 3},
	} {
		if len(c.number) != c.length {
			t.Errorf("%s has %d bytes", name, len(c.number))
		}
	}
}

// A folder is whole only when all is done: cut off anywhere, it has no .agent, and what was left of a try before is laid anew.
func TestEnrolThatIsCutOff(t *testing.T) {
	h, r := preparedHome(t), newcomer("pool")
	away := errors.New("the server is away")
	for range 2 {
		_, err := h.Enrol(t.Context(), r, func(context.Context, Newcomer) (Enrolment, error) {
			for _, name := range []string{".credentials_rsaparams", ".credentials", ".agent"} {
				if _, err := os.Lstat(h.path(name)); err == nil {
					t.Errorf("%s is there before the server has answered", name)
				}
			}
			if err := os.WriteFile(h.path("left"), []byte("x"), 0o600); err != nil {
				t.Error(err)
			}
			return Enrolment{}, away
		})
		if !errors.Is(err, away) {
			t.Error(err)
		}
		if id, err := h.Registered(); id != 0 || err != nil {
			t.Errorf("registered: %d, %v", id, err)
		}
	}
	if _, err := h.Enrol(t.Context(), r, func(context.Context, Newcomer) (Enrolment, error) { return enrolled, nil }); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(h.path("left")); err == nil {
		t.Error("the folder was not laid anew")
	}
	without := enrolled
	without.ClientID = ""
	if _, err := h.Enrol(t.Context(), r, func(context.Context, Newcomer) (Enrolment, error) { return without, nil }); err == nil {
		t.Error("it was registered without a token service")
	}
	if id, err := h.Registered(); id != 0 || err != nil {
		t.Errorf("registered: %d, %v", id, err)
	}
}

// A link that stands in place of a file is replaced, not followed: config.sh's package brought it, or a job did.
func TestEnrolFollowsNoLink(t *testing.T) {
	h, r := preparedHome(t), newcomer("pool")
	target := filepath.Join(t.TempDir(), "target")
	if err := os.WriteFile(target, []byte("roots"), 0o600); err != nil {
		t.Fatal(err)
	}
	names := []string{".credentials_rsaparams", ".credentials", ".agent", ".path"}
	if _, err := h.Enrol(t.Context(), r, func(context.Context, Newcomer) (Enrolment, error) {
		for _, name := range names {
			if err := os.Symlink(target, h.path(name)); err != nil {
				t.Error(err)
			}
		}
		return enrolled, nil
	}); err != nil {
		t.Fatal(err)
	}
	if data, _ := os.ReadFile(target); string(data) != "roots" {
		t.Errorf("root wrote %q through a link", data)
	}
	for _, name := range names {
		if fi, err := os.Lstat(h.path(name)); err != nil || !fi.Mode().IsRegular() {
			t.Errorf("%s: %v, %v", name, fi, err)
		}
	}
}

func TestAPackageWithoutAVersion(t *testing.T) {
	h := preparedHome(t)
	m, err := h.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	m.Version = ""
	if err := h.Record(m); err != nil {
		t.Fatal(err)
	}
	_, err = h.Enrol(t.Context(), newcomer("pool"), func(context.Context, Newcomer) (Enrolment, error) {
		t.Error("the server was asked")
		return enrolled, nil
	})
	if f := fault.From(err); f == nil || f.Subject != OfPackage {
		t.Error(err)
	}
}

// Node reads the key from its members and signs with it, and what is encrypted with the public key it decrypts: somebody else's
// reading of the numbers.
func TestNodeUsesTheKey(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("no node: somebody else's reading of the key was not tried")
	}
	h := preparedHome(t)
	var told PublicKey
	if _, err := h.Enrol(t.Context(), newcomer("pool"), func(_ context.Context, n Newcomer) (Enrolment, error) {
		told = n.Key
		return enrolled, nil
	}); err != nil {
		t.Fatal(err)
	}
	n, err := base64.StdEncoding.DecodeString(told.Modulus)
	e, err2 := base64.StdEncoding.DecodeString(told.Exponent)
	if err != nil || err2 != nil || len(n) != 256 || !slices.Equal(e, []byte{1, 0, 1}) {
		t.Fatal(told, err, err2)
	}
	public := &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}
	sealed, err := rsa.EncryptOAEP(sha1.New(), // as the server does (MessageListener.cs)
		rand.Reader, public, []byte("a session's key"), nil)
	if err != nil {
		t.Fatal(err)
	}
	const script = `
const fs = require('fs'), crypto = require('crypto');
const p = JSON.parse(fs.readFileSync(process.argv[1], 'utf8').replace(/^\uFEFF/, ''));
const u = s => Buffer.from(s, 'base64').toString('base64url');
const key = crypto.createPrivateKey({format: 'jwk', key: {kty: 'RSA', n: u(p.modulus), e: u(p.exponent), d: u(p.d), p: u(p.p),
  q: u(p.q), dp: u(p.dp), dq: u(p.dq), qi: u(p.inverseQ)}});
const signature = crypto.sign('sha256', Buffer.from('hello'), key).toString('base64');
const opened = crypto.privateDecrypt({key, padding: crypto.constants.RSA_PKCS1_OAEP_PADDING, oaepHash: 'sha1'},
  Buffer.from(process.argv[2], 'base64')).toString();
console.log(JSON.stringify({signature, opened, names: Object.keys(p).sort(), cng: p.UseCng, container: p.ContainerName}));`
	out, err := exec.Command(node, "-e", script, h.path(".credentials_rsaparams"), base64.StdEncoding.EncodeToString(sealed)).CombinedOutput()
	var said struct {
		Signature, Opened string
		Names             []string
		Cng               bool
		Container         string
	}
	if err != nil || json.Unmarshal(out, &said) != nil {
		t.Fatalf("%v: %s", err, out)
	}
	signature, err := base64.StdEncoding.DecodeString(said.Signature)
	sum := sha256.Sum256([]byte("hello"))
	if err != nil || rsa.VerifyPKCS1v15(public, crypto.SHA256, sum[:], signature) != nil {
		t.Errorf("the signature is not the key's: %v", err)
	}
	want := []string{"ContainerName", "UseCng", "d", "dp", "dq", "exponent", "inverseQ", "modulus", "p", "q"}
	if said.Opened != "a session's key" || !slices.Equal(said.Names, want) || said.Cng || said.Container != "" {
		t.Errorf("node read %+v", said)
	}
}
