// Package agent is the Azure Pipelines agent on this VM's disk: its package, its folder, its
// configuration by its own config.sh, its service, and what is left of it to wipe.
//
// The agent's folder belongs to the service user once jobs may run, so nothing in it is trusted by
// root afterwards: root reads from it only with care, runs nothing of it, and lays it anew from the
// package, which root owns, before a PAT is brought near it again.
package agent

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/tree"
	"azp-bootstrap/bootstrap/whole"
)

// A Home is the place of one agent: its folder, and beside it (".package") what root keeps: the
// package, its manifest and the mark that tells a fresh folder from a used one.
type Home struct {
	Dir  string
	User string    // the account the agent runs as; "" = the caller's own
	Tree tree.Tree // the image that Dir lies in; the zero one is this machine
}

func (h Home) keep() string         { return h.Dir + ".package" }
func (h Home) manifestFile() string { return filepath.Join(h.keep(), "manifest.json") }
func (h Home) layoutFile() string   { return filepath.Join(h.keep(), "layout.json") }
func (h Home) path(n string) string { return filepath.Join(h.Dir, n) }

// staged is where a package is unpacked before it takes the folder's place: in root's folder, where
// nothing of anybody else's can have the name.
func (h Home) staged() string { return filepath.Join(h.keep(), "new") }

// archive is root's copy of the package. Its name holds its sum, so that a new package of the same
// name does not take the old one's place before all is well.
func (h Home) archive(m Manifest) string { return filepath.Join(h.keep(), m.SHA256[:16]+"-"+m.File) }

// A Manifest records what prepare put in place.
type Manifest struct {
	File       string    `json:"file"`
	SHA256     string    `json:"sha256"`
	Version    string    `json:"version,omitempty"` // from the file's name, if it tells
	PreparedAt time.Time `json:"preparedAt"`
	User       string    `json:"user"`
	// Source is where it came from: a URL, or the file's name.
	Source string `json:"source,omitempty"`
	// Dependencies says what became of the native libraries that the agent needs.
	Dependencies string `json:"dependencies,omitempty"`
	// By is the version of azp-bootstrap that prepared it.
	By string `json:"by,omitempty"`
}

var packageName = regexp.MustCompile(
	`(?:vsts|pipelines)-agent-[a-z]+-[a-z0-9-]+?-(\d+\.\d+\.\d+)\.(?:tar\.gz|tgz|zip)$`,
)

// Prepare puts the package in place: verified against its SHA-256, kept as root's, and laid out, so
// that boot downloads and unpacks nothing. It is idempotent; report hears what it does. A folder
// that an agent uses is not touched: there the package is kept for the next registration.
func (h Home) Prepare(file, sum string, report func(format string, args ...any)) (Manifest, error) {
	sum = strings.ToLower(strings.TrimSpace(sum))
	if !isSum(sum) {
		return Manifest{}, fault.New(fault.Usage, "--sha256 %q is not a SHA-256 sum", sum).
			Hint("Give the 64 hexadecimal digits that the agent's release page lists for this file.")
	}
	if err := h.ours(); err != nil {
		return Manifest{}, err
	}
	if err := h.executable(); err != nil {
		return Manifest{}, err
	}
	if m, there := h.InPlace(sum); there {
		report("the package is in place already: %s, SHA-256 verified", h.archive(m))
		return m, nil
	}
	if err := h.ensureUser(report); err != nil {
		return Manifest{}, err
	}
	m := Manifest{
		File:       filepath.Base(file),
		SHA256:     sum,
		PreparedAt: time.Now().UTC().Truncate(time.Second),
		User:       h.User,
	}
	if v := packageName.FindStringSubmatch(m.File); v != nil {
		m.Version = v[1]
	}
	if err := os.MkdirAll(h.keep(), 0o755); err != nil { //nolint:gosec // readable on purpose: nothing secret
		return Manifest{}, diskFault(err, "the package's folder "+h.keep())
	}
	if err := h.protectKept(); err != nil {
		return Manifest{}, err
	}
	report("verifying %s", file)
	if err := copyVerified(file, h.archive(m), sum); err != nil {
		return Manifest{}, err
	}
	lay := h.layFresh
	if h.inUse() {
		report(
			"the agent in %s is registered and stays as it is: the package is kept for its next registration",
			h.Dir,
		)
		lay = h.tryUnpack
	} else {
		report("unpacking into %s", h.Dir)
	}
	if err := lay(m); err != nil {
		if old, e := h.Manifest(); e != nil || h.archive(old) != h.archive(m) {
			_ = os.Remove(h.archive(m)) // what was there before stays as it was
		}
		return Manifest{}, err
	}
	if err := h.Record(m); err != nil {
		return Manifest{}, err
	}
	return m, h.keepOnly(m)
}

// InPlace reports whether the package of this sum is where prepare would put it, as it would.
func (h Home) InPlace(sum string) (Manifest, bool) {
	m, err := h.Manifest()
	if err != nil || m.SHA256 != sum || m.User != h.User {
		return m, false
	}
	return m, (h.fresh(sum) || h.inUse()) && h.verify(h.archive(m), sum) == nil
}

// Record writes the manifest.
func (h Home) Record(m Manifest) error {
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	return diskFault(whole.Write(h.manifestFile(), append(data, '\n'), 0o644), h.manifestFile())
}

// archiveName is what archive makes.
var archiveName = regexp.MustCompile(`^[0-9a-f]{16}-.`)

// keepOnly removes earlier packages, and what an interrupted prepare left.
func (h Home) keepOnly(m Manifest) error {
	h.clear()
	entries, err := os.ReadDir(h.keep())
	for _, e := range entries {
		name := filepath.Join(h.keep(), e.Name())
		if err == nil && name != h.archive(m) && e.Type().IsRegular() && archiveName.MatchString(e.Name()) {
			err = os.Remove(name)
		}
	}
	return diskFault(err, h.keep())
}

// clear removes what runs that were killed left behind.
func (h Home) clear() {
	_ = h.Tree.RemoveAll(h.staged())
	h.clearAside()
	whole.Clear(h.keep(), filepath.Base(h.manifestFile()), filepath.Base(h.layoutFile()))
}

// aside is held while old folders are removed.
var aside sync.Mutex

// clearAside removes folders that were replaced. What a job has left there may be huge, and a
// process of its that still stands in it may make more of it than can be removed: nothing waits for
// that for long.
func (h Home) clearAside() {
	old, _ := h.Tree.Glob(filepath.Join(h.keep(), asideName+"*"))
	if len(old) == 0 || !aside.TryLock() {
		return
	}
	done := make(chan struct{})
	go func() {
		defer aside.Unlock()
		defer close(done)
		for _, name := range old {
			_ = h.Tree.RemoveAll(name)
		}
	}()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
	}
}

func isSum(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == sha256.Size
}

// Manifest reads what prepare recorded.
func (h Home) Manifest() (m Manifest, err error) {
	data, err := h.readKept(h.manifestFile())
	if err == nil {
		err = json.Unmarshal(data, &m)
	}
	if err == nil && (m.File == "" || m.File != filepath.Base(m.File) || !isSum(m.SHA256)) {
		err = errors.New("the manifest names no file and sum")
	}
	if err != nil {
		return m, fault.New(fault.Agent, "there is no agent package for %s", h.Dir).Because(err).
			Hint("Put it in place at image time: azp-bootstrap prepare --lock FILE (--pin VERSION writes one; --package FILE without a way out).")
	}
	return m, nil
}

// Verify checks the package that prepare put in place against its sum.
func (h Home) Verify() (Manifest, error) {
	m, err := h.Manifest()
	if err == nil {
		err = h.Guarded()
	}
	if err == nil {
		err = h.verify(h.archive(m), m.SHA256)
	}
	return m, err
}

// copyVerified copies a file and checks what it copied, so that what is verified is what is kept.
func copyVerified(from, to, sum string) error {
	in, err := os.Open(from) //nolint:gosec // the operator names it
	if err != nil {
		return fault.New(fault.Agent, "the agent package").Because(err).Hint("Name the package file with --package.")
	}
	defer in.Close() //nolint:errcheck // only read
	tmp, err := os.CreateTemp(filepath.Dir(to), whole.Scratch)
	if err != nil {
		return diskFault(err, to)
	}
	defer os.Remove(tmp.Name()) //nolint:errcheck // renamed away on success
	hash := sha256.New()
	_, err = io.Copy(io.MultiWriter(tmp, hash), in)
	if err == nil {
		err = tmp.Sync()
	}
	if e := tmp.Close(); err == nil {
		err = e
	}
	if err != nil {
		return diskFault(err, to)
	}
	if got := hex.EncodeToString(hash.Sum(nil)); got != sum {
		return mismatch(from, got, sum)
	}
	if err := os.Chmod(tmp.Name(), 0o644); err != nil { //nolint:gosec // nothing secret in it
		return diskFault(err, to)
	}
	return diskFault(os.Rename(tmp.Name(), to), to)
}

func (h Home) verify(file, sum string) error {
	f, err := h.openKept(file)
	if err != nil {
		return fault.New(fault.Agent, "the agent package is gone").Because(err).
			Hint("Run azp-bootstrap prepare again (at image time).")
	}
	defer f.Close() //nolint:errcheck // only read
	hash := sha256.New()
	if _, err := io.Copy(hash, f); err != nil {
		return fault.New(fault.Agent, "the agent package %s cannot be read", file).Because(err)
	}
	if got := hex.EncodeToString(hash.Sum(nil)); got != sum {
		return mismatch(file, got, sum)
	}
	return nil
}

func mismatch(file, got, want string) error {
	return fault.New(fault.Agent, "%s is not the package it should be: its SHA-256 is %s, not %s", file, got, want).
		Hint("It is damaged, cut short or another version: download it again and take the sum from the agent's " +
			"release page.")
}

// diskFault classifies an error of the disk under the agent; nil stays nil.
func diskFault(err error, what string) error {
	if err == nil {
		return nil
	}
	var own *fault.Error
	if errors.As(err, &own) {
		return err
	}
	return fault.New(fault.Agent, "%s", what).Because(err).
		Hint("Check free space (df), rights and that the file system is not read-only; run as root.")
}
