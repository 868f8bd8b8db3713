package fault

import "strings"

// Here says something in this system's words.
func Here(s string) string { return words.Replace(s) }

// words are those of Linux, which messages and hints are written in, and what people type on Windows.
var words = strings.NewReplacer(
	"systemctl restart azp-bootstrap", "Restart-Service azp-bootstrap",
	"systemctl start azp-bootstrap", "Start-Service azp-bootstrap",
	"systemctl status azp-bootstrap", "Get-Service azp-bootstrap",
	"systemctl edit azp-bootstrap", "setx /m, then Restart-Service azp-bootstrap",
	"journalctl -u azp-bootstrap", "Get-WinEvent -ProviderName azp-bootstrap",
	"The log is in the journal", "The log is in the event log, and in azp-bootstrap.log of the state folder",
	"timedatectl, chronyc sources", "w32tm /query /status",
	"Set the clock right (timedatectl)", "Set the clock right (w32tm /resync)",
	"(timedatectl)", "(w32tm /query /status)",
	"/opt/azp-agent", `C:\azp-agent`,
	"Name an account such as azp.", `Name a built-in account (NT AUTHORITY\NETWORK SERVICE) or a group managed service account (CONTOSO\azp$).`,
	"linux-x64 4.248.0 SHA256", "win-x64 4.248.0 SHA256",
	"Write it again (cloud-init clean --reboot), or delete it", "Write it again, or delete it",
	"it is handed on to the agent", "the agent trusts this machine's store: azp-bootstrap prepare --trust puts it there",
	"config.sh", "config.cmd",
	"vsts-agent-linux-x64-VERSION.tar.gz", "vsts-agent-win-x64-VERSION.zip",
	"vsts-agent-linux-x64-4.248.0.tar.gz", "vsts-agent-win-x64-4.248.0.zip",
	"free space (df)", "free space",
	"Run it with sudo", "Run it in an elevated prompt",
	"; run as root", "; run as an administrator", "or run as root", "or run as an administrator",
	"Run as root", "Run as an administrator",
	"ask as root", "ask as an administrator", "Ask as root", "Ask as an administrator",
	"is not root's alone", "is not the administrators' alone",
)
