package acl

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/windows"
)

// TestOthers: lists as folders of Windows have them.
func TestOthers(t *testing.T) {
	const me = "S-1-5-21-1-2-3-1001"
	for sddl, want := range map[string]string{
		readable: "",
		private:  "",
		// C:\ProgramData\azp-bootstrap as it is made: Users may make files.
		"O:BAD:(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;OICIIO;GA;;;CO)(A;OICI;0x1200a9;;;BU)(A;CI;DCLCRPCR;;;BU)": "S-1-5-32-545",
		// C:\azp-agent.package as it is made: Authenticated Users may change it.
		"O:BAD:(A;OICI;FA;;;BA)(A;OICI;FA;;;SY)(A;OICI;0x1200a9;;;BU)(A;;0x1301bf;;;AU)(A;OICIIO;SDGXGWGR;;;AU)": "S-1-5-11",
		"O:BAD:(A;;FA;;;WD)":                         "S-1-1-0",
		"O:NSD:(A;;FA;;;SY)":                         "S-1-5-20",
		"O:" + me + "D:(A;;FA;;;SY)":                 "",
		"O:SYD:(A;;FA;;;S-1-5-21-1-2-3-1001)":        "",
		"O:SYD:(A;;FA;;;S-1-5-21-1-2-3-1002)":        "S-1-5-21-1-2-3-1002",
		"O:SYD:(A;;FA;;;S-1-5-21-1-2-3-512)":         "",
		"O:SYD:(D;;FA;;;WD)(A;;FR;;;WD)(A;;FA;;;SY)": "",
		"O:SYD:(A;;WD;;;NS)":                         "S-1-5-20", // it may change the list
		"O:SYD:(A;;SD;;;NS)":                         "S-1-5-20", // it may delete it
		"O:SYD:(A;OICIIO;FA;;;NS)(A;;FA;;;SY)":       "",         // of what is made there, which is looked at by itself
	} {
		sd, err := windows.SecurityDescriptorFromString(sddl)
		if err != nil {
			t.Errorf("%s: %v", sddl, err)
			continue
		}
		got, err := others(sd, me)
		if want != "" {
			sid, e := windows.StringToSid(want)
			if e != nil {
				t.Fatal(e)
			}
			want = named(sid)
		}
		if err != nil || strings.TrimSuffix(got, ", its owner,") != want {
			t.Errorf("%s: %q, %v; want %q", sddl, got, err, want)
		}
	}
}

// TestNoList: a file without a list is everybody's.
func TestNoList(t *testing.T) {
	sd, err := windows.NewSecurityDescriptor()
	if err != nil {
		t.Fatal(err)
	}
	system, err := windows.StringToSid("S-1-5-18")
	if err == nil {
		err = errors.Join(sd.SetOwner(system, false), sd.SetDACL(nil, true, false))
	}
	if err != nil {
		t.Fatal(err)
	}
	if who, err := others(sd, "S-1-5-18"); who != "everybody" || err != nil {
		t.Errorf("%q, %v", who, err)
	}
}

// TestProtect: what was protected is nobody else's, and can be used as before.
func TestProtect(t *testing.T) {
	dir := t.TempDir()
	if err := Protect(dir); err != nil {
		t.Fatal(err)
	}
	if who, err := Others(dir); who != "" || err != nil {
		t.Errorf("%q, %v", who, err)
	}
}
