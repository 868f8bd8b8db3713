// Package journal keeps state.json: where this VM stands on its way into Azure DevOps and out of
// it.
//
// A boot can be cut off at any instant, so the journal is what the next one knows. There is one way
// to write it: Journal.Update. What others see of it are copies.
package journal

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/tree"
	"azp-bootstrap/bootstrap/whole"
)

// The phases of a VM's life, in order. From ready on it is watched over.
const (
	Waiting    = "waiting"
	Discover   = "discover"
	Credential = "credential"
	Preflight  = "preflight"
	Register   = "register"
	Service    = "service"
	Online     = "online"
	Ready      = "ready"
	Draining   = "draining"
	Removed    = "removed"
	Failed     = "failed"
)

const schema = 1

// Who may ask a VM to leave.
const (
	ByTerminate = "terminate"
	ByPreempt   = "preempt"
	ByShutdown  = "shutdown"
	ByOperator  = "operator"
	ByRetired   = "retired" // the VM itself (retire)
)

// State is state.json: where this VM stands. It never holds a secret. Nobody keeps one across a
// wait: it is asked for anew.
type State struct {
	Schema     int        `json:"schema"`
	InstanceID string     `json:"instanceId"`
	Phase      string     `json:"phase"`
	Attempt    int        `json:"attempt"`
	Target     Target     `json:"target"`
	Agent      Agent      `json:"agent"`
	StartedAt  time.Time  `json:"startedAt"`
	ReadyAt    *time.Time `json:"readyAt,omitempty"`
	Phases     []Phase    `json:"phases"`
	LastError  *Failure   `json:"lastError,omitempty"`
	// Secret is what the vault says of the secret that was read last, not what is in it.
	Secret *Secret `json:"secret,omitempty"`
	// Registering is set while config.sh may be at work: what a crash leaves behind under this name
	// is this VM's own.
	Registering *Registering `json:"registering,omitempty"`
	// Package is the agent package that image time put in place.
	Package *Package `json:"package,omitempty"`
	// DrainUntil is until when a running job is waited for, in the phase draining.
	DrainUntil *time.Time `json:"drainUntil,omitempty"`
	// Gate is what the first job of this boot waits for, while it does.
	Gate *Gate `json:"gate,omitempty"`
	// Standby is set while the VM stands in a standby pool of its scale set: the agent does not start.
	Standby *Standby `json:"standby,omitempty"`
	// RemovedBy says who asked the VM to leave, from draining on.
	RemovedBy string `json:"removedBy,omitempty"`
	// Metadata is how far jobs get to Azure's metadata service, as of the last look; nil: nobody has looked yet.
	Metadata *Metadata `json:"metadata,omitempty"`
	// Fallback is set once an agent that the daemon registered itself did not come online: this VM's is
	// registered by config.sh from then on.
	Fallback *Fallback `json:"fallback,omitempty"`
	// Paused is set while an operator lets the agent take no job: nothing but his word ends it.
	Paused *Pause `json:"paused,omitempty"`
	// Retire is when the VM leaves by itself, if it does; set while it is configured so.
	Retire *Retire `json:"retire,omitempty"`
	// Once is what is known of the job of an agent that runs one and no more.
	Once *Once `json:"once,omitempty"`
	// HookFailed is the last run of hooks that did not end well, until one of its event does.
	HookFailed *Hook `json:"hookFailed,omitempty"`
}

// Target is what the VM joins: by name as it was configured, and by the IDs under which it is
// looked up from then on. A state of an earlier version has no IDs; they are added at the next
// look.
type Target struct {
	Kind      string `json:"kind"`
	Project   string `json:"project,omitempty"`
	Name      string `json:"name"`
	URL       string `json:"url"`
	ProjectID string `json:"projectId,omitempty"`
	ID        int    `json:"id,omitempty"`     // of the environment, deployment group or pool
	PoolID    int    `json:"poolId,omitempty"` // of the pool behind it
}

// Named reports whether two targets have the same names, at the same URL.
func (t Target) Named(o Target) bool {
	return t.Kind == o.Kind && t.Project == o.Project && t.Name == o.Name && t.URL == o.URL
}

// Agent is the agent of this VM.
type Agent struct {
	Name       string `json:"name"`
	ID         int    `json:"id"`                   // in its pool
	ResourceID int    `json:"resourceId,omitempty"` // of the deployment target or the VM resource
	Version    string `json:"version"`
	Service    string `json:"service"`
	// Registered is what the agent says of when it was registered: whoever takes it over says
	// something else.
	Registered string `json:"registered,omitempty"`
	// By is what registered it, a word of agent.registration; "" = config.sh, or it is not known.
	By string `json:"by,omitempty"`
	// Disabled says that somebody has disabled the agent in Azure DevOps: it takes no job. As it
	// was when Azure DevOps was asked last.
	Disabled bool `json:"disabled,omitempty"`
	// Drained says that a drain has disabled the agent, this VM's or that of the VM it was taken
	// over from: it is enabled when it joins.
	Drained bool `json:"drained,omitempty"`
	// Full says that the disk of the work folder has no room for a job, and that nothing could make
	// any: the agent stays disabled until there is room.
	Full bool `json:"full,omitempty"`
	// Cleaning says that scripts may be at work in the work folder: nobody enables the agent meanwhile.
	Cleaning bool `json:"cleaning,omitempty"`
	// Setup is what the agent was registered with, and Unapplied what of it the configuration names
	// otherwise by now.
	Setup     Setup  `json:"setup,omitzero"`
	Unapplied string `json:"unapplied,omitempty"`
	// Groups are those of agent.groups that the agent was started with, as JoinedGroups has them.
	Groups string `json:"groups,omitempty"`
	Jobs   Jobs   `json:"jobs,omitzero"`
}

// Shut reports whether the agent is kept from jobs for want of room, or while room is made.
func (a Agent) Shut() bool { return a.Full || a.Cleaning }

// JoinedGroups are groups in one text, in whatever order they were given.
func JoinedGroups(all []string) string { return strings.Join(slices.Sorted(slices.Values(all)), ",") }

// Setup is what of the configuration an agent has for as long as it is registered. Zero: an earlier
// version registered it.
type Setup struct {
	Dir  string `json:"dir"`
	Work string `json:"work"`
	User string `json:"user"`
}

// Confirmed reports whether Azure DevOps has shown the agent online, which tells its version.
func (a Agent) Confirmed() bool { return a.Version != "" }

// Package is what the manifest of image time says of the agent package.
type Package struct {
	File       string    `json:"file"`
	SHA256     string    `json:"sha256"`
	PreparedAt time.Time `json:"preparedAt"`
}

// Secret is a version of the vault's secret, and when it ends, if it does.
type Secret struct {
	Version string     `json:"version"`
	Expires *time.Time `json:"expires,omitempty"`
}

// Same reports whether the vault says the same of a secret as before.
func (s *Secret) Same(version string, expires time.Time) bool {
	if s == nil || s.Version != version || (s.Expires == nil) != expires.IsZero() {
		return false
	}
	return s.Expires == nil || s.Expires.Equal(expires)
}

// A Phase that was begun: when, how long it took (waiting included), how often it was asked again.
type Phase struct {
	Name      string    `json:"name"`
	StartedAt time.Time `json:"startedAt"`
	Seconds   float64   `json:"seconds"`
	Retries   int       `json:"retries"`
}

// A Failure is the last error, even if waiting mended it.
type Failure struct {
	Code    string    `json:"code"`
	Message string    `json:"message"`
	Hint    string    `json:"hint"`
	At      time.Time `json:"at"`
	// NextTry is when what failed is tried again, GivesUp until when that goes on; zero: it is not, or
	// without end.
	NextTry time.Time `json:"nextTry,omitzero"`
	GivesUp time.Time `json:"givesUp,omitzero"`
}

// A Pause keeps the agent of a VM, which stays in its target, from taking jobs. It is the VM's, not the
// agent's: one that is registered meanwhile takes none either.
type Pause struct {
	Since  time.Time `json:"since"`
	By     string    `json:"by"` // the account that asked for it
	Reason string    `json:"reason,omitempty"`
	// Held says that the server was asked to give the agent no job. One that is not was cut off before.
	Held bool `json:"held,omitempty"`
	// Told says that the hooks of the pause were run, or are.
	Told bool `json:"told,omitempty"`
}

// Registering is the intention to register a name; Existing is the ID of the agent that stood under
// it before, 0 if none.
type Registering struct {
	Name     string `json:"name"`
	Existing int    `json:"existing"`
	Drained  bool   `json:"drained,omitempty"` // it stood there disabled by a drain
	Target   Target `json:"target"`            // where
	// Before are jobs that the agent stood there with: another VM's.
	Before Requests `json:"before,omitzero"`
}

// A Hook is a run of an event's hooks that did not end well.
type Hook struct {
	Event   string    `json:"event"`
	Message string    `json:"message"`
	At      time.Time `json:"at"`
}

// A Fallback says since when config.sh registers this VM's agent in place of the daemon, and why.
type Fallback struct {
	At  time.Time `json:"at"`
	Why string    `json:"why"`
}

// Gate says what the agent's start waits for ("cloud-init", "the start script 10-disks"), and since when.
type Gate struct {
	WaitsFor string    `json:"waitsFor"`
	Since    time.Time `json:"since"`
}

// Metadata says how far the jobs' account gets to Azure's metadata service (closed, open, unknown), and why that
// is known or not.
type Metadata struct {
	Access string `json:"access"`
	Why    string `json:"why"`
}

// Standby says since when a VM is known to stand in a standby pool.
type Standby struct {
	Since time.Time `json:"since"`
}

// Held reports whether the agent does not start because its VM stands in a standby pool.
func (s State) Held() bool { return s.Standby != nil && s.Phase != Draining && s.Phase != Removed }

// File is where the state of a VM is kept.
func File(dir string) string { return filepath.Join(dir, "state.json") }

// maxState bounds what is read: honest state has a few kilobytes.
const maxState = 1 << 20

// Read reads a VM's state. A VM that has none is new: Phase is "waiting" and Attempt 0. damaged
// says that what stood there was no state.
func Read(dir string) (s State, damaged error, err error) { return ReadIn(tree.Tree{}, dir) }

// ReadIn is Read for an image.
func ReadIn(t tree.Tree, dir string) (s State, damaged error, err error) {
	fresh := New()
	file := File(dir)
	fi, err := t.Lstat(file)
	if errors.Is(err, fs.ErrNotExist) {
		return fresh, nil, nil
	}
	if err == nil && !fi.Mode().IsRegular() {
		return fresh, nil, fault.New(fault.State, "%s is not a regular file (%s)", file, fi.Mode().Type()).
			Hint("Somebody put it there: look who, delete it and run again.")
	}
	var data []byte
	if err == nil {
		data, err = readWhole(t, file, fi)
	}
	if err != nil {
		return fresh, nil, fault.New(fault.State, "the state").
			Because(err).
			Hint("Check the rights of %s; run as root.", dir)
	}
	var version struct{ Schema int }
	if err := json.Unmarshal(data, &version); err == nil && version.Schema > schema {
		return fresh, nil, fault.New(fault.State, "%s was written by a newer azp-bootstrap (schema %d, this one "+
			"knows %d)", file, version.Schema, schema).
			Hint("Install that version again, or delete the file: the VM then boots as new and takes its agent over.")
	}
	if err := json.Unmarshal(data, &s); err != nil {
		return fresh, err, nil
	}
	if s.Schema != schema || s.Phase == "" {
		return fresh, fmt.Errorf("it has no schema or phase"), nil
	}
	return s, nil, nil
}

// readTries is how often a state is read that is not the file any more by then.
const readTries = 10

// readWhole reads a state of an honest size. On a full disk what was state.json is written over later, maybe
// while it is read.
func readWhole(t tree.Tree, file string, fi fs.FileInfo) (data []byte, err error) {
	for range readTries {
		if fi.Size() > maxState {
			return nil, nil
		}
		if data, err = t.ReadFile(file); err != nil {
			return nil, err
		}
		was := fi
		if fi, err = t.Lstat(file); err != nil || same(was, fi) {
			return data, err
		}
	}
	return data, nil
}

func same(a, b fs.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// setAside renames damaged state, so that it can be looked at.
func setAside(dir string) (string, error) {
	to := File(dir) + ".damaged"
	return to, os.Rename(File(dir), to)
}

// write writes the state whole, on a full disk, too: then spared is true.
func (s State) write(dir string) (spared bool, err error) {
	s.Schema = schema
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return false, err
	}
	spared, err = whole.WriteSpared(File(dir), append(data, '\n'), 0o644)
	if err != nil {
		return false, fault.New(fault.State, "the state cannot be written").
			Because(err).
			Hint("Check free space and rights of %s (--state-dir); run as root.", dir)
	}
	return spared, nil
}

// New is the state of a VM of which nothing is known yet.
func New() State { return State{Schema: schema, Phase: Waiting, Phases: []Phase{}} }

// copied shares nothing with s.
func (s State) copied() State {
	s.Phases = slices.Clone(s.Phases)
	s.ReadyAt, s.DrainUntil = copyOf(s.ReadyAt), copyOf(s.DrainUntil)
	s.LastError, s.Registering, s.Package = copyOf(s.LastError), copyOf(s.Registering), copyOf(s.Package)
	s.Paused = copyOf(s.Paused)
	s.Retire, s.Once = copyOf(s.Retire), copyOf(s.Once)
	s.Gate, s.HookFailed = copyOf(s.Gate), copyOf(s.HookFailed)
	s.Metadata = copyOf(s.Metadata)
	s.Standby = copyOf(s.Standby)
	s.Fallback = copyOf(s.Fallback)
	if s.Secret = copyOf(s.Secret); s.Secret != nil {
		s.Secret.Expires = copyOf(s.Secret.Expires)
	}
	return s
}

func copyOf[T any](p *T) *T {
	if p == nil {
		return nil
	}
	v := *p
	return &v
}
