//go:build unix

package agent

import (
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"azp-bootstrap/bootstrap/fault"
)

// fakeGroups puts programs in the place of the system's.
func fakeGroups(t *testing.T) (made string) {
	t.Helper()
	bin, made := t.TempDir(), filepath.Join(t.TempDir(), "made")
	for name, script := range map[string]string{
		"getent": `[ "$1" = group ] || exit 1
case $2 in
agents) echo 'agents:*:200500:' ;;
zero) echo 'zero:x:0:' ;;
odd) echo 'odd:x:00:' ;;
down) exit 3 ;;
*) grep -qx -- "$2" "$MADE" 2>/dev/null && echo "$2:x:987:" && exit 0; exit 2 ;;
esac`,
		"groupadd": `[ "$1" = --system ] && [ "$2" != cannot ] || { echo no; exit 1; }; echo "$2" >>"$MADE"`,
	} {
		text := "#!/bin/sh\nMADE=" + made + "\n" + script + "\n"
		if err := os.WriteFile(filepath.Join(bin, name), []byte(text), 0o700); err != nil { //nolint:gosec // to be run
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", bin+":/usr/bin:/bin")
	return made
}

func TestGroupNumbers(t *testing.T) {
	fakeGroups(t)
	games, err := user.LookupGroup("games")
	if err != nil {
		t.Skip("there is no group games")
	}
	got, err := GroupNumbers([]string{"games", "agents"})
	if err != nil || len(got) != 2 || strconv.Itoa(int(got[0])) != games.Gid || got[1] != 200500 {
		t.Errorf("%v, %v", got, err)
	}
	for name, says := range map[string]string{
		"none": "does not exist", "zero": "root's own", "odd": "no number", "down": "getent group down", "root": "root's own",
	} {
		if _, err := GroupNumbers([]string{"games", name}); err == nil || !strings.Contains(err.Error(), says) || fault.From(err).Advice == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What is missing is made at image time, as a group of the system; nothing that is there is touched.
func TestGroupsAreMade(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	made := fakeGroups(t)
	for range 2 {
		if err := EnsureGroups([]string{"agents", "docker-of-a-test"}, quiet); err != nil {
			t.Fatal(err)
		}
	}
	if text, err := os.ReadFile(made); err != nil || string(text) != "docker-of-a-test\n" {
		t.Errorf("%q, %v", text, err)
	}
	for _, name := range []string{"cannot", "zero", "down"} {
		if err := EnsureGroups([]string{name}, quiet); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// An agent that is a process has its account's own groups, and those of agent.groups.
func TestAProcessHasItsGroups(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	dir := t.TempDir()
	reached(filepath.Dir(dir))
	reached(dir)
	out, err := os.Create(filepath.Join(dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close() //nolint:errcheck // only written
	u, err := user.Lookup("games")
	if err != nil {
		t.Skip("there is no account games")
	}
	own, err := u.GroupIds()
	if err != nil {
		t.Fatal(err)
	}
	p := process{
		Dir: dir, User: "games", Groups: []uint32{987}, Record: filepath.Join(dir, "agent.pid"),
		Argv: []string{"/usr/bin/id", "-G"},
	}
	cmd, err := p.start(t.Context(), out, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(out.Name())
	got := strings.Fields(string(text))
	want := append(own, "987")
	slices.Sort(got)
	slices.Sort(want)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, want %v; %v", got, want, err)
	}
}
