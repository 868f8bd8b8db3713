package agent

import (
	"strings"
	"testing"
)

// releases are the lines that matter of /etc/os-release, as the distributions ship it.
var releases = map[string]string{
	"Debian 11":       "PRETTY_NAME=\"Debian GNU/Linux 11 (bullseye)\"\nNAME=\"Debian GNU/Linux\"\nVERSION_ID=\"11\"\nID=debian\n",
	"Debian 12":       "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nNAME=\"Debian GNU/Linux\"\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\nID=debian\n",
	"Debian 13":       "PRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\nNAME=\"Debian GNU/Linux\"\nVERSION_ID=\"13\"\nDEBIAN_VERSION_FULL=13.2\nID=debian\n",
	"Debian sid":      "PRETTY_NAME=\"Debian GNU/Linux forky/sid\"\nNAME=\"Debian GNU/Linux\"\nVERSION_CODENAME=forky\nID=debian\n",
	"Ubuntu 20.04":    "NAME=\"Ubuntu\"\nVERSION=\"20.04.6 LTS (Focal Fossa)\"\nID=ubuntu\nID_LIKE=debian\nVERSION_ID=\"20.04\"\n",
	"Ubuntu 22.04":    "PRETTY_NAME=\"Ubuntu 22.04.4 LTS\"\nNAME=\"Ubuntu\"\nVERSION_ID=\"22.04\"\nID=ubuntu\nID_LIKE=debian\n",
	"Ubuntu 24.04":    "PRETTY_NAME=\"Ubuntu 24.04.1 LTS\"\nNAME=\"Ubuntu\"\nVERSION_ID=\"24.04\"\nID=ubuntu\nID_LIKE=debian\n",
	"Ubuntu, unknown": "PRETTY_NAME=\"Ubuntu 25.10\"\nVERSION_ID=\"25.10\"\nID=ubuntu\nID_LIKE=debian\n",
	"Linux Mint":      "NAME=\"Linux Mint\"\nVERSION=\"22 (Wilma)\"\nID=linuxmint\nID_LIKE=\"ubuntu debian\"\nVERSION_ID=\"22\"\n",
	"Azure Linux 3":   "NAME=\"Microsoft Azure Linux\"\nVERSION=\"3.0.20240727\"\nID=azurelinux\nVERSION_ID=\"3.0\"\nPRETTY_NAME=\"Microsoft Azure Linux 3.0\"\n",
	"CBL-Mariner 2":   "NAME=\"Common Base Linux Mariner\"\nVERSION=\"2.0.20240301\"\nID=mariner\nVERSION_ID=\"2.0\"\nPRETTY_NAME=\"CBL-Mariner/Linux\"\n",
	"RHEL 9":          "NAME=\"Red Hat Enterprise Linux\"\nVERSION=\"9.4 (Plow)\"\nID=\"rhel\"\nID_LIKE=\"fedora\"\nVERSION_ID=\"9.4\"\n",
	"Rocky Linux 9":   "NAME=\"Rocky Linux\"\nVERSION=\"9.4 (Blue Onyx)\"\nID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\nVERSION_ID=\"9.4\"\n",
	"AlmaLinux 8":     "NAME=\"AlmaLinux\"\nVERSION=\"8.10 (Cerulean Leopard)\"\nID=\"almalinux\"\nID_LIKE=\"rhel centos fedora\"\nVERSION_ID=\"8.10\"\n",
	"Oracle Linux 9":  "NAME=\"Oracle Linux Server\"\nVERSION=\"9.4\"\nID=\"ol\"\nID_LIKE=\"fedora\"\nVERSION_ID=\"9.4\"\n",
	"Fedora":          "NAME=\"Fedora Linux\"\nVERSION=\"40 (Server Edition)\"\nID=fedora\nVERSION_ID=40\n",
	"SLES 15":         "NAME=\"SLES\"\nVERSION=\"15-SP6\"\nVERSION_ID=\"15.6\"\nPRETTY_NAME=\"SUSE Linux Enterprise Server 15 SP6\"\nID=\"sles\"\nID_LIKE=\"suse\"\n",
	"openSUSE Leap":   "NAME=\"openSUSE Leap\"\nVERSION=\"15.6\"\nID=\"opensuse-leap\"\nID_LIKE=\"suse opensuse\"\nVERSION_ID=\"15.6\"\n",
	"Alpine":          "NAME=\"Alpine Linux\"\nID=alpine\nVERSION_ID=3.20.0\nPRETTY_NAME=\"Alpine Linux v3.20\"\n",
	"Gentoo":          "NAME=Gentoo\nID=gentoo\nPRETTY_NAME=\"Gentoo Linux\"\n",
	"nothing":         "",
	"CRLF":            "ID=debian\r\nVERSION_ID=\"12\"\r\n",
}

func TestLibrariesOfEachDistribution(t *testing.T) {
	for name, want := range map[string]struct{ manager, package1, package2 string }{
		"Debian 11":       {"apt-get install -y", "libicu67", "libssl1.1"},
		"Debian 12":       {"apt-get install -y", "libicu72", "libssl3"},
		"Debian 13":       {"apt-get install -y", "libicu76", "libssl3t64"},
		"Debian sid":      {},
		"Ubuntu 20.04":    {"apt-get install -y", "libicu66", "libssl1.1"},
		"Ubuntu 22.04":    {"apt-get install -y", "libicu70", "libssl3"},
		"Ubuntu 24.04":    {"apt-get install -y", "libicu74", "libssl3t64"},
		"Ubuntu, unknown": {},
		"Linux Mint":      {},
		"Azure Linux 3":   {"tdnf install -y", "icu", "krb5"},
		"CBL-Mariner 2":   {"tdnf install -y", "icu", "krb5"},
		"RHEL 9":          {"dnf install -y", "libicu", "krb5-libs"},
		"Rocky Linux 9":   {"dnf install -y", "libicu", "krb5-libs"},
		"AlmaLinux 8":     {"dnf install -y", "libicu", "krb5-libs"},
		"Oracle Linux 9":  {"dnf install -y", "libicu", "krb5-libs"},
		"Fedora":          {"dnf install -y", "libicu", "krb5-libs"},
		"SLES 15":         {"zypper --non-interactive install", "libicu", "libopenssl3"},
		"openSUSE Leap":   {"zypper --non-interactive install", "libicu", "libopenssl3"},
		"Alpine":          {"apk add", "icu-libs", "krb5"},
		"Gentoo":          {},
		"nothing":         {},
		"CRLF":            {"apt-get install -y", "libicu72", "libssl3"},
	} {
		release, there := releases[name]
		got := distributionOf(release).libraries()
		has := func(word string) bool { return word == "" || strings.Contains(got+" ", " "+word+" ") }
		if !there || !strings.HasPrefix(got, want.manager) || !has(want.package1) || !has(want.package2) || (got == "") != (want.manager == "") {
			t.Errorf("%s: %q, want %q with %s and %s", name, got, want.manager, want.package1, want.package2)
		}
	}
	if d := distributionOf(releases["Debian 12"]); d.name != "Debian GNU/Linux 12 (bookworm)" {
		t.Errorf("its name: %q", d.name)
	}
}
