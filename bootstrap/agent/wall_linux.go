package agent

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"

	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/tree"
	"azp-bootstrap/bootstrap/whole"
)

// wireServer gives no token, but what the VM's extensions are configured with. Azure's guest agent
// closes it to all but root, where it is there and its firewall is on; jobs have no business there.
// Its port 53 is Azure's DNS and stays open, and so do answers to Azure's health probes, which come
// from this address (learn.microsoft.com, "What is IP address 168.63.129.16?").
const wireServer = "ip daddr 168.63.129.16 tcp dport { 80, 32526 } " + begins

// begins is the first packet of a TCP connection.
const begins = "tcp flags & (fin | syn | rst | ack) == syn"

// A wall is whom the packet filter keeps from where.
type wall struct {
	accounts []span
	imds     []netip.AddrPort // port 0 = all
}

// A span is a range of user numbers.
type span struct{ first, last uint64 }

// wallFor is the wall around the service user. The numbers that it may give to processes of rootless
// containers are its own as well.
func (h Home) wallFor(endpoint string) (wall, error) {
	u, err := account(h.User)
	if err != nil {
		return wall{}, err
	}
	uid, _, err := numbers(u.Uid, u.Gid)
	if err != nil {
		return wall{}, err
	}
	text, err := os.ReadFile("/etc/subuid")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return wall{}, err
	}
	w := wall{accounts: merged(append(subordinate(string(text), u.Username, u.Uid), span{uint64(uid), uint64(uid)}))}
	w.imds = []netip.AddrPort{netip.AddrPortFrom(metadataService, 0)}
	if at, ok := addressOf(endpoint); ok && at.Addr() != metadataService {
		if !at.Addr().IsLoopback() { // where other services answer as well
			at = netip.AddrPortFrom(at.Addr(), 0)
		}
		w.imds = append(w.imds, at)
	}
	return w, nil
}

// addressOf is where imds.endpoint leads to.
func addressOf(endpoint string) (netip.AddrPort, bool) {
	u, err := url.Parse(endpoint)
	if err != nil {
		return netip.AddrPort{}, false
	}
	port, err := strconv.ParseUint(cmp.Or(u.Port(), "80"), 10, 16)
	host := u.Hostname()
	if host == "localhost" {
		host = "127.0.0.1"
	}
	addr, e := netip.ParseAddr(host)
	return netip.AddrPortFrom(addr.Unmap().WithZone(""), uint16(port)), err == nil && e == nil
}

// subordinate are the ranges that subuid(5) gives an account. One that would wall root in is no honest one.
func subordinate(text, name, uid string) (all []span) {
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		f := strings.Split(strings.TrimSpace(lines.Text()), ":")
		if len(f) != 3 || f[0] != name && f[0] != uid {
			continue
		}
		first, e1 := strconv.ParseUint(f[1], 10, 32)
		count, e2 := strconv.ParseUint(f[2], 10, 32)
		if e1 == nil && e2 == nil && first > 0 && count > 0 {
			all = append(all, span{first, min(first+count, noID) - 1})
		}
	}
	return all
}

// merged are ranges that do not overlap: nft refuses those that do.
func merged(all []span) (out []span) {
	slices.SortFunc(all, func(a, b span) int { return cmp.Compare(a.first, b.first) })
	for _, s := range all {
		if n := len(out); n > 0 && s.first <= out[n-1].last+1 {
			out[n-1].last = max(out[n-1].last, s.last)
			continue
		}
		out = append(out, s)
	}
	return out
}

// noTable takes our table away, whether it is there or not.
const noTable = "add table inet azp_bootstrap; delete table inet azp_bootstrap;"

// rules are what nft makes the wall of, in one transaction: another one is replaced without a gap. The
// table is our own: what other firewalls accept passes it all the same, and what they say stays. It looks
// before addresses are rewritten (NAT) and after. That a connection fails is told by ICMP: systemd's filter, the
// second wall, would swallow a reset that seems to come from there, and a job's program would wait.
//
// The filter knows a socket's owner by its file. What the kernel opens on a program's behalf has none: an SMC socket's
// connection (net/smc, smc_create_clcsk), another path of Multipath TCP, before Linux 5.12 its first one as well.
// So where nobody is the owner, no connection begins. Of the daemon's own, sockets that are closed already have none.
func (w wall) rules() string {
	var who []string
	for _, s := range w.accounts {
		text := strconv.FormatUint(s.first, 10)
		if s.last > s.first {
			text += "-" + strconv.FormatUint(s.last, 10)
		}
		who = append(who, text)
	}
	var b strings.Builder
	b.WriteString(noTable + " table inet azp_bootstrap { chain jobs {")
	for _, at := range w.imds {
		family := map[bool]string{true: "ip", false: "ip6"}[at.Addr().Is4()]
		fmt.Fprintf(&b, " %s daddr %s", family, at.Addr())
		if at.Port() != 0 {
			fmt.Fprintf(&b, " tcp dport %d", at.Port())
		}
		b.WriteString(" " + refuse + ";")
	}
	b.WriteString(" " + wireServer + " " + refuse + "; };")
	for _, chain := range []string{"asked { type filter hook output priority -300;", "rewritten { type filter hook output priority 0;"} {
		fmt.Fprintf(&b, " chain %s meta skuid { %s } jump jobs; meta skuid != %d return; %s jump jobs; };",
			chain, strings.Join(who, ", "), uint32(noID), begins)
	}
	b.WriteString(" }")
	return b.String()
}

const refuse = "reject with icmpx type admin-prohibited"

// wallUnit is the text of the unit that loads rules. It comes before the network, and so before anything that
// the account could have left behind to be started: cron, a lingering session. Debian's nftables.service
// empties the packet filter whenever it is restarted or reloaded: then this is loaded again. It has no
// ExecStop=, because at a shutdown the account's processes may outlive it.
func wallUnit(nft, rules string) string {
	load := nft + ` "` + rules + `"`
	return `# Written by azp-bootstrap: see agent.metadata.
[Unit]
Description=Keep the jobs of Azure Pipelines from Azure's metadata service
Documentation=file:/usr/share/doc/azp-bootstrap/docs/security.md
DefaultDependencies=no
After=local-fs.target nftables.service
Before=network-pre.target sysinit.target shutdown.target
Wants=network-pre.target
Conflicts=shutdown.target
PartOf=nftables.service
ReloadPropagatedFrom=nftables.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=` + load + `
ExecReload=` + load + `
TimeoutStartSec=30
CapabilityBoundingSet=CAP_NET_ADMIN
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateDevices=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectControlGroups=yes
RestrictAddressFamilies=AF_NETLINK AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
IPAddressDeny=any
UMask=0077

[Install]
WantedBy=sysinit.target
`
}

// secondWall is what the agent's unit has besides: what systemd itself denies it, and that it starts after the
// wall. It does start if the wall cannot be had.
var secondWall = `# Written by azp-bootstrap: see agent.metadata.
[Unit]
Wants=` + MetadataUnit + `
After=` + MetadataUnit + `

[Service]
IPAddressDeny=` + metadataService.String() + `
`

// deny writes or removes the second wall of a unit, and reports whether that changed anything.
func deny(unit string, wanted bool) (changed bool, err error) {
	folder := unitFile(unit + ".d")
	file := filepath.Join(folder, secondWallName)
	if !wanted {
		err := os.Remove(file)
		_ = os.Remove(folder) // unless somebody keeps more in it
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		return err == nil, err
	}
	if old, err := readUnit(file); err == nil && string(old) == secondWall {
		return false, nil
	}
	if err := os.MkdirAll(folder, 0o755); err != nil { //nolint:gosec // as all of systemd's
		return false, err
	}
	return true, whole.Write(file, []byte(secondWall), 0o644)
}

// nftFolders are where nft may be.
var nftFolders = []string{"/usr/sbin", "/sbin", "/usr/bin", "/bin", "/usr/local/sbin"}

// NFT is the program that loads the wall, in an image; "" if it is not there.
func NFT(t tree.Tree) string {
	for _, folder := range nftFolders {
		name := filepath.Join(folder, "nft")
		if fi, err := t.Stat(t.Name(name)); err == nil && fi.Mode().IsRegular() && fi.Mode()&0o111 != 0 {
			return name
		}
	}
	return ""
}

// NoNFT is the next step where it is missing.
const NoNFT = "Install nftables (apt install nftables, dnf install nftables), best while the image is made."

// wallTime is how long systemd may take to load the wall, or to take it down.
const wallTime = 30 * time.Second

// RaiseWall keeps the service user from the metadata service, now and in each boot. If that is done, it is
// loaded anew: somebody may have emptied the packet filter.
func (r Runner) RaiseWall(ctx context.Context, endpoint string) error {
	switch {
	case os.Geteuid() != 0:
		return fault.New(fault.Service, "jobs cannot be kept from the metadata service: the daemon is not root").
			Hint("Run it as root.")
	case r.Process:
		return fault.New(fault.Service, "jobs cannot be kept from the metadata service: the agent is a process of the daemon").
			Hint("Only agent.service: auto has a wall. Whoever runs the container can keep it from 169.254.169.254.")
	case !unitsRun():
		return fault.New(fault.Service, "jobs cannot be kept from the metadata service: systemd does not run here").
			Hint("Keep the account %s from 169.254.169.254 yourself.", r.User)
	}
	ctx, cancel := context.WithTimeout(ctx, wallTime)
	defer cancel()
	c, err := dbus.NewWithContext(ctx)
	if err != nil {
		return wallFault("systemd cannot be asked", err)
	}
	defer c.Close()
	changed := false
	for _, unit := range r.units(unitFolder) {
		new, e := deny(unit, true)
		changed, err = changed || new, errors.Join(err, e)
	}
	w, e := r.wallFor(endpoint)
	nft := NFT(tree.Tree{})
	if err = errors.Join(err, e); err == nil && nft != "" {
		new, e := writeUnit(MetadataUnit, wallUnit(nft, w.rules()))
		changed, err = changed || new, e
	}
	if changed {
		err = errors.Join(err, c.ReloadContext(ctx))
	}
	switch {
	case err != nil:
		return wallFault("it could not be prepared", err)
	case nft == "":
		return fault.New(fault.Service, "jobs cannot be kept from the metadata service: nft is not installed").Hint(NoNFT)
	}
	if _, _, err := c.EnableUnitFilesContext(ctx, []string{MetadataUnit}, false, true); err != nil {
		return wallFault("its unit could not be enabled", err)
	}
	if err := job(ctx, c.ReloadOrRestartUnitContext, MetadataUnit); err != nil {
		return wallFault("its unit failed", err)
	}
	return nil
}

// LowerWall takes the wall down; there may be none.
func (r Runner) LowerWall(ctx context.Context) error {
	if os.Geteuid() != 0 {
		return nil
	}
	old, missing := readUnit(unitFile(MetadataUnit))
	changed := false
	var err error
	folders, _ := filepath.Glob(unitFile("*.service.d/" + secondWallName))
	for _, file := range folders {
		removed, e := deny(strings.TrimSuffix(filepath.Base(filepath.Dir(file)), ".d"), false)
		changed, err = changed || removed, errors.Join(err, e)
	}
	if missing != nil && !changed {
		return err
	}
	if !unitsRun() { // an image: there is no table
		_ = os.Remove(unitFile("sysinit.target.wants/" + MetadataUnit))
		if missing == nil {
			err = errors.Join(err, os.Remove(unitFile(MetadataUnit)))
		}
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, wallTime)
	defer cancel()
	c, e := dbus.NewWithContext(ctx)
	if e != nil {
		return wallFault("systemd cannot be asked", e)
	}
	defer c.Close()
	if missing == nil {
		err = errors.Join(err, lower(ctx, c, old))
	}
	if err = errors.Join(err, c.ReloadContext(ctx)); err != nil {
		return wallFault("it could not be taken down", err)
	}
	return nil
}

// lower lets the unit take its table away, and removes the unit.
func lower(ctx context.Context, c *dbus.Conn, old []byte) error {
	if nft := NFT(tree.Tree{}); nft != "" { // else no table was ever loaded, or nobody can remove it before the next boot
		if text := wallUnit(nft, noTable); string(old) != text {
			if err := errors.Join(whole.Write(unitFile(MetadataUnit), []byte(text), 0o644), c.ReloadContext(ctx)); err != nil {
				return err
			}
		}
		if err := job(ctx, c.ReloadOrRestartUnitContext, MetadataUnit); err != nil {
			return err
		}
	}
	_ = job(ctx, c.StopUnitContext, MetadataUnit)                        // it does nothing then
	_, _ = c.DisableUnitFilesContext(ctx, []string{MetadataUnit}, false) // what counts is that the file is gone
	if err := os.Remove(unitFile(MetadataUnit)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// writeUnit writes a unit of root's, and reports whether it was another before.
func writeUnit(name, text string) (changed bool, err error) {
	file := unitFile(name)
	old, err := readUnit(file)
	if err == nil && string(old) == text {
		return false, nil
	}
	if fi, e := os.Lstat(file); e == nil && err != nil { // a link: masked
		return false, fmt.Errorf("%s is there and no file of root's (%s)", file, fi.Mode().Type())
	}
	return true, whole.Write(file, []byte(text), 0o644)
}

func wallFault(what string, err error) *fault.Error {
	return fault.New(fault.Service, "jobs cannot be kept from the metadata service: %s", what).Because(err).
		Hint("Look at: systemctl status %s; journalctl -u %s.", MetadataUnit, MetadataUnit)
}
