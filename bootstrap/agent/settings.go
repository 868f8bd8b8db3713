package agent

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/secret"
)

// Registered is the agent's ID as its file .agent has it (ConfigurationStore.cs, AgentSettings), 0
// if the folder is not configured. It is the one thing that is read of a file that jobs can write,
// and only to compare it.
//
// encoding/json ignores the case of keys, which differs between the agent's serializers; a byte
// order mark is dropped.
func (h Home) Registered() (id int, err error) {
	data, err := h.read(".agent")
	if os.IsNotExist(err) {
		return 0, nil
	}
	var s struct{ AgentID int }
	if err == nil {
		err = json.Unmarshal(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")), &s)
	}
	if err != nil || s.AgentID <= 0 {
		return 0, fault.New(fault.Agent, "%s cannot be read", h.path(".agent")).
			Because(err).
			Hint("The agent is registered anew.")
	}
	return s.AgentID, nil
}

// read reads a file of the agent's folder without following a link out of it.
func (h Home) read(name string) ([]byte, error) {
	root, err := os.OpenRoot(h.Dir)
	if err != nil {
		return nil, err
	}
	defer root.Close() //nolint:errcheck // only read
	return readIn(root, name)
}

func readIn(root *os.Root, name string) ([]byte, error) {
	fi, err := root.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() { // a pipe would hold us up for ever
		return nil, &os.PathError{Op: "read", Path: filepath.Join(root.Name(), name), Err: os.ErrInvalid}
	}
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0) // whatever it is by now
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	return io.ReadAll(io.LimitReader(f, 16<<20))
}

// keptPAT reports whether the agent kept the PAT on disk: against a server without key exchange
// (TFS 2015) .credentials holds the PAT itself (ConfigurationManager.cs, UpdateCredentialData).
func (h Home) keptPAT(pat secret.PAT) bool {
	data, err := h.read(".credentials")
	if err != nil {
		return false
	}
	var c struct{ Scheme string }
	if json.Unmarshal(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")), &c) != nil {
		return true
	}
	return !strings.EqualFold(c.Scheme, "OAuth") || pat.Reveal() != "" && bytes.Contains(data, []byte(pat.Reveal()))
}
