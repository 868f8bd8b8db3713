package health

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"azp-bootstrap/bootstrap/journal"
	"azp-bootstrap/bootstrap/whole"
)

// LastWords is the file in which a daemon leaves why its VM failed. The unit's folder for logs is one
// that Azure's guest agent uploads when somebody collects a VM's logs (Azure/WALinuxAgent,
// azurelinuxagent/ga/logcollector_manifests.py), so that a VM to which there is no
// way in, or that was replaced since, has still said it.
type LastWords struct {
	Dir    string // "" = nowhere
	Redact func(string) string
}

// FromUnit are the last words of a daemon that systemd runs with a folder for logs (systemd.exec(5),
// LogsDirectory).
func FromUnit(redact func(string) string) LastWords {
	return LastWords{Dir: os.Getenv("LOGS_DIRECTORY"), Redact: redact}
}

func (w LastWords) file() string { return filepath.Join(w.Dir, "last-words.txt") }

// Say leaves the status of a VM that failed.
func (w LastWords) Say(version string, s journal.State) error {
	if w.Dir == "" {
		return nil
	}
	var page bytes.Buffer
	host, _ := os.Hostname()
	fmt.Fprintf(&page, "%s azp-bootstrap %s on %s\n", journal.Now().Format("2006-01-02T15:04:05Z07:00"), version, host)
	Render(&page, s, false, Alive{Daemon: Running})
	return whole.Write(w.file(), []byte(w.Redact(page.String())), 0o644)
}

// Unsay removes them: the VM is ready.
func (w LastWords) Unsay() error {
	if w.Dir == "" {
		return nil
	}
	if err := os.Remove(w.file()); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
