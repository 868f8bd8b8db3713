package image

import "os"

func (i *image) hostName() string {
	name, _ := os.Hostname()
	return name
}

// ownRoot is where this machine's own system lies.
func ownRoot() string { return os.Getenv("SystemDrive") + `\` }

// On Windows, sysprep makes the image anew: logs and the machine's identity are its business.
func (i *image) cleanLogs() error { return nil }
func (i *image) cleanDeep() error { return nil }
func (i *image) lintDeep()        {}

// textFiles are where people leave tokens: what they typed, what git and az keep, where image builds put their files.
var textFiles = func() (all []string) {
	for _, below := range []string{
		`\Users\*\AppData\Roaming\Microsoft\Windows\PowerShell\PSReadLine\*history.txt`, `\Users\*\.git-credentials`,
		`\Users\*\_netrc`, `\Users\*\.azure\*`, `\Windows\System32\config\systemprofile\.git-credentials`,
		`\Windows\System32\config\systemprofile\.azure\*`, `\Windows\Temp\*`,
	} {
		all = append(all, os.Getenv("SystemDrive")+below)
	}
	return all
}()
