//go:build unix

package agent

import (
	"errors"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"testing"
)

// A domain's account is in no file of this machine: what getent says counts, as systemd and login go by it.
func TestAccountsOfADirectoryAreFound(t *testing.T) {
	bin := t.TempDir()
	for name, script := range map[string]string{
		"getent": `#!/bin/sh
[ "$1" = passwd ] || exit 1
case $2 in
agents@corp.example|200100) echo 'agents@corp.example:*:200100:200101:Agents of corp:/home/corp/agents:/bin/bash' ;;
half@corp.example) echo 'half@corp.example:*:200100' ;;
word@corp.example) echo 'word@corp.example:*:many:200101::/home/w:/bin/sh' ;;
down@corp.example) exit 3 ;;
*) exit 2 ;;
esac
`,
		"id": "#!/bin/sh\n[ \"$1 $2\" = '-G agents@corp.example' ] && echo 200101 200102 998\n",
	} {
		if err := os.WriteFile(filepath.Join(bin, name), []byte(script), 0o700); err != nil { //nolint:gosec // to be run
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", bin+":/usr/bin:/bin")
	for _, name := range []string{"agents@corp.example", "200100"} {
		u, err := lookup(name)
		if err != nil || u.Username != "agents@corp.example" || u.Uid != "200100" || u.Gid != "200101" ||
			u.HomeDir != "/home/corp/agents" {
			t.Errorf("%s: %+v, %v", name, u, err)
			continue
		}
		if g, err := groups(u); err != nil || !slices.Equal(g, []string{"200101", "200102", "998"}) {
			t.Errorf("groups of %s: %v, %v", name, g, err)
		}
	}
	for name, isUnknown := range map[string]bool{
		"nobody-of-the-kind": true, "half@corp.example": true, "word@corp.example": true, "down@corp.example": false,
	} {
		_, err := lookup(name)
		var unknown user.UnknownUserError
		if err == nil || errors.As(err, &unknown) != isUnknown {
			t.Errorf("%s: %v", name, err)
		}
	}
	t.Setenv("PATH", t.TempDir()) // a system without getent
	if u, err := lookup("agents@corp.example"); err != nil || u.Uid != "200100" {
		t.Errorf("what the directory has said does not count while it is away: %v", err)
	}
	found.Clear()
	if _, err := lookup("agents@corp.example"); !errors.As(err, new(user.UnknownUserError)) {
		t.Errorf("without getent: %v", err)
	}
	if u, err := lookup("65534"); err != nil || u.Username != "nobody" {
		t.Errorf("a number of this machine: %v, %v", u, err)
	}
	if u, err := lookup("nobody"); err != nil || u.Uid == "" {
		t.Errorf("nobody: %v, %v", u, err)
	}
}

// Root by another spelling of 0, and a number that chown and setuid take for none, are no accounts for
// jobs.
func TestOddNumbersAreNoAccounts(t *testing.T) {
	for _, uid := range []string{"0", "00", "+0", "-0", "4294967296", "8589934592", "4294967295", "-1", "", "1 ", "0x3e8", "1e3"} {
		u, g, err := numbers(uid, "100")
		if err == nil && u != 0 || uid != "0" && err == nil {
			t.Errorf("%q is taken for %d, %d", uid, u, g)
		}
	}
	if u, g, err := numbers("200100", "100"); u != 200100 || g != 100 || err != nil {
		t.Errorf("%d, %d, %v", u, g, err)
	}
}

// systemd takes a name that is none of its own making by number alone (systemd.exec(5), User=).
func TestTheUnitNamesAnAccountAsSystemdTakesIt(t *testing.T) {
	for name, want := range map[string]string{"azp": "azp", "azp_1-x": "azp_1-x", "agents@corp.example": "200100", "1x": "200100"} {
		if got := unitUser(&user.User{Username: name, Uid: "200100"}); got != want {
			t.Errorf("%s becomes %s, want %s", name, got, want)
		}
	}
}
