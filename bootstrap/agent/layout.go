package agent

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"azp-bootstrap/bootstrap/fault"
)

// ErrGutted says that the program that starts the agent is gone from its folder.
var ErrGutted = errors.New("it is gone")

// layout says what the agent's folder is: fresh from the package and never used, or used on behalf
// of an instance.
type layout struct {
	Fresh      bool   `json:"fresh"`
	SHA256     string `json:"sha256"`
	InstanceID string `json:"instanceId,omitempty"`
}

// ours refuses a folder that holds something we did not put there: laying out replaces it whole.
func (h Home) ours() error {
	if err := h.Guarded(); err != nil {
		return err
	}
	entries, err := os.ReadDir(h.Dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) == 0 {
		return nil
	}
	if err != nil {
		return diskFault(err, "the agent's folder "+h.Dir)
	}
	if _, err := h.readKept(h.layoutFile()); err == nil {
		return nil
	}
	return fault.New(fault.Agent, "%s holds files that azp-bootstrap did not put there", h.Dir).
		Hint("Name another folder in agent.dir, or empty this one: it would be replaced whole.")
}

func (h Home) layout() (l layout) {
	if data, err := h.readKept(h.layoutFile()); err == nil {
		_ = json.Unmarshal(data, &l) // unreadable = not fresh
	}
	return l
}

func (h Home) setLayout(l layout) error {
	data, err := json.Marshal(l)
	if err != nil {
		return err
	}
	return diskFault(h.Tree.Write(h.layoutFile(), append(data, '\n'), 0o644), h.layoutFile())
}

func (h Home) fresh(sum string) bool {
	l := h.layout()
	_, err := h.Tree.Stat(h.path(Script))
	return err == nil && l.Fresh && l.SHA256 == sum
}

// inUse reports whether the folder was handed to the service user on behalf of an instance.
func (h Home) inUse() bool { return h.layout().InstanceID != "" }

// stage unpacks the verified package beside the folder.
func (h Home) stage(m Manifest) error {
	if err := h.verify(h.archive(m), m.SHA256); err != nil {
		return err
	}
	if err := h.Tree.RemoveAll(h.staged()); err != nil {
		return diskFault(err, h.staged())
	}
	if err := h.unpack(h.archive(m), h.staged()); err != nil {
		_ = h.Tree.RemoveAll(h.staged())
		return err
	}
	if fi, err := h.Tree.Stat(filepath.Join(h.staged(), Script)); err != nil || !fi.Mode().IsRegular() {
		_ = h.Tree.RemoveAll(h.staged())
		return fault.New(fault.Agent, "%s is not an agent package: it has no %s", h.archive(m), Script).
			Hint("Give the package of this platform from the agent's release page " +
				"(vsts-agent-linux-x64-VERSION.tar.gz).")
	}
	if err := h.foreign(h.staged()); err != nil {
		_ = h.Tree.RemoveAll(h.staged())
		return err
	}
	return nil
}

// tryUnpack makes sure that the package can be laid out, without doing it.
func (h Home) tryUnpack(m Manifest) error {
	if err := h.stage(m); err != nil {
		return err
	}
	return diskFault(h.Tree.RemoveAll(h.staged()), h.staged())
}

// layFresh makes the agent's folder anew from the verified package. Half-made work is never seen
// under the folder's own name.
func (h Home) layFresh(m Manifest) error {
	if err := h.stage(m); err != nil {
		return err
	}
	// "not fresh" is on disk before the old folder goes and "fresh" only when the new one is whole.
	if err := h.setLayout(layout{SHA256: m.SHA256}); err != nil {
		return err
	}
	if err := h.layAside(); err != nil {
		return diskFault(err, h.Dir)
	}
	if err := h.Tree.Rename(h.staged(), h.Dir); err != nil {
		return diskFault(err, h.Dir)
	}
	h.clear()
	return h.setLayout(layout{Fresh: true, SHA256: m.SHA256})
}

// asideName begins the names of folders that were replaced, in root's own folder.
const asideName = "old-"

// layAside takes the old folder out of the way. It goes whole, with whatever a job has mounted in
// it, which need not let itself be removed: that is tried again with each registration. A folder
// that is a mount of its own only becomes empty.
func (h Home) layAside() error {
	err := h.Tree.Rename(h.Dir, filepath.Join(h.keep(), asideName+strconv.FormatInt(time.Now().UnixNano(), 36)))
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return h.Tree.RemoveAll(h.Dir)
}

// lay makes the folder fresh from the package, and root's. One that prepare left fresh is used as
// it is.
func (h Home) lay() (Manifest, error) {
	if err := h.ours(); err != nil {
		return Manifest{}, err
	}
	m, err := h.Manifest()
	if err != nil {
		return m, err
	}
	h.clear()
	if h.fresh(m.SHA256) {
		return m, nil
	}
	return m, h.layFresh(m)
}

// hand gives a folder that was laid to the one who configures it, on behalf of an instance: a user
// number apart, or, where that is 0, the service user.
func (h Home) hand(m Manifest, instanceID string) (apart int, err error) {
	if err := h.setLayout(layout{SHA256: m.SHA256, InstanceID: instanceID}); err != nil {
		return 0, err
	}
	if apart, err = h.configurer(); err != nil || apart == 0 {
		return 0, errors.Join(err, h.handOver())
	}
	return apart, h.giveTo(apart, apart)
}

// LaidFor says on behalf of which instance the folder was used last; "" if of none.
func (h Home) LaidFor() string { return h.layout().InstanceID }
