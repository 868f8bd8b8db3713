package agent

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/coreos/go-systemd/v22/unit"

	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/line"
)

// unit is the text of the unit that svc.sh would make (bin/vsts.agent.service.template), with these
// changes: it starts again after a failure, the network is there first, a stop leaves nothing
// behind, and in each boot it starts when the daemon has said that this VM is the one that
// registered. It comes from code that root owns; runsvc.sh, in the agent's folder, runs as the
// service user only.
//
// KillMode is mixed, not process: SIGTERM still goes to runsvc.sh alone, which lets the listener
// end its session, but then whatever jobs left running is ended too. It runs as the service user
// and could look on when a re-registration gives config.sh, the same user's process, a PAT.
//
// A step that takes too much memory is killed alone: systemd's own policy would stop the unit, and
// the job with it. The kernel looks for such a step first, since the agent gives its steps a score
// of 500 (ProcessInvoker.cs, WriteProcessOomScoreAdj), and for the listener and its worker last.
func (h Home) unit(plain, name, user, instance, work string, groups ...string) (string, error) {
	return unitText(h.lines(plain, name, user, instance, work, groups...))
}

func (h Home) lines(plain, name, user, instance, work string, groups ...string) []*unit.UnitOption {
	const unitSection, service, install = "Unit", "Service", "Install"
	lines := []*unit.UnitOption{
		{
			Section: unitSection,
			Name:    "Description",
			Value: "Azure Pipelines Agent (" + strings.TrimSuffix(
				strings.TrimPrefix(plain, "vsts.agent."),
				".service",
			) + ")",
		},
		{Section: unitSection, Name: "Wants", Value: "network-online.target"},
		{Section: unitSection, Name: "After", Value: "network-online.target nss-user-lookup.target"},
		{Section: unitSection, Name: "StartLimitIntervalSec", Value: "0"},
		{Section: unitSection, Name: "ConditionPathExists", Value: word(instance)},
		{Section: service, Name: "ExecStart", Value: h.starts()},
		{Section: service, Name: "User", Value: user},
		{Section: service, Name: "WorkingDirectory", Value: h.Dir},
		{Section: service, Name: "KillMode", Value: "mixed"},
		{Section: service, Name: "KillSignal", Value: "SIGTERM"},
		{Section: service, Name: "TimeoutStopSec", Value: "5min"},
		{Section: service, Name: "Restart", Value: "always"},
		{Section: service, Name: "RestartSec", Value: "5"},
		{Section: service, Name: "OOMPolicy", Value: "continue"},
		{Section: service, Name: "OOMScoreAdjust", Value: "-900"},
		{Section: install, Name: "WantedBy", Value: "multi-user.target"},
	}
	if len(groups) > 0 { // besides those that the system has the account in
		lines = append(lines, &unit.UnitOption{Section: service, Name: "SupplementaryGroups", Value: strings.Join(groups, " ")})
	}
	for _, folder := range h.onDisks(work) {
		lines = append(lines, &unit.UnitOption{Section: unitSection, Name: "RequiresMountsFor", Value: folder})
	}
	if name != plain && len(plain) <= longestUnit && plainUnit.MatchString(plain) { // the same name as people type it
		lines = append(lines, &unit.UnitOption{Section: install, Name: "Alias", Value: plain})
	}
	return lines
}

func doubled(value string) string { return strings.ReplaceAll(value, "%", "%%") } // systemd's specifiers

// unitText is a unit's, whose lines are made of words of others, too.
func unitText(lines []*unit.UnitOption) (string, error) {
	for _, l := range lines {
		l.Value = doubled(l.Value)
		wrong := line.Wrong(l.Value, longestLine)
		if wrong == "" && strings.HasSuffix(l.Value, `\`) {
			wrong = `ends with \, which would join it with the next line`
		}
		if wrong != "" {
			return "", fault.New(fault.Config, "the line %s of the agent's unit, "+
				"%q, %s", l.Name, line.Shown(prefix(l.Value, 100)), wrong).
				Hint("It is made of url, target, agent.name, agent.dir and agent.user: correct them.")
		}
	}
	text, err := io.ReadAll(unit.Serialize(lines))
	return "# Written by azp-bootstrap; replaced when the agent is registered anew.\n" + string(text), err
}

// onDisks are the folders whose disks must be mounted before the agent starts, which is ordered after
// them, as systemd reads them: in quotes for a blank, and with backslashes as they are
// (systemd.unit(5)). A path with either sign in it is left out: the daemon looks itself.
func (h Home) onDisks(work string) (folders []string) {
	folders = []string{h.Dir}
	if filepath.IsAbs(work) {
		folders = append(folders, filepath.Clean(work))
	}
	folders = slices.DeleteFunc(folders, func(f string) bool { return strings.ContainsAny(f, `"'\\`) })
	for i, f := range folders {
		if strings.ContainsAny(f, " \t") {
			folders[i] = `"` + f + `"`
		}
	}
	return folders
}

// starts is the command of the unit. Go quotes as systemd unquotes (systemd.syntax(7), "Quoting").
func (h Home) starts() string { return strconv.Quote(h.path("runsvc.sh")) }

// longestLine is below the 2048 bytes that every systemd reads of a line, with its name.
const longestLine = 2000

// plainUnit are names that systemd takes unescaped, if they are not too long. (Here and elsewhere a
// regular expression does not count to hundreds: compiling that would cost each start
// milliseconds.)
var plainUnit = regexp.MustCompile(`^[A-Za-z0-9:_.-]+$`)

// longestUnit is below UNIT_NAME_MAX and the 255 bytes of a file's name: systemd and we write
// beside it under longer names.
const longestUnit = 200

// unitName is the name as svc.sh passes it through `systemd-escape --path`: a dash becomes \x2d.
func unitName(name string) string { return unit.UnitNamePathEscape(name) }

// unitOf is the name of a service's unit, and the same without systemd's escapes.
func unitOf(s Service) (name, plain string, err error) {
	plain, err = s.name(servicePattern)
	if err == nil && len(unitName(plain)) > longestUnit {
		plain, err = s.short(servicePattern, unitName, longestUnit)
	}
	if name = unitName(plain); agentService(s.Unit) {
		name = s.Unit
	}
	return name, plain, err
}

const unitFolder = "/etc/systemd/system"

func unitFile(name string) string { return unitFolder + "/" + name }

// readUnit reads a unit that root wrote. A link is none, such as the one by which a unit is masked.
func readUnit(path string) ([]byte, error) {
	f, err := os.OpenFile(
		path,
		os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK,
		0,
	) //nolint:gosec // in systemd's folder
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() || owner(fi) != 0 {
		return nil, errors.Join(err, fs.ErrPermission)
	}
	return io.ReadAll(io.LimitReader(f, 64<<10))
}

// runsHere reports whether a unit starts this folder's agent, and nothing else.
func (h Home) runsHere(text []byte) bool {
	options, err := unit.DeserializeOptions(bytes.NewReader(text))
	if err != nil {
		return false
	}
	var starts []string
	for _, o := range options {
		if o.Section == "Service" && o.Name == "ExecStart" {
			starts = append(starts, o.Value)
		}
	}
	return len(starts) == 1 && slices.Contains([]string{doubled(h.starts()), doubled(h.startsOnce())}, starts[0])
}

// units are the names of the units that start this folder's agent.
func (h Home) units(folder string) (names []string) {
	entries, _ := os.ReadDir(folder)
	for _, e := range entries {
		if !e.Type().IsRegular() || !agentService(e.Name()) {
			continue
		}
		if text, err := readUnit(filepath.Join(folder, e.Name())); err == nil && h.runsHere(text) {
			names = append(names, e.Name())
		}
	}
	return names
}
