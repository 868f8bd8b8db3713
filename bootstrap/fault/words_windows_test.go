package fault

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// ofLinux are words that nobody can act upon here.
var ofLinux = regexp.MustCompile(`systemctl|journalctl|sudo|\broot\b|chown|chmod|usermod|groupadd|useradd|getent|\bapt\b|\bdnf\b|` +
	`/etc/|/opt/|/var/|/run\b|/proc\b|timedatectl|chronyc|findmnt|cloud-init|\bdf\b|systemd|\.tar\.gz|config\.sh|install -d`)

// met are the messages that this system never has: what they are about is not for Windows, or is in the files of
// another system.
var neverMet = regexp.MustCompile(`^(` + strings.Join([]string{
	`agent\.groups`, `the group`, `the groups`, `jobs cannot be kept`, `agent\.user is empty`, `agent\.user … is root`, `agent\.user: jobs`,
	`hooks\.run: not`, `start\.run: not`, `start`, `the start script`, `cloud-init`, `the agent's start`, `the folder of`, `the gate`,
	`… is masked`, `the service … is masked`, `the unit`, `… is the package's`, `… stands in front`, `systemd does not`, `this system does not`,
	`only root can`, `the daemon does not start at boot`, `the service manager`, `config.sh needs a user number`, `the account`,
	`the file system of … is mounted noexec`, `this VM could not be powered off`, `agent\.dir … is not safe`, `agent\.work …`,
	`the system's certificates`, `the path of this program`, `the agent's service may not start`, `…: …, and … are run as root`,
	`… cannot be run`, `the agent's service …: …`, `the service … cannot be …: …: …`, `the service … does not start: …: …`,
	`the image's root folder`, `… lies on …`, `the agent's native libraries`, `the agent: …`, `is empty: what was written`, `the script that is to run`,
	`this process cannot`, `the instance`, `… does not take the registration`, `the caller's own account`, `the line … of the agent's unit`,
}, "|") + `)`)

// TestHintsAreOfWindows: each message and next step of the documentation, in this system's words, names nothing of Linux.
func TestHintsAreOfWindows(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("..", "..", "docs", "messages.md"))
	if err != nil {
		t.Fatal(err)
	}
	message, said := "", 0
	for line := range strings.Lines(string(data)) {
		line = strings.NewReplacer(`\_`, `_`, `\<`, `<`, `\$`, `$`).Replace(strings.TrimRight(line, "\r\n"))
		switch {
		case strings.HasPrefix(line, "- **"):
			message = strings.Trim(strings.TrimPrefix(line, "- "), "*")
		case !strings.HasPrefix(line, "  ") || message == "":
			continue
		}
		said++
		if neverMet.MatchString(message) {
			continue
		}
		if word := ofLinux.FindString(Here(line)); word != "" {
			t.Errorf("%s\n  names %q: %s", message, word, Here(line))
		}
	}
	if said < 300 {
		t.Errorf("only %d lines were read", said)
	}
}
