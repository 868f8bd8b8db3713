package agent

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/coreos/go-systemd/v22/unit"

	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/line"
)

// hostile are words that would be more than a word where a line ends the matter.
var hostile = []string{
	"w\n[Service]\nExecStartPre=+/tmp/e\n#",
	"w\r[Service]",
	"w\x00",
	"w\u2028ExecStartPre=+/tmp/e",
	"w\u2029x",
	"w\u0085x",
	"w\x1b[2J",
	"w\xff",
	"w\\\n",
	strings.Repeat(
		"w",
		3000,
	),
	"%n%h%i",
	"--now",
	"-",
	"../../ssh",
	"ssh.service",
	"/etc/passwd",
	"$PATH",
	"${PATH}",
	`"quoted"`,
	`back\slash\`,
	"ends with space ",
	"a;b",
	"a#b",
	strings.Repeat("я", 100),
	strings.Repeat("w", 300),
}

// The unit has the lines that it should have and no other, whatever the words are; or there is
// none.
func TestUnitHoldsItsLines(t *testing.T) {
	made := 0
	for _, word := range hostile {
		for what, c := range map[string]struct {
			h Home
			s Service
		}{
			"agent": {Home{Dir: "/opt/azp-agent"}, Service{ServerURL: "https://dev.azure.com/contoso", Group: "P", Agent: word}},
			"group": {Home{Dir: "/opt/azp-agent"}, Service{ServerURL: "https://dev.azure.com/contoso", Group: word, Agent: "web-1"}},
			"url":   {Home{Dir: "/opt/azp-agent"}, Service{ServerURL: "https://dev.azure.com/" + word, Group: "P", Agent: "web-1"}},
			"dir":   {Home{Dir: "/opt/" + word}, Service{ServerURL: "https://dev.azure.com/contoso", Group: "P", Agent: "web-1"}},
			"unit":  {Home{Dir: "/opt/azp-agent"}, Service{ServerURL: "https://dev.azure.com/contoso", Group: "P", Agent: "web-1", Unit: "vsts.agent." + word + ".service"}},
		} {
			err := c.s.Check()
			name, plain, text := "", "", ""
			if err == nil {
				name, plain, err = unitOf(c.s)
			}
			if err == nil {
				text, err = c.h.unit(plain, name, "azp", "5c7a1b1e", "_work")
			}
			if err != nil {
				if f := fault.From(
					err,
				); f.Advice == "" || line.Wrong(f.Error(), 3<<10) != "" ||
					f.Class == fault.Internal {
					t.Errorf("%s %.40q: refused as %q", what, word, f)
				}
				continue
			}
			made++
			if strings.ContainsAny(name, "/\n\x00") || len(name) > 255 || !strings.HasPrefix(name, "vsts.agent.") ||
				!strings.HasSuffix(name, ".service") {
				t.Errorf("%s %.40q: the unit's name is %q", what, word, name)
			}
			options, err := unit.DeserializeOptions(strings.NewReader(text))
			if err != nil {
				t.Errorf("%s %.40q: %v", what, word, err)
			}
			var names []string
			for _, o := range options {
				if o.Name != "Alias" && o.Name != "RequiresMountsFor" { // a path that systemd cannot read has none
					names = append(names, o.Name)
				}
			}
			want := []string{
				"Description",
				"Wants",
				"After",
				"StartLimitIntervalSec",
				"ConditionPathExists",
				"ExecStart",
				"User",
				"WorkingDirectory",
				"KillMode",
				"KillSignal",
				"TimeoutStopSec",
				"Restart",
				"RestartSec",
				"OOMPolicy",
				"OOMScoreAdjust",
				"WantedBy",
			}
			if !slices.Equal(names, want) || strings.Count(text, "\n[") != 3 || strings.Count(text, "\nExec") != 1 ||
				!utf8.ValidString(text) ||
				strings.Contains(strings.ReplaceAll(text, "%%", ""), "%") {
				t.Errorf("%s %.40q: the unit is\n%s", what, word, text)
			}
			if !c.h.runsHere([]byte(text)) {
				t.Errorf("%s %.40q: the unit is not known again:\n%s", what, word, text)
			}
		}
	}
	if made < 30 {
		t.Errorf("only %d units were made: too much is refused", made)
	}
}

// What the agent's unit says, and why.
// The agent has its groups by its unit: nothing of the account is changed.
func TestGroupsOfTheAgentsUnit(t *testing.T) {
	const name = "vsts.agent.o.P.a.service"
	for want, groups := range map[string][]string{"": nil, "\nSupplementaryGroups=docker kvm\n": {"docker", "kvm"}} {
		text, err := Home{Dir: "/opt/azp-agent"}.unit(name, name, "azp", "5c7a1b1e", "_work", groups...)
		if err != nil || strings.Contains(text, "SupplementaryGroups") != (want != "") || !strings.Contains(text, want) {
			t.Errorf("%v: %v\n%s", groups, err, text)
		}
	}
}

func TestDirectivesOfTheAgentsUnit(t *testing.T) {
	text, err := Home{
		Dir: "/opt/azp-agent",
	}.unit(
		"vsts.agent.o.P.a.service",
		"vsts.agent.o.P.a.service",
		"azp",
		"5c7a1b1e",
		"/mnt/work",
	)
	if err != nil {
		t.Fatal(err)
	}
	for directive, why := range map[string]string{
		"ConditionPathExists=/run/azp-bootstrap/vm-5c7a1b1e": "on a copied disk the agent must not start with the original's key",
		"After=network-online.target nss-user-lookup.target": "an agent without a network ends, and waits for its next start",
		"Wants=network-online.target":                        "else nothing waits for the network",
		"StartLimitIntervalSec=0":                            "an agent is tried for as long as the VM lives",
		`ExecStart="/opt/azp-agent/runsvc.sh"`:               "as svc.sh would have it",
		"WorkingDirectory=/opt/azp-agent":                    "runsvc.sh looks for the listener there",
		"RequiresMountsFor=/opt/azp-agent":                   "its disk comes first",
		"RequiresMountsFor=/mnt/work":                        "a job must not fill the disk below",
		"User=azp":                                           "jobs must not run as root",
		"KillMode=mixed":                                     "runsvc.sh ends the listener's session; then what jobs left running is ended, which could read the next PAT",
		"KillSignal=SIGTERM":                                 "what runsvc.sh hears",
		"TimeoutStopSec=5min":                                "a listener may take long to end its session, and not for ever",
		"Restart=always":                                     "an agent that ended takes no jobs",
		"RestartSec=5":                                       "not at once: a listener that cannot start would take a processor",
		"OOMPolicy=continue":                                 "a step that takes too much memory ends alone, not with its job",
		"OOMScoreAdjust=-900":                                "the kernel ends the step first, the listener and its worker last",
		"WantedBy=multi-user.target":                         "it starts at each boot",
	} {
		if strings.Count(text, "\n"+directive+"\n") != 1 {
			t.Errorf("the unit lacks %s: %s", directive, why)
		}
	}
}

// A unit's file has a name that a file can have, and of two agents each has its own.
func TestUnitNamesFit(t *testing.T) {
	long := strings.Repeat("я", 64)
	seen := map[string]Service{}
	for _, url := range []string{"https://dev.azure.com/contoso", "https://dev.azure.com/contoso-engineering-emea-ag", "https://devops.corp/C"} {
		for _, group := range []string{"production", "Тестовая среда для приёмки релизов", "受け入れテスト環境（本番相当）", "受け入れテスト環境", "Integration & Test / 2nd stage - west europe (blue)", strings.Repeat("-", 128), strings.Repeat("語", 200)} {
			for _, name := range []string{"web-000001", "web-000002", long + "1", long + "2", strings.Repeat("🙂", 63) + "a", strings.Repeat("🙂", 63) + "b"} {
				s := Service{ServerURL: url, Group: group, Agent: name}
				unit, plain, err := unitOf(s)
				if err != nil || len(unit) > longestUnit || !utf8.ValidString(plain) ||
					strings.Contains(plain, "\uFFFD") ||
					!agentService(unit) ||
					s.Check() != nil {
					t.Errorf("%+v: %d bytes, %q, %v", s, len(unit), plain, err)
				}
				if other, taken := seen[unit]; taken && len([]rune(plain)) < 80 {
					t.Errorf("%+v and %+v are both %q", s, other, unit)
				}
				seen[unit] = s
				if again, _, _ := unitOf(s); again != unit {
					t.Errorf("%+v: %q, then %q", s, unit, again)
				}
				s.Unit = unit
				s.Agent, s.Group = "renamed", "renamed"
				if again, _, _ := unitOf(s); again != unit {
					t.Errorf("the journal's name %q became %q", unit, again)
				}
			}
		}
	}
	if name, _, _ := unitOf(
		Service{ServerURL: "https://dev.azure.com/contoso", Group: "Default", Agent: "web-1"},
	); name != `vsts.agent.contoso.Default.web\x2d1.service` {
		t.Errorf("a common name became %q", name)
	}
}

// Which unit is the agent's, its own lines say; names, comments and substrings say nothing.
func TestUnitsOfThisFolder(t *testing.T) {
	h := Home{Dir: "/opt/azp agent%"}
	dir := t.TempDir()
	text, err := h.unit("vsts.agent.o.P.a.service", "vsts.agent.o.P.a.service", "azp", "5c7a1b1e", "_work")
	if err != nil {
		t.Fatal(err)
	}
	other, err := Home{
		Dir: "/opt/other",
	}.unit(
		"vsts.agent.o.P.b.service",
		"vsts.agent.o.P.b.service",
		"azp",
		"5c7a1b1e",
		"/mnt/work",
	)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"vsts.agent.o.P.a.service":       text,
		"vsts.agent.o.P.former.service":  "# by an earlier version\n[Unit]\nDescription=x\n[Service]\nExecStart=\"/opt/azp agent%%/runsvc.sh\"\nUser=azp\n",
		"vsts.agent.o.P.b.service":       other,
		"vsts.agent.o.P.comment.service": "# " + h.path("runsvc.sh") + "\n" + other,
		"vsts.agent.o.P.longer.service":  strings.ReplaceAll(text, "runsvc.sh", "runsvc.sh.more"),
		"vsts.agent.o.P.two.service":     strings.ReplaceAll(text, "ExecStart=", "ExecStart=/bin/true\nExecStart="),
		"vsts.agent.o.P.more.service":    strings.ReplaceAll(text, "User=", "ExecStart=/bin/true\nUser="),
		"vsts.agent.o.P.root.service":    strings.ReplaceAll(text, "ExecStart=", "ExecStart=+"),
		"vsts.agent.o.P.broken.service":  "\x00\xff[[[",
		"vsts.agent.o.P.empty.service":   "",
		"ssh.service":                    text,
		"vsts.agent.o.P.a.timer":         text,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("vsts.agent.o.P.a.service", filepath.Join(dir, "vsts.agent.o.P.link.service")); err != nil {
		t.Fatal(err)
	}
	want := []string{"vsts.agent.o.P.a.service", "vsts.agent.o.P.former.service"}
	if os.Geteuid() == 0 {
		theirs := filepath.Join(dir, "vsts.agent.o.P.theirs.service") // not root's word
		if err := os.WriteFile(theirs, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(theirs, 1, 1); err != nil {
			t.Fatal(err)
		}
	} else {
		want = nil
	}
	if got := h.units(dir); !slices.Equal(got, want) {
		t.Errorf("units: %q, want %q", got, want)
	}
}

// What a job leaves in the agent's folder says nothing but the agent's ID.
func TestFolderSaysNothingButTheID(t *testing.T) {
	for _, word := range hostile {
		h := Home{Dir: t.TempDir()}
		for _, name := range []string{".service", "runsvc.sh", ".env", ".path"} {
			if err := os.WriteFile(h.path(name), []byte(word), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		agent := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\r", `\r`, "\x00", `\u0000`, "\x1b", `\u001b`).
			Replace(word)
		if err := os.WriteFile(
			h.path(".agent"),
			[]byte(
				`{"agentId":7,"agentName":"`+agent+`","poolName":"`+agent+`","environmentName":"`+agent+`","serverUrl":"`+agent+`","workFolder":"`+agent+`"}`,
			),
			0o644,
		); err != nil {
			t.Fatal(err)
		}
		if id, err := h.Registered(); err != nil || id != 7 {
			t.Errorf("%.40q: %d, %v", word, id, err)
		}
		text, err := h.unit("vsts.agent.o.P.a.service", "vsts.agent.o.P.a.service", "azp", "5c7a1b1e", "_work")
		if err != nil || len(word) > 3 && bytes.Contains([]byte(strings.ReplaceAll(text, h.Dir, "")), []byte(word)) {
			t.Errorf("%.40q: %v\n%s", word, err, text)
		}
	}
}

// The unit of an agent that serves once is started by the daemon alone, and by nobody again.
func TestUnitThatServesOnce(t *testing.T) {
	h := Home{Dir: "/opt/azp agent$1 50%"}
	text, err := h.onceUnit(Service{Once: true, Environment: []string{"PATH=/usr/bin:/opt/x y"}})(
		"vsts.agent.contoso.P.web-1.service", `vsts.agent.contoso.P.web\x2d1.service`, "azp", "5c7a1b1e", "_work")
	if err != nil {
		t.Fatal(err)
	}
	options, err := unit.DeserializeOptions(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string][]string{}
	for _, o := range options {
		got[o.Name] = append(got[o.Name], o.Value)
	}
	for name, want := range map[string][]string{
		"WantedBy": nil, "Restart": {"no"}, "RestartSec": nil, "KillMode": {"mixed"}, "User": {"azp"},
		"ConditionPathExists": {"/run/azp-bootstrap/once-5c7a1b1e"},
		"Environment":         {"VSTS_AGENT_INPUT_ONCE=true", `"PATH=/usr/bin:/opt/x y"`},
	} {
		if !slices.Equal(got[name], want) {
			t.Errorf("%s: %q, want %q", name, got[name], want)
		}
	}
	if !h.runsHere([]byte(text)) || (Home{Dir: "/opt/other"}).runsHere([]byte(text)) {
		t.Error("whose unit it is is not seen")
	}
	if instanceOf([]byte(text)) != "" {
		t.Error("it counts as one that waits for the daemon's word: it would be woken without a question")
	}
}

// What the unit runs ends as the listener does; after an update it waits for what replaces the programs, and a
// stop goes to the listener.
func TestWhatServesOnceRuns(t *testing.T) {
	for name, c := range map[string]struct {
		listener string
		stop     bool
		code     int
		atLeast  time.Duration
	}{
		"its job has ended":  {listener: "exit 0"},
		"it has failed":      {listener: "exit 2", code: 2},
		"it must update":     {listener: "exit 4", code: 4, atLeast: 5 * time.Second},
		"it is stopped":      {listener: `trap 'exit 0' TERM; echo up; while :; do sleep 0.05; done`, stop: true},
		"it is told what to": {listener: `[ "$*" = "run --startuptype service" ] || exit 9`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			program := filepath.Join(t.TempDir(), "listener")
			if err := os.WriteFile(program, []byte("#!/bin/sh\n"+c.listener+"\n"), 0o700); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command("/bin/sh", "-c", runsOnce, program)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			begun := time.Now()
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if c.stop {
				_, _ = out.Read(make([]byte, 3)) // it is up
				_ = cmd.Process.Signal(syscall.SIGTERM)
			}
			_ = cmd.Wait()
			if code := cmd.ProcessState.ExitCode(); code != c.code || time.Since(begun) < c.atLeast {
				t.Errorf("exit code %d after %s", code, time.Since(begun))
			}
		})
	}
}
