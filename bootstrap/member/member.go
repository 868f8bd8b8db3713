// Package member is this VM as a member of its target in Azure DevOps: whose an agent on the server
// is, and all that is done to this VM's own agent there: finding, enabling, tagging, draining and
// removing it. Joining and leaving both stand on it.
package member

import (
	"context"
	"path/filepath"
	"time"

	"github.com/sirupsen/logrus"

	"azp-bootstrap/bootstrap/access"
	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/azure"
	"azp-bootstrap/bootstrap/config"
	"azp-bootstrap/bootstrap/devops"
	"azp-bootstrap/bootstrap/journal"
	"azp-bootstrap/bootstrap/secret"
	"azp-bootstrap/bootstrap/vm"
)

// An Agent is Microsoft's agent on this VM's disk: agent.Runner, which says what each of them does.
type Agent interface {
	Registrar
	Service
	Disk
	Programs
}

// A Registrar registers the agent with Azure DevOps, by its config.sh (Configure) or without (Enrol),
// and knows what of that is on disk.
type Registrar interface {
	Registered() (id int, err error)
	LaidFor() (instanceID string)
	Guarded() error
	Configure(
		ctx context.Context,
		r agent.Registration,
		pat secret.PAT,
		redactor *secret.Redactor,
		line func(string),
	) (id int, err error)
	Enrol(
		ctx context.Context,
		r agent.Registration,
		add func(context.Context, agent.Newcomer) (agent.Enrolment, error),
	) (id int, err error)
	Wipe() error
	Verify() (agent.Manifest, error)
	Manifest() (agent.Manifest, error)
	Lacking() error
	Warm(ctx context.Context) int64
}

// A Service keeps the registered agent running. What asks ends soon by itself; what takes long ends
// with ctx.
type Service interface {
	Runnable() error
	Start(ctx context.Context, s agent.Service, caFile string) (service string, err error)
	Running(service string) (running bool, state string)
	Working(service string) bool
	Workers(service string) ([]string, error)
	Follow(ctx context.Context, service string, since time.Time, heard func(w agent.Word, line string)) error
	Stop(ctx context.Context) error
	Remove(ctx context.Context, service string) error
}

// A Disk is where the agent and its jobs write. A folder is below the agent's own ("" = that one), or
// absolute.
type Disk interface {
	WorkFolder(work string) error
	Room(folder string) (agent.Room, error)
	Clean(ctx context.Context, scripts, work string, redactor *secret.Redactor, said func(script, line string)) error
}

// Programs are what whoever owns this VM lets run before the agent's start or at an event. They end with ctx.
type Programs interface {
	RunProgram(ctx context.Context, p agent.Program, redactor *secret.Redactor, said func(line string)) (exit int, err error)
}

// A Member is this VM, with what it reaches its agent and Azure DevOps by. It is made for one
// configuration and never changed.
type Member struct {
	VM       vm.VM
	Setup    journal.Setup // what the agent is registered with, or is to be
	Agent    Agent
	Network  azure.Network
	Access   *access.Access
	Journal  *journal.Journal
	Log      *logrus.Logger
	Redactor *secret.Redactor
}

// Means are what a process brings along to make members of.
type Means struct {
	ConfigFile string
	Set        []string // --set KEY=VALUE
	StateDir   string
	Log        *logrus.Logger
	Redactor   *secret.Redactor
	Begun      time.Time // when the attempt began; zero = now

	// What a VM brings; nil = the real thing. Simulations of many VMs bring their own.
	Dial  azure.Dial
	Agent Agent
	Slept func() time.Duration // how long the machine has slept since its boot

	PowerOff func(context.Context) error // the VM
}

// Sources reads the configuration.
func (w Means) Sources() (*vm.Sources, error) { return vm.Read(w.ConfigFile, w.Set, w.Dial) }

// Member makes what the configuration of v names. Nothing is asked of anybody. Beside an error there is a member that reaches
// nobody, but whose agent can be looked after.
func (w Means) Member(v vm.VM, j *journal.Journal, imds *azure.IMDS) (Member, error) {
	m := Member{VM: v, Setup: setupOf(v, j.State()), Agent: w.Agent, Journal: j, Log: w.Log, Redactor: w.Redactor}
	if m.Agent == nil {
		home := agent.Home{Dir: m.Setup.Dir, User: m.Setup.User}
		m.Agent = agent.Runner{Home: home, Process: v.AsProcess(), State: w.StateDir}
	}
	begun := w.Begun
	if begun.IsZero() {
		begun = time.Now()
	}
	way := access.Way{
		Credential: v.Config.Credential, Server: v.Config.Server, IMDS: imds, Redactor: w.Redactor,
		Young: m.young(begun), Noted: m.NoteSecret,
	}
	var err error
	if m.Network, err = access.Network(v.Config, w.Dial); err == nil {
		way.Client, err = m.Network.Client()
	}
	way.Refused = err
	m.Access = access.New(way)
	return m, err
}

// roleSpread is how long role assignments may take to reach a vault (learn.microsoft.com, "Azure
// RBAC limitations": up to 10 minutes).
const roleSpread = 10 * time.Minute

// young tells whether role assignments may not have reached the vault yet, for an attempt that
// began at begun.
func (m Member) young(begun time.Time) func() bool {
	return func() bool {
		known := m.State()
		first := known.Attempt <= 1 || time.Since(known.StartedAt) < roleSpread
		return !m.Journal.Looks() && time.Since(begun) < roleSpread && first
	}
}

// NoteSecret remembers what the vault says of the secret, and warns of its end ahead of time.
func (m Member) NoteSecret(s azure.Secret) error {
	known := journal.Secret{Version: s.Version}
	expires := s.Expires.UTC()
	if !s.Expires.IsZero() {
		known.Expires = &expires
	}
	if err := m.Journal.Update(func(s *journal.State) { s.Secret = &known }); err != nil || s.Expires.IsZero() {
		return err
	}
	if left := time.Until(expires); left < m.VM.Config.Credential.WarnBefore {
		m.Log.WithFields(logrus.Fields{
			"secret":  m.VM.Config.Credential.KeyVault.Secret,
			"expires": expires.Format(time.RFC3339),
			"days":    int(left.Hours() / 24),
		}).Warn("the PAT's secret expires soon: store a new PAT as a new version of it; the VMs take it by themselves")
	}
	return nil
}

// State is a copy of what the journal says.
func (m Member) State() journal.State { return m.Journal.State() }

// Runs reports whether the agent of the journal runs.
func (m Member) Runs() bool {
	running, _ := m.Agent.Running(m.State().Agent.Service)
	return running
}

// Works reports whether a job runs on this VM.
func (m Member) Works() bool { return m.Agent.Working(m.State().Agent.Service) }

// ServiceAt is what the service of an agent that stands at p is made of: the configuration's, the
// journal's and the server's words, and nothing that a job could write.
func (m Member) ServiceAt(p devops.Place) agent.Service {
	known := m.State().Agent
	s := agent.Service{
		ServerURL:    m.VM.Config.Server.Base,
		Group:        p.PoolName,
		Agent:        m.VM.AgentName,
		Unit:         known.Service,
		Work:         m.Setup.Work,
		Marks:        m.VM.Marks(known.Registered),
		Environment:  m.VM.Config.Agent.Environment,
		Capabilities: m.VM.AgentCapabilities,
		Once:         m.Once(),
		Groups:       m.VM.Config.Agent.Groups,
		NoMetadata:   m.VM.Config.Agent.Metadata == config.Deny,
	}
	if s.Group == "" { // an environment; its pool's name is nobody's business
		s.Group = p.Name
	}
	return s
}

// AgentLog is where a person finds what the agent said.
func (m Member) AgentLog() string {
	if m.VM.AsProcess() {
		return filepath.Join(m.Journal.Dir(), "agent.log")
	}
	return agent.Log(m.State().Agent.Service)
}
