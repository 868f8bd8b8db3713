//go:build linux

package bootstrap_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"azp-bootstrap/bootstrap"
	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/azure"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/member"
	"azp-bootstrap/bootstrap/secret"
)

// A machine is a VM with its disk: the state folder, and what the agent's folder would hold.
type machine struct {
	*fleet
	online  bool   // the agent has a session, or had one
	session int    // of which agent
	outdone bool   // by another VM of its name
	name    string // of the VM
	called  string // the computer; "" = as its number says
	disk    disk
	state   string   // folder
	proxy   string   // URL
	never   bool     // agent.replace: never
	set     []string // --set
	words   chan agent.Word
	quiet   bool          // logs errors only
	takes   time.Duration // config.sh's own time

	pool, retire string // "" = none: the target is an environment; retire as YAML
	group        bool   // the target is a deployment group
	serves       bool   // jobs that the server has for it
	single       bool   // the agent was started to run one job
	goesOff      func(context.Context) error
	lives        int   // how often the agent was started or stopped
	began        []int // jobs that its agent has begun, over all its life

	environment  string        // "" = production
	tags         string        // as YAML
	busyUntil    time.Time     // a job runs
	pooled       bool          // it stands in a standby pool: its agent must not start
	starts       time.Duration // the agent's, until it is connected
	reports      time.Duration // the listener's word to the server that its job has ended
	held         *os.File
	real         *real // with Microsoft's agent's stand-in in place of one in memory
	dial         azure.Dial
	said         notes
	mu           sync.Mutex        // for what the agent does: it is asked beside the loop
	runs         bool              // the agent
	room         func() agent.Room // nil = there is plenty
	clean        func(context.Context) error
	program      func(context.Context, agent.Program) int // nil = each ends with 0
	gated        string                                   // start as YAML; "" = no gate
	passed       bool                                     // the gate, in this boot
	hangs        atomic.Bool                              // root's scripts
	full         atomic.Bool                              // the work disk
	stuffed      atomic.Bool                              // and its scripts cannot make room
	unlaid       atomic.Pointer[fault.Error]              // why there is no work folder
	unseen       atomic.Bool                              // what runs: systemd does not say
	covered      atomic.Bool                              // the agent's folder, by what a job has mounted over it
	registration string                                   // agent.registration; "" = script
}

// A disk is what of the agent outlives a power cut.
type disk struct {
	laidFor string
	id      int  // of the agent; 0 = not configured
	service bool // is installed, so that it runs after a boot
}

func (f *fleet) machine(i int) *machine {
	m := &machine{fleet: f, name: fmt.Sprintf("web_%d", i), state: filepath.Join(f.dir, fmt.Sprint("state", i))}
	m.dial = f.net.Dial(m.name)
	return m
}

// boot is one run --once of the VM, with its deadline at limit.
func (m *machine) boot(ctx context.Context, limit time.Duration) *fault.Error {
	m.boots()
	return m.once(ctx, limit)
}

// once is run --once on a VM that runs.
func (m *machine) once(ctx context.Context, limit time.Duration) *fault.Error {
	err := bootstrap.Run(ctx, m.options(limit))
	if err == nil {
		return nil
	}
	return fault.From(err)
}

func (m *machine) options(limit time.Duration) bootstrap.Options {
	file := filepath.Join(m.dir, "config-"+m.name+".yaml")
	text := fmt.Sprintf(
		"url: https://dev.azure.com/contoso\ntarget: {environment: {project: Shop, name: %s, tags: [%s]}}\ncredential: {keyVault: {url: https://contoso.vault.azure.net, secret: azp-pat}}\nagent: {dir: %q, service: process, user: \"\", replace: %s, registration: %s}\nnetwork: {caFile: %q, proxy: %q}\ndeadline: %s\n",
		cmp.Or(
			m.environment,
			"production",
		),
		m.tags,
		filepath.Join(m.dir, "agent-of-"+m.name),
		map[bool]string{false: "offline", true: "never"}[m.never],
		cmp.Or(m.registration, "script"),
		filepath.Join(m.dir, "ca.pem"),
		m.proxy,
		limit,
	)
	if m.pool != "" {
		text = strings.Replace(text, "target: {", "target: {pool: {name: "+m.pool+"}}\n#", 1)
	}
	if m.group {
		text = strings.Replace(text, "target: {", "target: {deploymentGroup: {project: Shop, name: web-servers}}\n#", 1)
	}
	if m.retire != "" {
		text += "retire: " + m.retire + "\n"
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		m.t.Fatal(err)
	}
	if m.real != nil {
		text = m.real.config(m, limit)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			m.t.Fatal(err)
		}
	}
	if m.room != nil {
		text += "disk: {min: 5GiB}\n"
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			m.t.Fatal(err)
		}
	}
	if m.gated != "" {
		text += "start: " + m.gated + "\n"
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			m.t.Fatal(err)
		}
	}
	log := logrus.New()
	redactor := &secret.Redactor{}
	log.SetOutput(&m.said)
	log.SetLevel(logrus.TraceLevel)
	if m.quiet {
		log.SetLevel(logrus.ErrorLevel)
	}
	log.AddHook(secret.Hook{Redactor: redactor})
	o := bootstrap.Options{Once: true, Version: "test", Means: member.Means{
		ConfigFile: file, Set: m.set, StateDir: m.state, Log: log, Redactor: redactor, Dial: m.dial,
	}}
	o.PowerOff = m.goesOff
	if m.real == nil {
		o.Agent = m
	}
	return o
}

// notes are what a VM's log says; some listen beside to its end and longer.
type notes struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (n *notes) Write(b []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.text.Write(b)
}

func (n *notes) String() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.text.String()
}

func (n *notes) Reset() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.text.Reset()
}

// works lets a job run until then.
func (m *machine) works(until time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.busyUntil = until
}

// start and stop are the agent's process: it shows online while it runs and is registered.
func (m *machine) start() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.serves && !m.runs {
		m.lives++
		go m.listens(m.lives, m.disk.id)
	}
	m.runs = true
	if m.disk.id != 0 {
		m.session = m.disk.id
		m.online = m.azure.Connected(m.disk.id, m.name, m.disk.laidFor, true)
	}
}

func (m *machine) stop() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.runs = false
	if m.lives++; m.serves {
		m.busyUntil = time.Time{}
	}
	if m.disk.id != 0 {
		m.azure.Connected(m.disk.id, m.name, m.disk.laidFor, false)
	} else if m.session != 0 { // its folder is lost, and not what it runs by
		m.azure.Connected(m.session, m.name, m.instance(), false)
	}
	m.session = 0
}

// The methods of bootstrap.Agent.

func (m *machine) Registered() (int, error) { return m.disk.id, nil }
func (m *machine) LaidFor() string          { return m.disk.laidFor }
func (m *machine) Guarded() error           { return nil }
func (m *machine) Runnable() error          { return nil }

func (m *machine) WorkFolder(string) error {
	if f := m.unlaid.Load(); f != nil {
		return f
	}
	return nil
}

func (m *machine) Room(string) (agent.Room, error) {
	if m.room == nil {
		return agent.Room{Free: 100 << 30}, nil
	}
	return m.room(), nil
}

func (m *machine) Clean(ctx context.Context, _, _ string, _ *secret.Redactor, _ func(script, line string)) error {
	if m.clean == nil {
		return nil
	}
	return m.clean(ctx)
}

func (m *machine) RunProgram(ctx context.Context, p agent.Program, _ *secret.Redactor, _ func(string)) (int, error) {
	if m.program == nil {
		return 0, nil
	}
	return m.program(ctx, p), nil
}

func (m *machine) Working(service string) bool {
	workers, err := m.Workers(service)
	return err != nil || len(workers) > 0
}

func (m *machine) busy() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.runs && time.Now().Before(m.busyUntil)
}

func (m *machine) Workers(string) ([]string, error) {
	if m.unseen.Load() {
		return nil, errors.New("systemd does not answer")
	}
	if !m.busy() {
		return nil, nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return []string{m.busyUntil.Format(time.RFC3339Nano)}, nil
}

func (m *machine) Warm(context.Context) int64        { return 0 }
func (m *machine) Verify() (agent.Manifest, error)   { return agent.Manifest{}, nil }
func (m *machine) Manifest() (agent.Manifest, error) { return agent.Manifest{Version: "4.248.0"}, nil }
func (m *machine) Stop(context.Context) error        { m.stop(); return nil }
func (m *machine) Lacking() error                    { return nil }

func (m *machine) Running(string) (bool, string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.runs, "in memory"
}

func (m *machine) Follow(ctx context.Context, _ string, since time.Time, heard func(agent.Word, string)) error {
	if runs, _ := m.Running(""); !since.IsZero() && runs { // it was just started
		select {
		case <-time.After(m.starts):
			if m.start(); m.connected() {
				heard(agent.Connected, "Listening for Jobs")
			}
		case <-ctx.Done():
		}
	}
	for {
		select {
		case w := <-m.words:
			heard(w, "in a test")
		case <-ctx.Done():
			return nil
		}
	}
}

func (m *machine) connected() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.online
}

func (m *machine) Start(_ context.Context, s agent.Service, _ string) (string, error) {
	if m.pooled {
		m.t.Errorf("%s: its agent starts in a standby pool", m.name)
	}
	if m.disk.service, m.single = !s.Once, s.Once; s.Once && m.isRunning() {
		return "", nil
	}
	if m.starts == 0 {
		m.start()
		return "", nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.runs, m.online = true, false
	return "", nil // and it is online when it is listened to
}

func (m *machine) Remove(context.Context, string) error {
	m.stop()
	m.disk.service = false
	return nil
}

func (m *machine) Wipe() error {
	if m.covered.Load() {
		return fault.New(fault.Agent, "the agent's folder: permission denied").Hint("Look at it.")
	}
	m.disk.id, m.disk.laidFor = 0, ""
	return nil
}

// Configure registers as config.sh does for an environment: the requests of the agent's
// EnvironmentVMResourceConfigProvider.
func (m *machine) Configure(
	ctx context.Context,
	r agent.Registration,
	pat secret.PAT,
	_ *secret.Redactor,
	line func(string),
) (id int, err error) {
	m.disk.laidFor, m.disk.id = r.InstanceID, 0
	time.Sleep(m.takes)
	ctx, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	c := config{ctx: ctx, pat: pat.Reveal()}
	proxy := ""
	if r.Proxy != nil {
		proxy = r.Proxy.String()
	}
	if c.client, err = (azure.Network{CAFile: filepath.Join(m.dir, "ca.pem"), Proxy: proxy, Dial: m.dial}).Client(); err != nil {
		return 0, err
	}
	defer c.client.CloseIdleConnections()
	if r.Kind == "pool" {
		return m.configurePool(&c, r)
	}
	type entry struct {
		ID      int
		Name    string
		Agent   struct{ ID int }
		Project struct{ ID string }
	}
	var found struct{ Value []entry }
	members := r.URL + "/" + url.PathEscape(r.Project) + "/_apis/pipelines/environments"
	c.call("GET", r.URL+"/_apis/connectionData", nil, nil)
	c.call("GET", members+"?name="+url.QueryEscape(r.Name), nil, &found)
	if c.err == nil && len(found.Value) != 1 {
		c.err = errors.New("no such environment")
	}
	if c.err == nil {
		members = fmt.Sprintf(
			"%s/%s/_apis/pipelines/environments/%d/providers/virtualmachines",
			r.URL,
			found.Value[0].Project.ID,
			found.Value[0].ID,
		)
	}
	found.Value = nil
	c.call("GET", members+"?name="+url.QueryEscape(r.AgentName), nil, &found)
	me := map[string]any{"name": r.AgentName, "version": "4.248.0", "systemCapabilities": map[string]string{
		"AZP_BOOTSTRAP_INSTANCE_ID": r.InstanceID, "AZP_BOOTSTRAP_REGISTERED": r.Registered}}
	var got entry
	switch {
	case c.err != nil:
	case len(found.Value) == 0:
		c.call(
			"POST",
			members,
			map[string]any{"virtualMachineResource": map[string]any{"name": r.AgentName, "tags": r.Tags, "agent": me}},
			&got,
		)
	case !r.Replace:
		return 0, fault.New(fault.Target, "the name %s is taken", r.AgentName)
	default:
		me["id"] = found.Value[0].Agent.ID
		c.call(
			"PUT",
			members,
			map[string]any{"id": found.Value[0].ID, "name": r.AgentName, "tags": r.Tags, "agent": me},
			&got,
		)
	}
	if c.err != nil {
		return 0, fault.New(fault.Agent, "config.sh").Because(c.err).Passing()
	}
	line("Successfully added the agent")
	m.disk.id = got.Agent.ID
	return m.disk.id, nil
}

// Enrol registers by the daemon itself; what is on the disk says only that it is whole.
func (m *machine) Enrol(
	ctx context.Context,
	r agent.Registration,
	add func(context.Context, agent.Newcomer) (agent.Enrolment, error),
) (id int, err error) {
	m.disk.laidFor, m.disk.id = r.InstanceID, 0
	got, err := add(ctx, agent.Newcomer{
		Version: "4.248.0", Key: agent.PublicKey{Exponent: "AQAB", Modulus: base64.StdEncoding.EncodeToString(make([]byte, 256))},
		Capabilities: map[string]string{"AZP_BOOTSTRAP_INSTANCE_ID": r.InstanceID, "AZP_BOOTSTRAP_REGISTERED": r.Registered},
	})
	if err != nil {
		return 0, err
	}
	m.disk.id = got.ID
	return got.ID, nil
}

// config is config.sh's connection; after an error it asks no more.
type config struct {
	ctx    context.Context
	client *http.Client
	pat    string
	err    error
}

func (c *config) call(method, address string, in, into any) {
	if c.err != nil {
		return
	}
	body, _ := json.Marshal(in)
	req, err := http.NewRequestWithContext(c.ctx, method, address, bytes.NewReader(body))
	if err != nil {
		c.err = err
		return
	}
	req.Header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(":"+c.pat)))
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json; api-version=4.1-preview")
	req.Header.Set("User-Agent", "VSServices/19 vstsagentcore-linux-x64/4.248.0")
	res, err := c.client.Do(req)
	if err != nil {
		c.err = err
		return
	}
	defer res.Body.Close() //nolint:errcheck // only read
	data, err := io.ReadAll(res.Body)
	switch {
	case err != nil:
		c.err = err
	case res.StatusCode != http.StatusOK:
		c.err = fmt.Errorf("%s %s: %s: %s", method, address, res.Status, data)
	case into != nil:
		c.err = json.Unmarshal(data, into)
	}
}

// configurePool registers in a pool.
func (m *machine) configurePool(c *config, r agent.Registration) (int, error) {
	type named struct {
		ID   int
		Name string
	}
	var pools, agents struct{ Value []named }
	c.call("GET", r.URL+"/_apis/distributedtask/pools?poolName="+url.QueryEscape(r.Name), nil, &pools)
	if c.err == nil && len(pools.Value) != 1 {
		c.err = errors.New("no such pool")
	}
	if c.err != nil {
		return 0, fault.New(fault.Agent, "config.sh").Because(c.err).Passing()
	}
	at := fmt.Sprintf("%s/_apis/distributedtask/pools/%d/agents", r.URL, pools.Value[0].ID)
	c.call("GET", at+"?agentName="+url.QueryEscape(r.AgentName), nil, &agents)
	me := map[string]any{"name": r.AgentName, "version": "4.248.0", "systemCapabilities": map[string]string{
		"AZP_BOOTSTRAP_INSTANCE_ID": r.InstanceID, "AZP_BOOTSTRAP_REGISTERED": r.Registered}}
	var got named
	switch {
	case len(agents.Value) == 0:
		c.call("POST", at, me, &got)
	case !r.Replace:
		return 0, fault.New(fault.Target, "the name %s is taken", r.AgentName)
	default:
		me["id"] = agents.Value[0].ID
		c.call("PUT", fmt.Sprintf("%s/%d", at, agents.Value[0].ID), me, &got)
	}
	if c.err != nil {
		return 0, fault.New(fault.Agent, "config.sh").Because(c.err).Passing()
	}
	m.disk.id = got.ID
	return got.ID, nil
}

func (m *machine) isRunning() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.runs
}

// listens is an agent that takes jobs: it asks for one, runs it, and ends then if it was started for one.
func (m *machine) listens(life, id int) {
	is := func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.runs && m.lives == life
	}
	for is() {
		j, got := m.azure.Receive(id)
		if !got {
			time.Sleep(200 * time.Millisecond)
			continue
		}
		m.mu.Lock()
		m.began = append(m.began, j.ID)
		m.busyUntil = time.Now().Add(time.Duration(j.Seconds * float64(time.Second)))
		m.mu.Unlock()
		for is() && m.Working("") {
			time.Sleep(100 * time.Millisecond)
		}
		if !is() {
			return // its job is abandoned
		}
		time.Sleep(m.reports)
		m.azure.Finish(id, "succeeded")
		if m.single {
			m.stop()
			return
		}
	}
}
