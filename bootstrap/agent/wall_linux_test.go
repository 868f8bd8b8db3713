package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"azp-bootstrap/bootstrap/tree"
)

func TestTheRulesOfTheWall(t *testing.T) {
	w := wall{
		accounts: []span{{997, 997}, {100000, 165535}},
		imds: []netip.AddrPort{
			netip.AddrPortFrom(metadataService, 0), netip.MustParseAddrPort("127.0.0.1:8080"), netip.MustParseAddrPort("[fe80::1]:0"),
		},
	}
	const want = "add table inet azp_bootstrap; delete table inet azp_bootstrap; table inet azp_bootstrap { chain jobs {" +
		" ip daddr 169.254.169.254 reject with icmpx type admin-prohibited;" +
		" ip daddr 127.0.0.1 tcp dport 8080 reject with icmpx type admin-prohibited;" +
		" ip6 daddr fe80::1 reject with icmpx type admin-prohibited;" +
		" ip daddr 168.63.129.16 tcp dport { 80, 32526 } tcp flags & (fin | syn | rst | ack) == syn" +
		" reject with icmpx type admin-prohibited; };" +
		" chain asked { type filter hook output priority -300; meta skuid { 997, 100000-165535 } jump jobs;" +
		" meta skuid != 4294967295 return; tcp flags & (fin | syn | rst | ack) == syn jump jobs; };" +
		" chain rewritten { type filter hook output priority 0; meta skuid { 997, 100000-165535 } jump jobs;" +
		" meta skuid != 4294967295 return; tcp flags & (fin | syn | rst | ack) == syn jump jobs; }; }"
	if got := w.rules(); got != want {
		t.Errorf("%s", got)
	}
	if strings.ContainsAny(want, `"\%$'`) {
		t.Error("the rules hold what systemd does not take as it is")
	}
}

func TestTheUnitOfTheWall(t *testing.T) {
	text := wallUnit("/usr/sbin/nft", "RULES")
	for line, why := range map[string]string{
		`ExecStart=/usr/sbin/nft "RULES"`:                          "it loads the wall",
		`ExecReload=/usr/sbin/nft "RULES"`:                         "a reload leaves no gap",
		"RemainAfterExit=yes":                                      "else a reload is none",
		"CapabilityBoundingSet=CAP_NET_ADMIN":                      "it is what nft needs, and no more",
		"NoNewPrivileges=yes":                                      "nor gets",
		"DefaultDependencies=no":                                   "it comes before all that the account left behind to be started",
		"Before=network-pre.target sysinit.target shutdown.target": "and before the network",
		"WantedBy=sysinit.target":                                  "in each boot",
		"After=local-fs.target nftables.service":                   "Debian's empties the packet filter when it starts",
		"PartOf=nftables.service":                                  "and when it is restarted",
		"ReloadPropagatedFrom=nftables.service":                    "and when it is reloaded",
	} {
		if strings.Count("\n"+text, "\n"+line+"\n") != 1 {
			t.Errorf("the unit does not say %s: %s", line, why)
		}
	}
	if strings.Contains(text, "ExecStop=") {
		t.Error("at a shutdown the account's processes may outlive the wall")
	}
	for _, line := range []string{"Wants=" + MetadataUnit, "After=" + MetadataUnit, "IPAddressDeny=169.254.169.254"} {
		if !strings.Contains(secondWall, line+"\n") {
			t.Errorf("the second wall does not say %s", line)
		}
	}
	if strings.Contains(secondWall, "Requires=") {
		t.Error("the agent would not start without nft")
	}
}

func TestWhomTheWallStandsAround(t *testing.T) {
	const text = "# people\nazp:100000:65536\nother:200000:65536\n997:165536:10\nazp:x:1\nazp:0:70000\nazp:4294967290:100\n azp:300000:1 \n"
	got := merged(append(subordinate(text, "azp", "997"), span{997, 997}, span{998, 998}))
	want := []span{{997, 998}, {100000, 165545}, {300000, 300000}, {4294967290, 4294967294}}
	if !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
	for endpoint, want := range map[string]string{
		"http://169.254.169.254": "169.254.169.254:80", "http://127.0.0.1:8080": "127.0.0.1:8080",
		"http://localhost:1": "127.0.0.1:1", "http://[fe80::1]": "[fe80::1]:80", "http://[::ffff:169.254.169.254]": "169.254.169.254:80",
		"http://name": "", ":": "",
	} {
		at, ok := addressOf(endpoint)
		if ok != (want != "") || ok && at.String() != want {
			t.Errorf("%s: %v, %v", endpoint, at, ok)
		}
	}
	h := Home{User: "nobody"}
	if os.Geteuid() != 0 {
		return
	}
	for endpoint, want := range map[string]string{
		"http://169.254.169.254":     "[169.254.169.254:0]",
		"http://127.0.0.1:8080":      "[169.254.169.254:0 127.0.0.1:8080]",
		"http://169.254.169.9:8080/": "[169.254.169.254:0 169.254.169.9:0]",
	} {
		if w, err := h.wallFor(endpoint); err != nil || fmt.Sprint(w.imds) != want || len(w.accounts) == 0 {
			t.Errorf("%s: %v, %v", endpoint, w, err)
		}
	}
}

func TestNFTIsFoundInAnImage(t *testing.T) {
	dir := t.TempDir()
	image, err := tree.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close() //nolint:errcheck // a test's
	if got := NFT(image); got != "" {
		t.Errorf("found %s in nothing", got)
	}
	if err := errors.Join(
		os.MkdirAll(filepath.Join(dir, "usr/sbin"), 0o755),
		os.WriteFile(filepath.Join(dir, "usr/sbin/nft"), nil, 0o755), //nolint:gosec // a program
	); err != nil {
		t.Fatal(err)
	}
	if got := NFT(image); got != "/usr/sbin/nft" {
		t.Errorf("%q", got)
	}
}

// Sealing removes the wall's unit, its link and the second wall, and leaves what an operator has put beside.
func TestSealRemovesTheWall(t *testing.T) {
	dir := t.TempDir()
	image, err := tree.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close() //nolint:errcheck // a test's
	for _, name := range []string{
		MetadataUnit, "sysinit.target.wants/" + MetadataUnit, "vsts.agent.a.b.c.service", "ssh.service", "ssh.service.d/a.conf",
		"vsts.agent.a.b.c.service.d/" + secondWallName, "vsts.agent.a.b.d.service.d/" + secondWallName, "vsts.agent.a.b.d.service.d/a.conf",
	} {
		file := filepath.Join(dir, unitFolder, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if err := RemoveUnits(image, image.Name(unitFolder)); err != nil {
		t.Fatal(err)
	}
	var left []string
	_ = filepath.WalkDir(filepath.Join(dir, unitFolder), func(name string, _ os.DirEntry, _ error) error {
		left = append(left, strings.TrimPrefix(name, filepath.Join(dir, unitFolder)))
		return nil
	})
	want := []string{"", "/ssh.service", "/ssh.service.d", "/ssh.service.d/a.conf", "/sysinit.target.wants",
		"/vsts.agent.a.b.d.service.d", "/vsts.agent.a.b.d.service.d/a.conf"}
	if !slices.Equal(left, want) {
		t.Errorf("%q", left)
	}
}

// inNetwork runs a test in a network of its own, where Azure's addresses are this machine's: in another process, for
// which it returns true.
func inNetwork(t *testing.T) bool {
	t.Helper()
	if os.Getenv("IN_A_NETWORK_OF_ITS_OWN") != "" {
		for _, argv := range []string{
			"link set lo up", "addr add 169.254.169.254/32 dev lo", "addr add 168.63.129.16/32 dev lo", "addr add 10.1.2.3/32 dev lo",
		} {
			if out, err := exec.Command("ip", strings.Fields(argv)...).CombinedOutput(); err != nil { //nolint:gosec // a test's
				t.Fatalf("ip %s: %s", argv, out)
			}
		}
		return true
	}
	_, noIP := exec.LookPath("ip")
	if os.Geteuid() != 0 || NFT(tree.Tree{}) == "" || noIP != nil || exec.Command("unshare", "-n", "true").Run() != nil {
		t.Skip("needs root, nft and a network of its own")
	}
	c := exec.Command("unshare", "-n", os.Args[0], "-test.run=^"+t.Name()+"$", "-test.timeout=60s") //nolint:gosec // itself
	c.Env = append(os.Environ(), "IN_A_NETWORK_OF_ITS_OWN=1")
	if out, err := c.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	return false
}

// listen answers at an address with whom it heard.
func listen(t *testing.T, address string) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Error(err)
		return
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.Close()
		}
	}()
}

// nft loads rules as the wall's unit does.
func nft(t *testing.T, rules string) {
	t.Helper()
	if out, err := exec.Command(NFT(tree.Tree{}), rules).CombinedOutput(); err != nil { //nolint:gosec // a test's
		t.Errorf("%v: %s", err, out)
	}
}

// asProcess lets a process of an account connect, and says what became of that.
func asProcess(t *testing.T, uid uint32, hosts ...string) string {
	t.Helper()
	const script = `for at; do
	if why=$( (exec 3<>/dev/tcp/${at%@*}/${at#*@}) 2>&1); then echo "$at open"; else echo "$at ${why##*: }"; fi &
done
wait`
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c := exec.CommandContext(ctx, "bash", append([]string{"-c", script, "bash"}, hosts...)...) //nolint:gosec // a test's
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	c.Dir = "/"
	out, err := c.CombinedOutput()
	if err != nil {
		t.Error(err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// In a real packet filter: processes of the account, and of the numbers that it may give to others, reach neither
// service; everything else goes on.
func TestTheWallHolds(t *testing.T) {
	if !inNetwork(t) {
		return
	}
	for _, at := range []string{"169.254.169.254:80", "168.63.129.16:80", "168.63.129.16:32526", "168.63.129.16:53", "10.1.2.3:80"} {
		listen(t, at)
	}
	// A firewall that lets everything out is not in the way.
	nft(t, "table inet other { chain o { type filter hook output priority -400; accept; }; }")
	w := wall{accounts: []span{{61100, 61100}, {61150, 61160}}, imds: []netip.AddrPort{netip.AddrPortFrom(metadataService, 0)}}
	shut := []string{"169.254.169.254@80", "::ffff:169.254.169.254@80", "168.63.129.16@80", "168.63.129.16@32526"}
	stays := []string{"168.63.129.16@53", "10.1.2.3@80"}
	expect := func(when string, uid uint32, closed bool) {
		t.Helper()
		var want []string
		for _, at := range shut {
			want = append(want, at+map[bool]string{true: " No route to host", false: " open"}[closed])
		}
		for _, at := range stays {
			want = append(want, at+" open")
		}
		slices.Sort(want)
		if got := asProcess(t, uid, slices.Concat(shut, stays)...); got != strings.Join(want, "\n") {
			t.Errorf("%s, %d: %s", when, uid, got)
		}
	}
	expect("before", 61100, false)
	nft(t, w.rules())
	for _, uid := range []uint32{61100, 61150, 61155} {
		began := time.Now()
		expect("walled", uid, true)
		if took := time.Since(began); took > 5*time.Second { // one second: the kernel hears of it when it asks again
			t.Errorf("a job waits: %s", took)
		}
	}
	for _, uid := range []uint32{0, 61099, 61101, 61161} {
		expect("others", uid, false)
	}
	nft(t, w.rules()) // loaded again it is one wall
	expect("again", 61100, true)
	out, err := exec.Command(NFT(tree.Tree{}), "list", "tables").Output() //nolint:gosec // a test's
	if err != nil || string(out) != "table inet other\ntable inet azp_bootstrap\n" {
		t.Errorf("%q, %v", out, err)
	}
	// Root leads an address to the metadata service: the way there is shut as well.
	nft(t, "table ip led { chain o { type nat hook output priority -100; ip daddr 10.9.9.9 dnat to 169.254.169.254; }; }")
	route := exec.Command("ip", "route", "add", "10.9.9.9/32", "dev", "lo")
	if err := route.Run(); err != nil {
		t.Error(err)
	}
	if got := asProcess(t, 0, "10.9.9.9@80"); got != "10.9.9.9@80 open" {
		t.Error(got)
	}
	if got := asProcess(t, 61100, "10.9.9.9@80"); got != "10.9.9.9@80 No route to host" {
		t.Error(got)
	}
	nft(t, noTable)
	nft(t, noTable) // which is gone already
	expect("afterwards", 61100, false)
}

// A connection that the kernel begins for a job has no owner: here another path of Multipath TCP, to an address that the
// other side names.
func TestTheWallHoldsWhatHasNoOwner(t *testing.T) {
	if !inNetwork(t) {
		return
	}
	for _, argv := range []string{"limits set subflow 4 add_addr_accepted 4", "endpoint add 169.254.169.254 signal"} {
		if out, err := exec.Command("ip", append([]string{"mptcp"}, strings.Fields(argv)...)...).CombinedOutput(); err != nil { //nolint:gosec // a test's
			t.Skipf("needs Multipath TCP: %s: %s", argv, out)
		}
	}
	var c net.ListenConfig
	c.SetMultipathTCP(true)
	l, err := c.Listen(t.Context(), "tcp4", "0.0.0.0:8080")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // a test's
	// begun and come are how many paths of how many connections the other side has asked for, and seen.
	begun, come := 0, 0
	tries := func() {
		t.Helper()
		d := net.Dialer{Timeout: 5 * time.Second}
		d.SetMultipathTCP(true)
		to, err := d.DialContext(t.Context(), "tcp4", "10.1.2.3:8080")
		if err != nil {
			t.Fatal(err)
		}
		defer to.Close() //nolint:errcheck // a test's
		from, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer from.Close() //nolint:errcheck // a test's
		before := begun
		for i := 0; i < 500 && begun == before; i++ { // each takes a word or two to be known as Multipath TCP
			_, e1 := to.Write([]byte("x"))
			_, e2 := from.Write([]byte("x"))
			if err := errors.Join(e1, e2); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Millisecond)
			begun, come = counted(t, "MPJoinSynTx"), counted(t, "MPJoinSynRx")
		}
		if begun == before {
			t.Fatal("no other path is tried")
		}
	}
	tries()
	if come == 0 {
		t.Fatal("no other path comes about without a wall")
	}
	w := wall{accounts: []span{{61100, 61100}}, imds: []netip.AddrPort{netip.AddrPortFrom(metadataService, 0)}}
	nft(t, w.rules())
	was := come
	tries()
	if come != was {
		t.Error("a connection without an owner passes the wall")
	}
}

// counted is one of the kernel's counters of Multipath TCP in this network.
func counted(t *testing.T, name string) int {
	t.Helper()
	text, err := os.ReadFile("/proc/thread-self/net/netstat")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		switch i := slices.Index(names, name); {
		case f[0] != "MPTcpExt:":
		case names == nil:
			names = f
		case i > 0:
			n, err := strconv.Atoi(f[i])
			if err != nil {
				t.Error(err)
			}
			return n
		}
	}
	t.Fatalf("the kernel counts no %s", name)
	return 0
}

// What is looked is what a job would meet.
func TestReaches(t *testing.T) {
	if !inNetwork(t) {
		return
	}
	const endpoint = "http://169.254.169.254"
	h := Home{User: "nobody"}
	expect := func(want Reach, words string) {
		t.Helper()
		if got, why := h.Reaches(t.Context(), endpoint); got != want || !strings.Contains(why, words) {
			t.Errorf("%s, not %s: %s", got, want, why)
		}
	}
	w, err := h.wallFor(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	expect(Unknown, "does not answer the daemon either")
	nft(t, w.rules())
	expect(Unknown, "does not answer the daemon either") // that the account is refused proves nothing
	listen(t, "169.254.169.254:80")
	expect(Closed, "a connection of the account nobody was refused")
	nft(t, noTable)
	expect(Open, "a connection of the account nobody was taken")
	nft(t, "table inet x { chain o { type filter hook output priority 0; meta skuid \"nobody\" ip daddr 169.254.169.254 drop; }; }")
	expect(Closed, "a connection of the account nobody was refused") // by somebody else's firewall

	// What rewrites addresses before any packet is sent is not to be seen here; that another answers is.
	if peer, err := connect(t.Context(), "169.254.169.254:80", 0); err != nil || peer != "169.254.169.254:80" {
		t.Error(peer, err)
	}
	if is, _ := unix.SetfsuidRetUid(-1); is != 0 {
		t.Errorf("a thread stays the account %d", is)
	}
	if got, why := (Home{User: "nobody-knows-him"}).Reaches(t.Context(), endpoint); got != Unknown {
		t.Error(got, why)
	}
}
