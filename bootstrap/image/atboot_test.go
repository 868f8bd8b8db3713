//go:build unix

package image

import (
	"strings"
	"testing"

	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/tree"
)

// doctor looks at the image as if it were this machine.
func (i anImage) doctor() (string, error) {
	i.Helper()
	t, err := tree.Open(i.root)
	if err != nil {
		i.Fatal(err)
	}
	defer t.Close() //nolint:errcheck // a test
	return StartsAtBoot(t)
}

// TestItSaysThatTheDaemonDoesNotStart: every VM of such an image would stay alone.
func TestItSaysThatTheDaemonDoesNotStart(t *testing.T) {
	const wants = unitFolder + "/multi-user.target.wants/" + daemonUnit
	for name, c := range map[string]struct {
		make func(anImage)
		says string
	}{
		"no systemd": {func(anImage) {}, ""},
		"no unit":    {func(i anImage) { i.put("/usr/lib/systemd/systemd", "") }, "there is no"},
		"not enabled": {func(i anImage) {
			i.put("/lib/systemd/systemd", "")
			i.put("/lib/systemd/system/"+daemonUnit, "")
		}, "is not enabled"},
		"enabled": {func(i anImage) {
			i.put("/usr/lib/systemd/systemd", "")
			i.put("/usr/lib/systemd/system/"+daemonUnit, "")
			i.link("/usr/lib/systemd/system/"+daemonUnit, wants)
		}, ""},
		"install's own": {func(i anImage) {
			i.put("/usr/lib/systemd/systemd", "")
			i.put(unitFolder+"/"+daemonUnit, "")
			i.link("../"+daemonUnit, wants)
		}, ""},
		"of another unit": {func(i anImage) {
			i.put("/usr/lib/systemd/systemd", "")
			i.link("/usr/lib/systemd/system/"+daemonUnit, wants)
		}, "there is no"},
		"masked": {func(i anImage) {
			i.put("/usr/lib/systemd/systemd", "")
			i.put("/usr/lib/systemd/system/"+daemonUnit, "")
			i.link("/dev/null", unitFolder+"/"+daemonUnit)
			i.link("../"+daemonUnit, wants)
		}, "is masked"},
	} {
		t.Run(name, func(t *testing.T) {
			i := newImage(t)
			c.make(i)
			f, noted := i.seal(true)[unitFolder+"/"+daemonUnit]
			if noted != (c.says != "") || !strings.Contains(f.Wrong, c.says) {
				t.Errorf("%+v, want %q", f, c.says)
			}
			if _, err := i.doctor(); err != nil {
				t.Errorf("systemd does not run there, but the doctor wants it: %v", err)
			}
			i.put("/run/systemd/system/x", "")
			_, err := i.doctor()
			if c.says == "" && name != "no systemd" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			f2 := fault.From(err)
			if err == nil || f2.Class != fault.Service || !strings.Contains(f2.Error(), c.says) ||
				f2.Advice != enableIt {
				t.Errorf("the doctor says %v, want %q", err, c.says)
			}
		})
	}
}

func TestDisturbances(t *testing.T) {
	const (
		needrestart = "/usr/sbin/needrestart"
		unattended  = "/usr/bin/unattended-upgrade"
		apt         = "/etc/apt/apt.conf.d/"
		dnf         = "/etc/dnf/automatic.conf"
		commented   = "//Unattended-Upgrade::Automatic-Reboot \"true\";\n/* Automatic-Reboot \"true\"; */\n" +
			"# Automatic-Reboot \"true\";\n"
	)
	reboot := func(word string) string { return `Unattended-Upgrade::Automatic-Reboot "` + word + `";` }
	for name, c := range map[string]struct {
		files map[string]string
		says  string
	}{
		"nothing": {nil, ""},
		"needrestart": {map[string]string{
			needrestart: "", "/etc/needrestart/conf.d/a.conf": "# qr(^vsts) => 0",
		}, "needrestart"},
		"needrestart, ours": {map[string]string{
			needrestart: "", "/etc/needrestart/conf.d/azp-bootstrap.conf": `$nrconf{override_rc}{qr(^vsts\.agent\.)} = 0;`,
		}, ""},
		"unattended": {map[string]string{
			unattended: "", apt + "50unattended-upgrades": "//" + reboot("false") + "\n" + reboot("true"),
		}, "unattended-upgrades"},
		"unattended, as shipped": {map[string]string{
			unattended: "", apt + "50unattended-upgrades": commented + `Unattended-Upgrade::Automatic-Reboot-Time "02:00";`,
		}, ""},
		"unattended, nested": {map[string]string{
			unattended: "", apt + "50u": "Unattended-Upgrade {\n Automatic-Reboot \"yes\";\n};",
		}, "unattended-upgrades"},
		"unattended, overridden": {map[string]string{
			unattended: "", apt + "50u": reboot("true"), apt + "99u": reboot("false"),
		}, ""},
		"not installed":   {map[string]string{apt + "50u": reboot("true")}, ""},
		"dnf":             {map[string]string{dnf: "[commands]\nreboot = when-needed\n"}, "dnf-automatic"},
		"dnf, as shipped": {map[string]string{dnf: "[commands]\n# reboot = when-needed\nreboot = never\n"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			i := newImage(t)
			for file, text := range c.files {
				i.put(file, text)
			}
			var said []string
			w := Where{ConfigFile: "/etc/azp-bootstrap/config.yaml", StateDir: "/var/lib/azp-bootstrap"}
			say := func(_ string, args ...any) { said = append(said, args[0].(string)) }
			if _, err := Seal(t.Context(), w, Sealing{Root: i.root, Check: true, Say: say}); err != nil {
				t.Fatal(err)
			}
			if all := strings.Join(
				said,
				";",
			); len(said) > 1 || (c.says == "") != (all == "") ||
				!strings.Contains(all, c.says) {
				t.Errorf("said %q, want %q", all, c.says)
			}
			i.put("/run/systemd/system/x", "")
			i.put("/etc/systemd/system/"+daemonUnit, "")
			i.link("../"+daemonUnit, unitFolder+"/multi-user.target.wants/"+daemonUnit)
			notes, err := i.doctor()
			if err != nil || (c.says == "") != (notes == "") || !strings.Contains(notes, c.says) {
				t.Errorf("the doctor notes %q, %v; want %q", notes, err, c.says)
			}
		})
	}
}
