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
	"time"

	"github.com/sirupsen/logrus"

	"azp-bootstrap/bootstrap/access"
	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/azure"
	"azp-bootstrap/bootstrap/config"
	"azp-bootstrap/bootstrap/devops"
	"azp-bootstrap/bootstrap/health"
	"azp-bootstrap/bootstrap/journal"
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
	shows   string // the configuration, before IMDS completes it
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

	drain drain  // of the agent that is about to leave, or to be registered anew
	found *found // what registered found, for as long as the PAT is held
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
	b.shows = c.Show()
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
