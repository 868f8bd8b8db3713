package agent

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/whole"
)

// A Pin names the agent's package for one platform: its version and its SHA-256.
type Pin struct{ Platform, Version, SHA256 string }

// Platforms are those that packages are published for (releaseNote.md of the agent's repository).
var Platforms = []string{
	"linux-x64",
	"linux-arm64",
	"linux-arm",
	"linux-musl-x64",
	"linux-musl-arm64",
	"osx-x64",
	"osx-arm64",
	"win-x64",
	"win-x86",
	"win-arm64",
}

// Platform is this machine's, in the agent's words.
func Platform() string {
	system := map[string]string{"linux": "linux", "darwin": "osx", "windows": "win"}[runtime.GOOS]
	if libraries, _ := os.ReadDir(
		"/lib",
	); runtime.GOOS == "linux" &&
		slices.ContainsFunc(libraries, func(e os.DirEntry) bool { return strings.HasPrefix(e.Name(), "ld-musl-") }) {
		system = "linux-musl"
	}
	return system + "-" + map[string]string{"amd64": "x64", "386": "x86", "arm64": "arm64", "arm": "arm"}[runtime.GOARCH]
}

// File is the package's name.
func (p Pin) File() string {
	if strings.HasPrefix(p.Platform, "win-") {
		return "vsts-agent-" + p.Platform + "-" + p.Version + ".zip"
	}
	return "vsts-agent-" + p.Platform + "-" + p.Version + ".tar.gz"
}

var packageOf = regexp.MustCompile(
	`^(?:vsts|pipelines)-agent-([a-z]+-[a-z0-9-]+?)-(\d+\.\d+\.\d+)\.(?:tar\.gz|tgz|zip)$`,
)

// PinOf reads platform and version off a package's name.
func PinOf(file string) (Pin, bool) {
	m := packageOf.FindStringSubmatch(file)
	if m == nil {
		return Pin{}, false
	}
	return Pin{Platform: m[1], Version: m[2]}, true
}

var agentVersion = regexp.MustCompile(`^[0-9]{1,4}(\.[0-9]{1,6}){2}$`)

// ReadLock finds the pin for a platform in a lock file: one line for each platform, "PLATFORM
// VERSION SHA256"; # begins a comment. The whole file is checked, so that a review finds it right
// or refused.
func ReadLock(file, platform string) (Pin, error) {
	f, err := os.Open(file) //nolint:gosec // the operator names it
	if err != nil {
		return Pin{}, fault.New(fault.Agent, "the lock file").
			Because(err).
			Hint("Name it with --lock; azp-bootstrap prepare --pin VERSION writes one.")
	}
	defer f.Close() //nolint:errcheck // only read
	found := Pin{}
	seen := map[string]bool{}
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		text, _, _ := strings.Cut(strings.TrimPrefix(lines.Text(), "\ufeff"), "#") // as Windows' editors begin a file
		fields := strings.Fields(text)
		if len(fields) == 0 {
			continue
		}
		bad := func(why string) (Pin, error) {
			return Pin{}, fault.New(fault.Agent, "%s:%d: %s", file, n, why).
				Hint("Write one line for each platform: linux-x64 4.248.0 SHA256. azp-bootstrap prepare --pin VERSION " +
					"writes this platform's, scripts/pin-agent.sh VERSION all.")
		}
		switch {
		case len(fields) != 3:
			return bad("not PLATFORM VERSION SHA256")
		case !slices.Contains(Platforms, fields[0]):
			return bad("unknown platform " + fields[0] + ", none of " + strings.Join(Platforms, " "))
		case seen[fields[0]]:
			return bad("the platform " + fields[0] + " is given twice")
		case !agentVersion.MatchString(fields[1]):
			return bad("not a version of three numbers, such as 4.248.0: " + fields[1])
		case !isSum(fields[2]):
			return bad("not a SHA-256 sum: " + fields[2])
		}
		seen[fields[0]] = true
		if fields[0] == platform {
			found = Pin{fields[0], fields[1], strings.ToLower(fields[2])}
		}
	}
	if err := lines.Err(); err != nil {
		return Pin{}, fault.New(fault.Agent, "the lock file %s", file).
			Because(err).
			Hint("It is not a text file of short lines.")
	}
	if found.Platform == "" {
		only := ""
		if len(seen) > 0 {
			only = ", only for " + strings.Join(slices.Sorted(maps.Keys(seen)), ", ")
		}
		return Pin{}, fault.New(fault.Agent, "%s pins no package for %s%s", file, platform, only).
			Hint("Pin one: azp-bootstrap prepare --pin VERSION, compare the sums with the agent's release page, and " +
				"commit the file.")
	}
	return found, nil
}

// WriteLock sets the pin of its platform in a lock file, which it makes if there is none. What it
// says of other platforms, and its comments, stay.
func WriteLock(file string, pin Pin) error {
	text, err := os.ReadFile(file) //nolint:gosec // the operator names it
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fault.New(fault.Agent, "the lock file").Because(err).Hint("Name another one with --lock.")
	}
	lines := strings.SplitAfter(string(text), "\n")
	lines = slices.DeleteFunc(lines, func(l string) bool {
		fields := strings.Fields(l)
		return l == "" || len(fields) > 0 && fields[0] == pin.Platform
	})
	if n := len(lines); n > 0 && !strings.HasSuffix(lines[n-1], "\n") {
		lines[n-1] += "\n"
	}
	lines = append(lines, pin.Platform+" "+pin.Version+" "+pin.SHA256+"\n")
	if err := whole.Write(file, []byte(strings.Join(lines, "")), 0o644); err != nil {
		return fault.New(fault.Agent, "the lock file").Because(err).Hint("Name one that can be written: --lock FILE.")
	}
	_, err = ReadLock(file, pin.Platform)
	return err
}

// IsVersion reports whether a text is a version of the agent.
func IsVersion(text string) bool { return agentVersion.MatchString(text) }

// Newer reports whether one version of the agent is newer than another; false if either is none.
func Newer(one, than string) bool {
	if !IsVersion(one) || !IsVersion(than) {
		return false
	}
	var a, b [3]int
	_, _ = fmt.Sscanf(one, "%d.%d.%d", &a[0], &a[1], &a[2])
	_, _ = fmt.Sscanf(than, "%d.%d.%d", &b[0], &b[1], &b[2])
	return slices.Compare(a[:], b[:]) > 0
}
