// Package acl is who may write a file on Windows: its access control list, which Go's mode bits do not show.
package acl

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"golang.org/x/sys/windows"
)

// What a file's list gives the one whom it is given to: to change it, to take its place, or to change the list.
// Attributes alone are nobody's harm.
const writes = windows.FILE_WRITE_DATA | windows.FILE_APPEND_DATA | fileDeleteChild | windows.DELETE |
	windows.WRITE_DAC | windows.WRITE_OWNER | windows.GENERIC_WRITE | windows.GENERIC_ALL

const fileDeleteChild = 0x40 // FILE_DELETE_CHILD

// Accounts that may do anything on this machine, and stand-ins for the owner, who is looked at by himself
// (learn.microsoft.com, Well-known SIDs).
var trusted = map[string]bool{
	"S-1-5-18":     true, // SYSTEM
	"S-1-5-32-544": true, // Administrators
	"S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464": true, // TrustedInstaller
	"S-1-3-0": true, // CREATOR OWNER
	"S-1-3-4": true, // OWNER RIGHTS
}

// administrators are the ends of other such accounts' numbers: the built-in Administrator, Domain Admins,
// Enterprise Admins.
var administrators = []string{"-500", "-512", "-519"}

func isTrusted(sid, me string) bool {
	if trusted[sid] || sid == me {
		return true
	}
	for _, end := range administrators {
		if strings.HasPrefix(sid, "S-1-5-21-") && strings.HasSuffix(sid, end) {
			return true
		}
	}
	return false
}

// Others says which account besides the administrators, the system and the caller may write a file or folder;
// "" if none. What cannot be looked at, others may.
func Others(name string) (who string, err error) {
	sd, err := windows.GetNamedSecurityInfo(name, windows.SE_FILE_OBJECT,
		windows.OWNER_SECURITY_INFORMATION|windows.DACL_SECURITY_INFORMATION)
	if err != nil {
		return "", &os.PathError{Op: "read the access list of", Path: name, Err: err}
	}
	me, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		return "", err
	}
	return others(sd, me.User.Sid.String())
}

var errNoOwner = errors.New("it has no owner")

func others(sd *windows.SECURITY_DESCRIPTOR, me string) (who string, err error) {
	owner, _, err := sd.Owner()
	if err != nil || owner == nil {
		return "", errors.Join(errNoOwner, err)
	}
	if !isTrusted(owner.String(), me) {
		return named(owner) + ", its owner,", nil
	}
	list, _, err := sd.DACL()
	if err != nil && !errors.Is(err, windows.ERROR_OBJECT_NOT_FOUND) {
		return "", err
	}
	if list == nil {
		return "everybody", nil
	}
	for i := range uint32(list.AceCount) {
		var ace *windows.ACCESS_ALLOWED_ACE
		if err := windows.GetAce(list, i, &ace); err != nil {
			return "", err
		}
		if ace.Header.AceType == windows.ACCESS_DENIED_ACE_TYPE || ace.Header.AceFlags&windows.INHERIT_ONLY_ACE != 0 ||
			ace.Mask&writes == 0 {
			continue
		}
		sid := (*windows.SID)(unsafe.Pointer(&ace.SidStart))
		if !isTrusted(sid.String(), me) {
			return named(sid), nil
		}
	}
	return "", nil
}

func named(sid *windows.SID) string {
	if account, domain, _, err := sid.LookupAccount(""); err == nil {
		return strings.TrimPrefix(domain+`\`+account, `\`)
	}
	return sid.String()
}

// Lists that Protect and Private write: SYSTEM and Administrators do as they like; Users read.
const (
	readable = "O:BAD:PAI(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;OICI;0x1200a9;;;BU)"
	private  = "O:BAD:PAI(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)"
)

// Protect lets administrators and the system alone write a folder and what is in it; everybody may read. Who is no
// administrator leaves it as it is: then it is the caller's own.
func Protect(name string) error { return set(name, readable) }

// Private lets nobody else read it, either.
func Private(name string) error { return set(name, private) }

func set(name, list string) error {
	if !windows.GetCurrentProcessToken().IsElevated() {
		return nil
	}
	sd, err := windows.SecurityDescriptorFromString(list)
	if err != nil {
		return err
	}
	owner, _, err := sd.Owner()
	if err != nil {
		return err
	}
	dacl, _, err := sd.DACL()
	if err != nil {
		return err
	}
	err = windows.SetNamedSecurityInfo(name, windows.SE_FILE_OBJECT,
		windows.OWNER_SECURITY_INFORMATION|windows.DACL_SECURITY_INFORMATION|windows.PROTECTED_DACL_SECURITY_INFORMATION,
		owner, nil, dacl, nil)
	if err != nil {
		return &os.PathError{Op: "write the access list of", Path: name, Err: err}
	}
	return nil
}

// OwnFolder is where configuration and state are unless somebody names other folders: %ProgramData%\azp-bootstrap.
// ProgramData lets everybody make files in new folders of it.
func OwnFolder() string { return filepath.Join(os.Getenv("ProgramData"), "azp-bootstrap") }

// ProtectOwn makes the own folder, and keeps others from it.
func ProtectOwn() error {
	dir := OwnFolder()
	if !filepath.IsAbs(dir) {
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // status is for everyone
		return err
	}
	return Protect(dir)
}

// Mend is the command that keeps others from a file or folder.
func Mend(name string) string {
	return `icacls "` + name + `" /setowner *S-1-5-32-544 /T && icacls "` + name +
		`" /inheritance:r /grant:r *S-1-5-18:(OI)(CI)F *S-1-5-32-544:(OI)(CI)F *S-1-5-32-545:(OI)(CI)RX`
}
