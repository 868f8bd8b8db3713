package agent

import (
	"io"
	"os"

	"azp-bootstrap/bootstrap/fault"
)

// openKept opens a file of what root keeps beside the agent's folder. What others own or may write
// there, they say: it counts as if it were damaged.
func (h Home) openKept(name string) (*os.File, error) {
	for _, n := range []string{h.keep(), name} {
		fi, err := h.Tree.Stat(n)
		if err != nil {
			return nil, err
		}
		if !rootsOwn(n, fi) {
			return nil, notAlone(n)
		}
	}
	f, err := h.Tree.Open(name)
	if err != nil {
		return nil, err
	}
	if fi, err := f.Stat(); err != nil || !rootsOwn(name, fi) || !fi.Mode().IsRegular() {
		_ = f.Close()
		return nil, notAlone(name)
	}
	return f, nil
}

func notAlone(name string) error {
	return fault.New(fault.Agent, "%s is not root's alone: others may have written it", name).
		Hint("Remove it, and run azp-bootstrap prepare again (at image time).")
}

func (h Home) readKept(name string) ([]byte, error) {
	f, err := h.openKept(name)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	return io.ReadAll(io.LimitReader(f, 1<<20))
}
