//go:build linux

package bootstrap_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A localFault is a row of the matrix for what is wrong on the VM itself. It stays until it is
// mended.
type localFault struct {
	name      string
	behaviour string // of the stand-in
	spoil     func(t *testing.T, m *machine)
	mend      func(t *testing.T, m *machine)
	want      string // as for the network: "=" "~class" "!class"
}

var stateFile = func(m *machine) string { return filepath.Join(m.state, "state.json") }

func writes(content string) func(t *testing.T, m *machine) {
	return func(t *testing.T, m *machine) {
		if err := os.WriteFile(stateFile(m), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func removes(t *testing.T, m *machine) {
	if err := os.RemoveAll(stateFile(m)); err != nil {
		t.Fatal(err)
	}
}

// mounted puts a small file system of its own at a folder, and ends the test where that may not be.
func mounted(t *testing.T, m *machine, dir string) {
	if err := unix.Mount("azp-test", dir, "tmpfs", 0, "size=64m,mode=755"); err != nil {
		t.Skipf("no file system can be mounted here: %v", err)
	}
	t.Cleanup(func() {
		m.reap(t)
		_ = unix.Unmount(dir, unix.MNT_DETACH)
	})
}

// full fills the file system of a folder.
func full(t *testing.T, dir string) {
	f, err := os.Create(filepath.Join(dir, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // it is full
	chunk := make([]byte, 4096)
	for err == nil {
		_, err = f.Write(chunk)
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
}

func emptied(t *testing.T, dir string) {
	if err := os.Remove(filepath.Join(dir, "filler")); err != nil {
		t.Fatal(err)
	}
}

func readOnly(t *testing.T, dir string, yes bool) {
	flags := uintptr(unix.MS_REMOUNT)
	if yes {
		flags |= unix.MS_RDONLY
	}
	if err := unix.Mount("azp-test", dir, "tmpfs", flags, ""); err != nil {
		t.Fatal(err)
	}
}

// localOutcomes are what must become of each.
var localOutcomes = map[string]string{
	"state.json is empty":                           "=",
	"state.json is truncated":                       "=",
	"state.json is random bytes":                    "=",
	"state.json is of a future schema":              "!state",
	"state.json is of a VM whose clock was in 2099": "=",
	"state.json is of a VM whose clock was in 1970": "=",
	"state.json is a link to elsewhere":             "!state",
	"state.json is a folder":                        "!state",
	"state folder on a full disk":                   "!state",
	"state folder read-only":                        "!state",
	"agent folder on a full disk":                   "!agent",
	"agent folder read-only":                        "!agent",
	"another run holds the lock":                    "~state",
	"config.sh is missing":                          "=",
	"config.sh may not be executed":                 "!agent",
	"the package is gone":                           "!agent",
	"config.sh: hang":                               "~agent",
	"config.sh: fail":                               "~agent",
	"config.sh: flood":                              "=",
	"config.sh: binary":                             "=",
	"config.sh: children":                           "=",
	"config.sh: half":                               "~agent",
	"config.sh: files-only":                         "!service",
	"config.sh: killed":                             "~agent",
	"config.sh: clock":                              "~agent",
	"config.sh: no-dependencies":                    "!agent",
	"config.sh: exit-2":                             "~agent",
	"config.sh: exit-3":                             "~agent",
	"config.sh: exit-4":                             "~agent",
	"config.sh: exit-126":                           "!agent",
	"config.sh: exit-127":                           "!agent",
	"config.sh: exit-134":                           "~agent",
}

func localFaults() []localFault {
	agentDir := func(m *machine) string { return filepath.Dir(m.real.agent) }
	inAgent := func(change func(file string) error) func(t *testing.T, m *machine) {
		return func(t *testing.T, m *machine) {
			if err := change(filepath.Join(m.real.agent, "config.sh")); err != nil {
				t.Fatal(err)
			}
		}
	}
	again := func(t *testing.T, m *machine) { m.prepare(t, "") }
	rows := []localFault{
		{name: "state.json is empty", spoil: writes("")},
		{name: "state.json is truncated", spoil: writes(`{"schema":1,"phase":"regis`)},
		{name: "state.json is random bytes", spoil: writes("\x00\xff\x17\x80 \x01\x02{")},
		{name: "state.json is of a future schema", spoil: writes(`{"schema":99,"phase":"ready"}`), mend: removes},
		{
			name: "state.json is of a VM whose clock was in 2099",
			spoil: writes(
				`{"schema":1,"instanceId":"5c7a1b1e-0000-4d3a-9a00-000000000000","phase":"credential","attempt":3,"startedAt":"2099-01-01T00:00:00Z","phases":[{"name":"discover","startedAt":"2099-01-01T00:00:00Z","seconds":1,"retries":0}]}`,
			),
		},
		{
			name: "state.json is of a VM whose clock was in 1970",
			spoil: writes(
				`{"schema":1,"instanceId":"5c7a1b1e-0000-4d3a-9a00-000000000000","phase":"credential","attempt":3,"startedAt":"1970-01-01T00:00:00Z","phases":[]}`,
			),
		},
		{name: "state.json is a link to elsewhere", mend: removes, spoil: func(t *testing.T, m *machine) {
			elsewhere := filepath.Join(m.dir, "elsewhere")
			if err := errors.Join(
				os.WriteFile(elsewhere, []byte("somebody's"), 0o600),
				os.Symlink(elsewhere, stateFile(m)),
			); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if data, err := os.ReadFile(elsewhere); string(data) != "somebody's" {
					t.Errorf("the file elsewhere was changed: %q, %v", data, err)
				}
			})
		}},
		{name: "state.json is a folder", mend: removes, spoil: func(t *testing.T, m *machine) {
			if err := os.Mkdir(stateFile(m), 0o755); err != nil {
				t.Fatal(err)
			}
		}},
		{
			name:  "state folder on a full disk",
			spoil: func(t *testing.T, m *machine) { mounted(t, m, m.state); full(t, m.state) },
			mend:  func(t *testing.T, m *machine) { emptied(t, m.state) },
		},
		{
			name:  "state folder read-only",
			spoil: func(t *testing.T, m *machine) { mounted(t, m, m.state); readOnly(t, m.state, true) },
			mend:  func(t *testing.T, m *machine) { readOnly(t, m.state, false) },
		},
		{name: "agent folder on a full disk", spoil: func(t *testing.T, m *machine) {
			mounted(t, m, agentDir(m))
			m.prepare(t, "")
			full(t, agentDir(m))
		}, mend: func(t *testing.T, m *machine) { emptied(t, agentDir(m)) }},
		{name: "agent folder read-only", spoil: func(t *testing.T, m *machine) {
			mounted(t, m, agentDir(m))
			m.prepare(t, "")
			readOnly(t, agentDir(m), true)
		}, mend: func(t *testing.T, m *machine) { readOnly(t, agentDir(m), false) }},
		{name: "another run holds the lock", spoil: func(t *testing.T, m *machine) {
			f, err := os.Create(filepath.Join(m.state, "lock"))
			if err == nil {
				err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
			}
			if err != nil {
				t.Fatal(err)
			}
			m.held = f
		}, mend: func(_ *testing.T, m *machine) { _ = m.held.Close() }},
		{name: "config.sh is missing", spoil: inAgent(os.Remove)},
		{
			name:  "config.sh may not be executed",
			spoil: inAgent(func(f string) error { return os.Chmod(f, 0o644) }),
			mend:  again,
		},
		{name: "the package is gone", mend: again, spoil: func(t *testing.T, m *machine) {
			if err := errors.Join(os.RemoveAll(m.real.agent), os.RemoveAll(m.real.agent+".package")); err != nil {
				t.Fatal(err)
			}
		}},
	}
	for _, b := range []string{"hang", "fail", "flood", "binary", "children", "half", "files-only", "killed", "clock", "no-dependencies", "exit-2", "exit-3", "exit-4", "exit-126", "exit-127", "exit-134"} {
		rows = append(rows, localFault{name: "config.sh: " + b, behaviour: b, mend: again})
	}
	for i := range rows {
		rows[i].want = localOutcomes[rows[i].name]
	}
	return rows
}

func TestLocalFaults(t *testing.T) { meetLocalFaults(t, "script", localFaults()) }

// TestLocalFaultsByRest is TestLocalFaults for a VM that the daemon registers itself: config.sh's own are none for it.
func TestLocalFaultsByRest(t *testing.T) {
	meetLocalFaults(t, "rest", slices.DeleteFunc(localFaults(), func(l localFault) bool { return strings.HasPrefix(l.name, "config.sh") }))
}

func meetLocalFaults(t *testing.T, registration string, all []localFault) {
	for i, l := range all {
		if testing.Short() && i%10 != 0 {
			continue
		}
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			m := realMachine(t)
			m.registration = registration
			m.prepare(t, l.behaviour)
			if l.spoil != nil {
				l.spoil(t, m)
			}
			got := "="
			limit := time.Minute // for all there is to do, on a busy machine too
			if strings.HasPrefix(l.want, "~") {
				limit = 6 * time.Second // it waits to the end
			}
			if err := m.boot(t.Context(), limit); err != nil {
				got = "!" + err.Class.Code
				if strings.HasPrefix(err.Message, "gave up at the deadline") {
					got = "~" + err.Class.Code
				}
				if err.Advice == "" {
					t.Errorf("no next step: %s", err)
				}
				t.Log(err)
			}
			if l.mend != nil {
				l.mend(t, m)
			}
			if err := m.sound(); err != nil {
				t.Error(err)
			}
			if err := m.boot(t.Context(), time.Minute); err != nil {
				t.Errorf("when it is mended it does not join: %s", err)
			}
			if err := m.sound(); err != nil {
				t.Error(err)
			}
			if n := len(m.azure.Agents()); n != 1 {
				t.Errorf("%d agents at the end", n)
			}
			if got != l.want {
				t.Errorf("got %s, want %s", got, l.want)
			}
			if t.Failed() {
				t.Log(m.said.String())
			}
		})
	}
}
