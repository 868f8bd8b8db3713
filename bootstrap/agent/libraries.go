package agent

import (
	"cmp"
	"os"
	"strings"

	"azp-bootstrap/bootstrap/fault"
)

// distribution is what os-release(5) says of a system.
type distribution struct {
	id, version string // "debian" "12"; "rhel" "9.4"
	like        []string
	name        string // for people
}

// here is this system's distribution; empty where it does not say.
func here() distribution {
	data, err := os.ReadFile("/etc/os-release")
	if err != nil { // os-release(5): the second place, if the first is not there
		data, _ = os.ReadFile("/usr/lib/os-release")
	}
	return distributionOf(string(data))
}

func distributionOf(release string) (d distribution) {
	for l := range strings.Lines(release) {
		key, value, _ := strings.Cut(strings.TrimSpace(l), "=")
		value = strings.Trim(value, `"'`)
		switch key {
		case "ID":
			d.id = value
		case "VERSION_ID":
			d.version = value
		case "ID_LIKE":
			d.like = strings.Fields(value)
		case "PRETTY_NAME":
			d.name = value
		}
	}
	return d
}

// libraries are the native libraries that the agent's .NET needs, by distribution and version: dotnet/core,
// release-notes/8.0/os-packages.md of 2026, without the C library, and zlib, which .NET 8 does not bring. A version that
// begins with the one in the table is meant, "" is every one. Debian 11 and Ubuntu 20.04, which that page has no more, have
// the names of their own packages.
var libraries = []struct {
	id, version string
	install     string
}{
	{"debian", "11", apt + "libicu67 libssl1.1"},
	{"debian", "12", apt + "libicu72 libssl3"},
	{"debian", "13", apt + "libicu76 libssl3t64"},
	{"ubuntu", "20.04", apt + "libicu66 libssl1.1"},
	{"ubuntu", "22.04", apt + "libicu70 libssl3"},
	{"ubuntu", "24.04", apt + "libicu74 libssl3t64"},
	{"azurelinux", "", "tdnf install -y" + azureLinux},
	{"mariner", "", "tdnf install -y" + azureLinux},
	{"fedora", "", "dnf install -y" + redHat},
	{"rhel", "", "dnf install -y" + redHat},
	{"suse", "", "zypper --non-interactive install ca-certificates krb5 libgcc_s1 libicu libopenssl3 libstdc++6 libz1 timezone"},
	{"alpine", "", "apk add ca-certificates icu-data-full icu-libs krb5 libgcc libssl3 libstdc++ tzdata zlib"},
}

const allLibraries = "bin/installdependencies.sh of the agent package (libicu, openssl, krb5, zlib)"

const (
	apt        = "apt-get install -y ca-certificates libgcc-s1 libgssapi-krb5-2 libstdc++6 tzdata zlib1g "
	redHat     = " ca-certificates krb5-libs libgcc libicu libstdc++ openssl-libs tzdata zlib"
	azureLinux = " ca-certificates icu krb5 libgcc libstdc++ openssl-libs tzdata zlib"
)

// libraries is the command that installs them; "" for a distribution that is not in the table. One that is like
// another has its names only where all versions have the same: Debian's and Ubuntu's differ with each release.
func (d distribution) libraries() string {
	for _, id := range append([]string{d.id}, d.like...) {
		for _, l := range libraries {
			if l.id == id && (l.version == "" || id == d.id && strings.HasPrefix(d.version, l.version)) {
				return l.install
			}
		}
	}
	return ""
}

// Lacking refuses a system on which .NET would not start, for want of a library that it loads when it begins: config.sh
// looks for ICU by itself, for OpenSSL not at all. Another agent than Microsoft's is not known to need any.
func (h Home) Lacking() error {
	if _, err := h.Tree.Stat(h.path("bin/libcoreclr.so")); err != nil {
		return nil //nolint:nilerr // no .NET for Linux in there
	}
	var lacking []string
	for _, l := range []struct{ name, file string }{{"libicu", "libicuuc.so*"}, {"OpenSSL", "libssl.so*"}} {
		there := false
		for _, folder := range []string{"/lib", "/lib64", "/lib/*-linux-*", "/usr/lib", "/usr/lib64", "/usr/lib/*-linux-*", "/usr/local/lib*"} {
			found, err := h.Tree.Glob(h.Tree.Name(folder + "/" + l.file))
			there = there || err != nil || len(found) > 0
		}
		if !there {
			lacking = append(lacking, l.name)
		}
	}
	if len(lacking) == 0 {
		return nil
	}
	return fault.New(fault.Agent, "libraries that the agent needs are missing: %s", strings.Join(lacking, ", ")).
		Hint("Install them at image time: %s.", cmp.Or(here().libraries(), allLibraries))
}
