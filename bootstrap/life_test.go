//go:build linux

package bootstrap_test

import (
	"context"
	"flag"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"azp-bootstrap/bootstrap"
	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/journal"
)

// A part is a part of a VM's life while which a fault strikes. Beside the VM there is another one in its pool, which nothing of
// it may touch.
type part struct {
	name  string
	what  string                                      // for the page
	vm    func(m *machine)                            // how it is configured
	comes func(ctx context.Context, p *partly)        // what is before the fault; nil = the VM has not booted yet
	does  func(ctx context.Context, m *machine) error // the command of which it is; nil = the daemon does it by itself
	later func(m *machine) bool                       // the fault waits for this; nil = it strikes at once
	done  func(m *machine) bool                       // and the VM is as it should be
	takes time.Duration                               // undisturbed, at most
	once  bool                                        // its agent may begin one job
}

// partly is a VM in a part of its life.
type partly struct {
	*machine
	end func() // of its daemon
}

// daemon lets the VM's daemon run.
func (p *partly) daemon(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	o := p.options(5 * time.Minute)
	o.Once, o.Set = false, append(o.Set, "health.listen=")
	go func() { defer close(ended); _ = bootstrap.Run(ctx, o) }()
	p.end = func() { cancel(); <-ended }
}

// ready lets the daemon bring the VM up.
func (p *partly) ready(ctx context.Context) {
	p.daemon(ctx)
	p.until(5*time.Minute, p.is(journal.Ready))
}

// works gives the VM's agent a job, which begins.
func (p *partly) job(takes float64) {
	n := len(p.jobsBegun())
	p.azure.Queue(p.agentName(), "", "its job", "", takes)
	p.until(time.Minute, func() bool { return len(p.jobsBegun()) > n })
}

// until waits until something is so, and reports whether it is.
func (p *partly) until(limit time.Duration, is func() bool) bool {
	for end := time.Now().Add(limit); !is(); time.Sleep(time.Second) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}

func (m *machine) itsAgent() (enabled, there bool) {
	for _, a := range m.azure.Agents() {
		if a.InstanceID == m.instance() {
			return !a.Disabled, true
		}
	}
	return false, false
}

func (m *machine) takesJobs() bool {
	enabled, there := m.itsAgent()
	return enabled && there && m.isRunning()
}

func parts() []part {
	gated := func(m *machine) {
		m.startScript(func(ctx context.Context) int { return m.script(ctx, 2*time.Minute) })
	}
	passed := func(m *machine) bool { return m.hasPassed() && m.is(journal.Ready)() && m.takesJobs() }
	gone := func(m *machine) bool { return m.goesAway() }
	busy := func(ctx context.Context, p *partly) { p.ready(ctx); p.job(60) }
	after := func(long time.Duration) func(context.Context, *partly) {
		return func(ctx context.Context, p *partly) { p.ready(ctx); time.Sleep(long) }
	}
	return []part{
		{
			name: "gate", what: "A new VM with a start script that takes two minutes boots, until its agent takes jobs.",
			vm: gated, done: passed, takes: 150 * time.Second,
		},
		{
			name: "gate of a later boot", what: "A VM that is ready is rebooted, and its start script runs again.",
			vm: gated, done: passed, takes: 150 * time.Second,
			comes: func(ctx context.Context, p *partly) { p.ready(ctx); p.end(); p.off(); p.said.Reset(); p.daemon(ctx) },
		},
		{
			name: "work disk", what: "While a job of three minutes runs the work disk gets full: until scripts have made room, and the agent takes jobs.",
			comes: func(ctx context.Context, p *partly) { p.ready(ctx); p.job(180); p.full.Store(true) },
			done:  func(m *machine) bool { return !m.full.Load() && m.takesJobs() && !m.journal().Agent.Cleaning }, takes: 6 * time.Minute,
		},
		{
			name: "standby pool", what: "A VM that is registered, and held in a standby pool, leaves the pool: until its agent takes jobs.",
			comes: func(ctx context.Context, p *partly) {
				p.azure.SetStandby(p.machine.name, "true")
				p.daemon(ctx)
				p.until(5*time.Minute, func() bool { return p.journal().Held() && p.journal().Agent.ID != 0 })
				time.Sleep(time.Minute)
				p.azure.SetStandby(p.machine.name, "false")
			},
			done: func(m *machine) bool { return m.is(journal.Ready)() && m.takesJobs() }, takes: 10 * time.Second,
		},
		{
			name: "pause", what: "`azp-bootstrap pause`, while a job of three minutes runs.",
			comes: func(ctx context.Context, p *partly) { p.ready(ctx); p.job(180) },
			does: func(ctx context.Context, m *machine) error {
				_, err := bootstrap.Pause(ctx, m.options(5*time.Minute), bootstrap.Pausing{By: "alice"})
				return err
			},
			done: func(m *machine) bool { on, there := m.itsAgent(); return !on && there && m.journal().Paused != nil }, takes: 10 * time.Second,
		},
		{
			name: "resume", what: "`azp-bootstrap resume`.",
			comes: func(ctx context.Context, p *partly) {
				p.ready(ctx)
				if _, f := p.pauses(ctx, pausing); f != nil {
					p.t.Error(f)
				}
			},
			does: func(ctx context.Context, m *machine) error {
				_, err := bootstrap.Resume(ctx, m.options(5*time.Minute))
				return err
			},
			done: func(m *machine) bool { return m.takesJobs() && m.journal().Paused == nil }, takes: 10 * time.Second,
		},
		{
			name: "one job", what: "`retire: {jobs: 1, then: delete}`, from the middle of its job until Azure is asked to take the VM.",
			vm:    func(m *machine) { m.retire = "{jobs: 1, then: delete}" },
			comes: busy, done: gone, takes: 70 * time.Second, once: true,
		},
		{
			name: "idle", what: "`retire: {idle: 10m}`, from its ninth minute without a job.",
			vm:    func(m *machine) { m.retire = "{idle: 10m}" },
			comes: after(9 * time.Minute), done: gone, takes: 75 * time.Second,
		},
		{
			name: "age", what: "`retire: {age: 10m}`, with a job of three minutes at its end.",
			vm:    func(m *machine) { m.retire = "{age: 10m}" },
			comes: func(ctx context.Context, p *partly) { after(8*time.Minute)(ctx, p); p.job(180) },
			done:  gone, takes: 4 * time.Minute,
		},
		{
			name: "delete", what: "Its agent is gone, and Azure Resource Manager is asked to delete the VM.",
			vm:    func(m *machine) { m.retire = "{jobs: 1, then: delete}" },
			comes: busy, later: (*machine).hasLeft, done: gone, takes: 70 * time.Second, once: true,
		},
	}
}

func (m *machine) hasLeft() bool {
	s, _, err := journal.Read(m.state)
	return err == nil && s.Phase == journal.Removed
}

// script is one of root's, which hangs if that is the fault.
func (m *machine) script(ctx context.Context, takes time.Duration) int {
	for begun := time.Now(); m.hangs.Load() || time.Since(begun) < takes; {
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return -1
		}
	}
	return 0
}

// An affliction is what strikes a VM in a part of its life.
type affliction struct {
	name  string
	at    string // a host; "" = the VM itself
	set   func(m *machine)
	on    func(t *testing.T, m *machine)
	off   func(t *testing.T, m *machine)
	count func() int32 // how often it struck; nil = that is known
	want  string       // a word for each part
}

const (
	stays    = 12 * time.Minute // longer than a part takes
	goesOn   = time.Hour        // at most, until what was called off is over
	unstruck = 20 * time.Second // more than undisturbed that a part may take
)

// ofLog finds the class of a line with its next step in a VM's log.
var ofLog = regexp.MustCompile(`class=([a-z-]+) .*hint=`)

// meet lets a VM meet an affliction in this part of its life, and says in a word what came of it:
//
//   - nobody asked the one that was struck
//     =        as if nothing were
//   - later than that, while it lasted
//     ~class   when it was over; until then the VM said so, with its next step
//     !class   the command was refused at once, with its next step; again, when it was over, it did its work
func (p part) meet(t *testing.T, dir string, a affliction) (word string) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		defer over(cancel)
		f := newFleet(ctx, t, dir, 2, nil)
		other := f.machine(1)
		other.pool = "Default"
		if f := other.once(ctx, 5*time.Minute); f != nil {
			t.Fatal(f)
		}
		v := &partly{machine: f.machine(0)}
		v.pool, v.serves = "Default", true
		if err := os.MkdirAll(v.state, 0o700); err != nil {
			t.Fatal(err)
		}
		v.hasHooks()
		v.hasAFolder()
		if p.vm != nil {
			p.vm(v.machine)
		}
		if a.set != nil {
			a.set(v.machine)
		}
		if p.comes != nil {
			p.comes(ctx, v)
		}
		defer func() {
			if t.Failed() {
				t.Logf("%s, %s at %q: %s\n%s\n%v\n%+v", p.name, a.name, a.at, word, v.said.String(), v.azure.Agents(), v.azure.Jobs())
			}
			if v.end != nil {
				v.end()
			}
			v.stop()
		}()
		v.said.Reset()
		ends := v.keepsPromises(ctx, t, p, other)
		word = p.struck(ctx, t, v, a)
		ends()
	})
	return word
}

func (p part) struck(ctx context.Context, t *testing.T, v *partly, a affliction) (word string) {
	m := v.machine
	for a.count == nil && p.later != nil && !p.later(m) { // the network's are asked for by themselves
		time.Sleep(10 * time.Millisecond)
	}
	begun := time.Now()
	a.on(t, m)
	if p.comes == nil {
		v.daemon(ctx)
	}
	if p.once { // which it must not take
		m.azure.Queue(m.agentName(), "", "a second job", "", 30)
	}
	done := func() bool { return p.done(m) }
	var err error
	if p.does != nil {
		err = p.does(ctx, m)
	}
	took := time.Since(begun)
	if err == nil {
		v.until(p.takes+stays, done)
		took = time.Since(begun)
	}
	is, n := done(), int32(1)
	if a.count != nil {
		n = a.count()
	}
	switch {
	case is && n == 0:
		word = "-"
	case is && took <= p.takes+unstruck:
		word = "="
	case is:
		word = "+"
	case err != nil:
		f := fault.From(err)
		if f.Advice == "" {
			t.Errorf("no next step: %s", err)
		}
		word = "~" + f.Class.Code
		if took < time.Minute {
			word = "!" + f.Class.Code
		}
	default:
		word = "~" + m.saysWhy()
	}
	a.off(t, m)
	if p.does != nil && !is && !v.until(goesOn, func() bool { err = p.does(ctx, m); return err == nil }) {
		t.Errorf("when it is over: %s", err)
	}
	if !v.until(goesOn, done) {
		t.Errorf("when it is over, it does not go on")
	}
	return word
}

// saysWhy is the class that the journal or else the log gives, with a next step.
func (m *machine) saysWhy() string {
	if s, _, err := journal.Read(m.state); err == nil && s.LastError != nil && s.LastError.Hint != "" {
		return s.LastError.Code
	}
	all := ofLog.FindAllStringSubmatch(m.said.String(), -1)
	if len(all) == 0 {
		return "nothing"
	}
	return all[len(all)-1][1]
}

// keepsPromises looks all the while whether no job is cut, the other VM's agent is as it was, no VM goes before its
// agent, and none runs a second job that may run one.
func (v *partly) keepsPromises(ctx context.Context, t *testing.T, p part, other *machine) (ends func()) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	look := func() {
		if enabled, there := other.itsAgent(); !enabled || !there {
			t.Errorf("the agent of another VM: %v", v.azure.Agents())
		}
		if _, there := v.itsAgent(); there && v.goesAway() {
			t.Error("the VM goes before its agent")
		}
		if n := len(v.jobsBegun()); p.once && n > 1 {
			t.Errorf("%d jobs were begun", n)
		}
		for _, j := range v.azure.Jobs() {
			if !j.Received.IsZero() && j.Result != "" && j.Result != "succeeded" {
				t.Errorf("a job was cut: %+v", j)
			}
		}
	}
	go func() {
		defer close(ended)
		for ctx.Err() == nil && !t.Failed() {
			look()
			time.Sleep(time.Second)
		}
	}()
	return func() {
		cancel()
		<-ended
		look()
		if err := v.sound(); err != nil {
			t.Error(err)
		}
	}
}

// hasHooks gives the VM a script for each event of its life.
func (m *machine) hasHooks() {
	dir := filepath.Join(m.dir, "hooks-of-"+m.name)
	for _, event := range []string{"afterJob", "paused", "leaving", "failed"} {
		at := filepath.Join(dir, event)
		if err := os.MkdirAll(at, 0o755); err != nil {
			m.t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(at, "10-tell"), []byte("#!/bin/sh\n"), 0o755); err != nil { //nolint:gosec // a script
			m.t.Fatal(err)
		}
	}
	m.set = append(m.set, "hooks.run="+dir)
	m.program = func(ctx context.Context, _ agent.Program) int { return m.script(ctx, time.Second) }
}

// hasAFolder gives the VM a work folder, on a disk that gets full.
func (m *machine) hasAFolder() {
	m.room = func() agent.Room {
		if m.full.Load() {
			return agent.Room{Folder: "/mnt/work", Free: 1 << 30}
		}
		return agent.Room{Folder: "/mnt/work", Free: roomy}
	}
	m.clean = func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Minute) // agent.Runner's
		defer cancel()
		if m.script(ctx, 10*time.Second) != 0 {
			return ctx.Err()
		}
		m.full.Store(m.stuffed.Load())
		return nil
	}
}

// hostPoints are the points of pointOf by host.
var hostPoints = map[string]string{
	"IMDS":   "IMDS, instance, token",
	"vault":  "vault, secret",
	"DevOps": "DevOps, whoami, find, look, online, register",
	"ARM":    "ARM",
	"proxy":  "proxy",
}

var lifeHosts = []string{"IMDS", "vault", "DevOps", "ARM"}

// afflicts is a network fault at a host, which strikes from later on.
func (n networkFault) afflicts(at string, later func(*machine) bool) affliction {
	s := &strike{at: hostPoints[at], times: -1}
	s.over.Store(true)
	begins := func(m *machine) bool { return later == nil || later(m) }
	return affliction{
		name: n.name, at: at, count: s.n.Load,
		set: func(m *machine) {
			struck := n
			if n.answer != nil {
				struck.answer = func(w http.ResponseWriter, r *http.Request, next http.Handler) { n.answer(w, r, next) }
			}
			s.begins = func() bool { return begins(m) }
			struck.strike(m, s)
		},
		on:  func(_ *testing.T, _ *machine) { s.over.Store(false) },
		off: func(_ *testing.T, _ *machine) { s.over.Store(true) },
	}
}

var lifeStep = flag.Int("life", 14, "each so-many-th fault of the network strikes in each part of a VM's life")

func TestLifeFaults(t *testing.T) {
	step := *lifeStep
	if testing.Short() {
		step *= 8
	}
	for k, p := range parts() {
		for i, n := range networkFaults() {
			if (i+k)%step != 0 {
				continue
			}
			t.Run(p.name+"/"+n.name, func(t *testing.T) {
				t.Parallel()
				var got []string
				for _, at := range n.lifePlaces() {
					if n.dial != nil && at == "IMDS" && strings.HasPrefix(n.want, "-") { // it has neither a name nor TLS
						got = append(got, "-")
						continue
					}
					got = append(got, p.meet(t, quickDir(t), n.afflicts(at, p.later)))
				}
				if want := lifeOutcomes[p.name].of(n.name); strings.Join(got, " ") != want {
					t.Errorf("got %s, want %s", strings.Join(got, " "), want)
				}
			})
		}
	}
}

func (n networkFault) lifePlaces() []string {
	if n.setup != nil {
		return []string{"proxy"}
	}
	return lifeHosts
}

// ownFaults are the faults of the VM itself.
func ownFaults() []affliction {
	nothing := func(*testing.T, *machine) {}
	enables := func(_ *testing.T, m *machine) { m.azure.Enable(m.agentName(), true) } // nobody knows any more who had disabled it
	return []affliction{
		{
			name: "the work disk is full, and its scripts make no room", want: "~disk ~disk ~disk ~disk = = = ~disk = =",
			on:  func(_ *testing.T, m *machine) { m.full.Store(true); m.stuffed.Store(true) },
			off: func(_ *testing.T, m *machine) { m.full.Store(false); m.stuffed.Store(false) },
		},
		{
			name: "root's scripts hang", want: "~start ~start ~disk = = = + + = =",
			on:  func(_ *testing.T, m *machine) { m.hangs.Store(true) },
			off: func(_ *testing.T, m *machine) { m.hangs.Store(false); m.full.Store(false) }, // a person makes room then
		},
		{
			name: "there is no work folder, and none can be made", want: "~disk ~disk = ~disk = = = = = =",
			on: func(_ *testing.T, m *machine) {
				m.unlaid.Store(fault.New(fault.Disk, "/data/work lies on /data, which is not mounted").Passing().Hint("Mount it."))
			},
			off: func(_ *testing.T, m *machine) { m.unlaid.Store(nil) },
		},
		{name: "the agent's folder is gone", want: "= = = = = = = = = =", on: func(_ *testing.T, m *machine) { _ = m.Wipe() }, off: nothing},
		{name: "state.json is gone", want: "= = = = !state !state = + + -", on: func(_ *testing.T, m *machine) { _ = os.Remove(stateFile(m)) }, off: enables},
		{name: "state.json is damaged", want: "= = = = !state !state = + + -", on: writes("\x00\xff{"), off: enables},
		{
			name: stateIsFull, want: "~state = = = = = = = = =",
			set: func(m *machine) {
				if err := unix.Mount("azp-test", m.state, "tmpfs", 0, "size=256k,mode=700"); err != nil {
					m.t.Fatal(err)
				}
				m.t.Cleanup(func() { _ = unix.Unmount(m.state, unix.MNT_DETACH) })
			},
			on:  func(t *testing.T, m *machine) { full(t, m.state) },
			off: func(t *testing.T, m *machine) { emptied(t, m.state) },
		},
	}
}

const stateIsFull = "the state folder is on a full disk"

func TestLifeFaultsOfTheVM(t *testing.T) {
	for i, a := range ownFaults() {
		if testing.Short() && i > 1 {
			continue
		}
		t.Run(a.name, func(t *testing.T) {
			t.Parallel()
			if a.name == stateIsFull && os.Getuid() != 0 {
				t.Skip("no file system can be mounted here")
			}
			var got []string
			for i, p := range parts() {
				if strings.Fields(a.want)[i] == "-" { // a VM that has left and forgotten it is a new one
					got = append(got, "-")
					continue
				}
				got = append(got, p.meet(t, quickDir(t), a))
			}
			if strings.Join(got, " ") != a.want {
				t.Errorf("got %s, want %s", strings.Join(got, " "), a.want)
			}
		})
	}
}
