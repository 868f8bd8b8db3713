// Package bootstrap brings a VM from its first boot to an agent that is online in Azure DevOps.
//
// The main path is a list of phases, each of which can be cut off at any instant and asked again:
//
//	waiting     one run at a time; the configuration is read
//	discover    IMDS tells which VM this is
//	credential  the managed identity fetches the PAT from Key Vault
//	preflight   Azure DevOps knows the PAT, the target exists, the PAT may manage it
//	register    config.sh, in a folder laid fresh, registers the agent
//	service     the agent's service is installed and started
//	online      Azure DevOps shows the agent online
//	ready       watched over: health, reload, an agent that is down
//	draining    the VM goes: no new job, the running one is waited for, the agent is removed
//	removed
//
// A journal on disk (state.json) says how far the VM is. Each phase first looks at what is already
// there. The retry loop stands once, around Phase.Do, and knows only package fault.
package bootstrap

import (
	"context"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"

	"azp-bootstrap/bootstrap/access"
	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/azure"
	"azp-bootstrap/bootstrap/config"
	"azp-bootstrap/bootstrap/devops"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/health"
	"azp-bootstrap/bootstrap/journal"
	"azp-bootstrap/bootstrap/retry"
	"azp-bootstrap/bootstrap/secret"
)

// Options say what to run with.
type Options struct {
	ConfigFile string
	Set        []string // --set KEY=VALUE
	StateDir   string
	Once       bool // end when ready or failed, rather than watch
	Console    bool // say what happens on the VM's serial console, too
	Version    string
	Log        *logrus.Logger
	Redactor   *secret.Redactor

	// What a VM brings; nil = the real thing. Simulations of many VMs bring their own.
	Dial  azure.Dial
	Agent Agent
}

// An Agent is Microsoft's agent on this VM, as a boot drives it: agent.Runner, which says what each of
// them does.
type Agent interface {
	Registrar
	Service
}

// A Registrar registers the agent with Azure DevOps, today by its config.sh, and knows what of that is on disk.
type Registrar interface {
	Registered() (id int, err error)
	LaidFor() (instanceID string)
	Guarded() error
	WorkFolder(work string) error
	Configure(ctx context.Context, r agent.Registration, pat secret.PAT, redactor *secret.Redactor, line func(string)) (id int, err error)
	Wipe() error
	Verify() (agent.Manifest, error)
	Warm(ctx context.Context) int64
}

// A Service keeps the registered agent running. What asks ends soon by itself; what takes long ends with ctx.
type Service interface {
	Start(ctx context.Context, s agent.Service, caFile string) (service string, err error)
	Allowed(instance string) bool
	Firmware(instance string) bool
	Resume(ctx context.Context, service, instance string) error
	Running(service string) (running bool, state string)
	Working(service string) bool
	Follow(ctx context.Context, service string, since time.Time, heard func(w agent.Word, line string)) error
	Stop(ctx context.Context) error
	Remove(ctx context.Context, service string) error
}

// A Phase brings the VM one step nearer to ready. Do may be called again after a crash at any point
// inside it: it first looks at what is already there. The error is a *fault.Error, which says the
// class and whether waiting helps; the fields go to the log.
type Phase struct {
	Name string
	Do   func(ctx context.Context, b *Boot) (logrus.Fields, error)
}

var phases = []Phase{
	{journal.Discover, discover},
	{journal.Credential, credential},
	{journal.Preflight, preflight},
	{journal.Register, register},
	{journal.Service, startService},
	{journal.Online, online},
}

// A Boot is one attempt to bring the VM up, with the facts that the phases find.
type Boot struct {
	Options
	Config *config.Config
	VM     azure.Instance
	Agent  string   // its name on this VM
	Tags   []string // filled in for this VM
	Place  devops.Place
	Runner Agent

	journal *journal.Journal
	report  *health.Reporter
	home    agent.Home
	loader  *config.Loader
	imds    *azure.IMDS
	network azure.Network
	client  *http.Client
	access  *access.Access // holds the PAT between credential and online; dropped when the boot waits for long
	begun   time.Time
	phase   time.Time // when the present one began
	started time.Time // when the agent was, by this attempt; zero: it was not, or it was listened to

	fresh bool // registered by this attempt, and not started yet
	met   bool // config.sh met an agent in the pool behind the target, which did not list it

	byID  bool          // Place was found by the journal's IDs
	stood journal.State // when this attempt began
	lost  bool          // another VM has taken this VM's agent over

	drainUntil time.Time // until then a running job is waited for
	disabled   bool      // the agent takes no new job: nothing is asked of the server while one runs here
	local      bool      // nothing is asked of the server at all
	found      *found    // what registered found, for as long as the PAT is held
}

// Run brings this VM to ready and, unless o.Once, watches over it until ctx ends. A daemon does not
// give up: it shows what failed and tries again slowly, so that mending the cause in Azure mends
// the VM. Notices of the VM's end are heard all the while.
func Run(ctx context.Context, o Options) error {
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)
	defer signal.Stop(reload)
	live := health.NewLive()
	served := &health.Server{Live: live, Version: o.Version}
	report := newReporter(o, live)
	defer report.Console.Close()
	report.Begun()
	defer report.Stopping()
	b, err := begin(ctx, o, report, served, reload)
	if err != nil {
		return err
	}
	here := health.Attend(o.StateDir, o.Once, o.Log)
	defer here.Ended()
	hears, able := newEar(), (*Boot)(nil)
	slow, falls := retry.Slowly(), brake{backoff: retry.Slowly()}
	for ; ; b = b.again() {
		report.PhaseBegun(journal.Waiting)
		err := b.configure()
		if !o.Once { // a daemon shows its health even if its configuration is refused
			b.serveHealth(ctx, served)
		}
		var n *notice
		if err == nil {
			able = b
			b.listenBy(ctx, hears)
			n, err = hears.during(ctx, b.bringUp)
		} else {
			err = b.refused(err)
		}
		b.drop()
		here.Settled()
		if o.Once && n == nil {
			return err
		}
		ready := b.state().Phase == journal.Ready && b.imds != nil // then its agent runs on, and is watched over
		switch {
		case n != nil || ctx.Err() != nil:
		case err == nil:
			slow.Reset()
			n = falls.watched(func(notBefore time.Time) (fell bool, n *notice) {
				return b.watch(ctx, reload, hears.heard, notBefore, nil)
			})
		case ready:
			due := time.NewTimer(slow.NextBackOff())
			n = falls.watched(func(notBefore time.Time) (fell bool, n *notice) {
				return b.watch(ctx, reload, hears.heard, notBefore, due.C)
			})
			due.Stop()
		default:
			n = pauseOr(ctx, slow.NextBackOff(), reload, hears.heard)
		}
		for n != nil && ctx.Err() == nil { // a notice may overtake another
			why := n.why
			if n, err = hears.during(ctx, func(ctx context.Context) error { return able.leaveNow(ctx, *n) }); err != nil && n == nil {
				o.Log.WithError(err).WithField("event", why).Error("this VM could not leave Azure DevOps yet: it is tried again")
			}
		}
		if ctx.Err() != nil {
			return b.stop(ctx)
		}
	}
}

// listenBy lets the ear listen as it is configured. run --once is told by its caller when to end.
func (b *Boot) listenBy(ctx context.Context, e *ear) {
	if b.Once || !b.Config.Drain.Enabled {
		e.to(ctx, "")
		return
	}
	e.to(ctx, b.Config.IMDS.Endpoint, scheduledEvents{b.imds, b.Log})
}

func newReporter(o Options, live *health.Live) *health.Reporter {
	r := &health.Reporter{Log: o.Log, Live: live}
	if o.Console {
		r.Console = health.OpenConsole(o.Redactor.Redact)
	}
	return r
}

// begin makes what all attempts of a process share. A daemon whose journal cannot be opened shows that, and waits until it can.
func begin(ctx context.Context, o Options, report *health.Reporter, served *health.Server, reload <-chan os.Signal) (*Boot, error) {
	if err := access.Protect(o.Log); err != nil {
		return nil, err
	}
	for slow := retry.Slowly(); ; {
		j, err := journal.Open(o.StateDir, o.Log, report.Live.Set)
		if err == nil {
			return &Boot{Options: o, journal: j, report: report, begun: time.Now(), stood: j.State()}, nil
		}
		f := fault.From(err)
		report.Failed(journal.Waiting, f)
		if served == nil || o.Once {
			return nil, err
		}
		shown := journal.New()
		shown.Fail(journal.Why(f, o.Redactor.Redact))
		report.Live.Set(shown)
		(&Boot{Options: o}).serveHealth(ctx, served)
		pauseOr(ctx, slow.NextBackOff(), reload, nil)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
	}
}

// newBoot is a Boot that only looks: it makes no state folder, reports to nobody, and a state that
// cannot be read is none.
func newBoot(o Options) (*Boot, error) {
	if err := access.Protect(o.Log); err != nil {
		return nil, err
	}
	j, err := journal.Look(o.StateDir)
	if err != nil {
		return nil, err
	}
	return &Boot{Options: o, journal: j, report: &health.Reporter{Log: o.Log, Live: health.NewLive()}, begun: time.Now()}, nil
}

// again is the next attempt, which knows nothing of this one but the journal.
func (b *Boot) again() *Boot {
	return &Boot{Options: b.Options, journal: b.journal, report: b.report, begun: time.Now(), stood: b.state()}
}

// configure reads the configuration and makes what follows from it.
func (b *Boot) configure() (err error) {
	b.loader, err = config.Load(b.ConfigFile, os.Environ(), b.Set)
	if err != nil {
		return err
	}
	if b.Config, err = b.loader.Config(); err != nil {
		return err
	}
	c := b.Config
	b.imds = azure.NewIMDS(c.IMDS.Endpoint, b.Dial)
	return b.equip()
}

// equip makes what the configuration names. It is done anew when IMDS has completed the configuration.
func (b *Boot) equip() (err error) {
	c := b.Config
	b.home = agent.Home{Dir: c.Agent.Dir, User: c.Agent.User}
	if b.Runner = b.Options.Agent; b.Runner == nil {
		b.Runner = agent.Runner{Home: b.home, Process: b.asProcess(), State: b.StateDir}
	}
	b.report.Live.Working(b.Runner.Working)
	b.network, err = access.Network(c, b.Dial)
	if err != nil {
		return err
	}
	b.client, err = b.network.Client()
	b.access = b.reach()
	return err
}

// state is a copy of what the journal says.
func (b *Boot) state() journal.State { return b.journal.State() }

// asProcess: the agent is a process of the daemon's, not a service of the OS.
func (b *Boot) asProcess() bool { return b.Config != nil && b.Config.Agent.Service == "process" }

func (b *Boot) serveHealth(ctx context.Context, s *health.Server) {
	h := config.DefaultHealth()
	if b.Config != nil {
		h = b.Config.Health
	} else if l, err := config.Load(b.ConfigFile, os.Environ(), b.Set); err == nil {
		if c, err := l.Config(); err == nil {
			h = c.Health
		}
	}
	if err := s.Serve(ctx, h.Listen, h.Grace); err != nil {
		f := fault.From(err)
		b.Log.WithFields(logrus.Fields{"class": f.Class.Code, "hint": f.Advice}).Error(f.Error())
	}
}
