package health

import (
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/journal"
)

// metrics reads Live whenever it is scraped, so that nothing is counted twice and nothing runs in
// between.
type metrics struct {
	live    *Live
	version string
}

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("azp_bootstrap_"+name, help, labels, nil)
}

var (
	descBuild   = describe("build_info", "Always 1; the version is in the labels.", "version", "go")
	descPhase   = describe("phase", "1 for the phase the VM is in, 0 for the others.", "phase")
	descSeconds = describe("phase_seconds", "How long each phase of the last boot took, waiting included.", "phase")
	descRetries = describe(
		"retries_total",
		"Temporary faults that were retried since the daemon started.",
		"phase",
		"class",
	)
	descReady   = describe("last_success_timestamp_seconds", "When the VM last became ready; 0 = never.")
	descUp      = describe("agent_up", "1 if the VM is ready and its agent runs.")
	descOnline  = describe("agent_connected", "1 if the agent runs and has not said that it lost Azure DevOps.")
	descEnabled = describe(
		"agent_enabled",
		"0 if somebody has disabled the agent in Azure DevOps, as of the last look: it takes no job.",
	)
	descScript = describe(
		"registration_fallback",
		"1 if this VM's agent is registered by config.sh because the daemon's own registration (agent.registration: rest) failed.",
	)
	descPaused  = describe("paused", "1 while an operator lets the agent take no job (azp-bootstrap pause).")
	descHeld    = describe("held", "1 while the VM stands in a standby pool: its agent starts when it leaves it.")
	descRetires = describe("retiring", "1 while the VM is to leave by itself (retire): its agent takes no new job.")
	descDue     = describe("retire_due_timestamp_seconds", "When the VM is to leave by its age; absent if it is not.")
	descDrain   = describe("draining", "1 while the VM waits for its job to end and removes its agent.")
	descAttempt = describe("attempts", "Attempts to bring the VM up.")
	descSecret  = describe("secret_expiry_timestamp_seconds", "When the vault's secret ends; absent if it does not.")
	descJobs    = describe("jobs_running", "Jobs that the agent runs now.")
	descEnded   = describe("jobs_total", "Jobs that have ended since the agent was registered.")
	descTook    = describe("job_seconds", "How long they took: those whose begin and end the daemon saw.")
	descIdle    = describe("idle_seconds", "Since when no job runs on a VM that is ready; absent while one does.")
	descHooks   = describe("hook_runs_total", "Runs of an event's hooks since the daemon started.", "event", "result")
	descKills   = describe(
		"oom_kills_total",
		"Processes of the agent's service that were killed for want of memory since the daemon started.",
	)
	descBytes = describe(
		"disk_free_bytes",
		"What jobs may still write where the agent's folder, and the work folder, is.",
		"folder",
	)
	descInodes = describe("disk_free_inodes", "Inodes that are free there; absent if they are not counted.", "folder")
	descReach  = describe(
		"metadata_access",
		"1 for how far jobs get to Azure's metadata service (closed, open, unknown), as of the last look.",
		"state",
	)
	descFailure = describe("last_error", "1 for the class of the last error, at any time.", "class")
)

var phaseNames = []string{
	journal.Waiting,
	journal.Discover,
	journal.Credential,
	journal.Preflight,
	journal.Register,
	journal.Service,
	journal.Online,
	journal.Ready,
	journal.Draining,
	journal.Removed,
	journal.Failed,
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(m, ch) }

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	one := func(is bool) float64 {
		if is {
			return 1
		}
		return 0
	}
	working := m.live.works() // asks the service manager, which may take its time: nobody else waits for that
	rooms := m.live.rooms()
	m.live.mu.Lock()
	defer m.live.mu.Unlock()
	s := m.live.state
	gauge(descBuild, 1, m.version, runtime.Version())
	for _, p := range phaseNames {
		gauge(descPhase, one(p == s.Phase), p)
	}
	seen := map[string]bool{}
	for _, p := range s.Phases {
		if !seen[p.Name] { // a damaged state may name one twice, which Prometheus refuses
			seen[p.Name] = true
			gauge(descSeconds, p.Seconds, p.Name)
		}
	}
	for k, n := range m.live.retries {
		ch <- prometheus.MustNewConstMetric(descRetries, prometheus.CounterValue, float64(n), k.phase, k.class)
	}
	ready := 0.0
	if s.ReadyAt != nil {
		ready = float64(s.ReadyAt.UnixMilli()) / 1000
	}
	gauge(descReady, ready)
	gauge(descUp, one(s.Phase == journal.Ready && m.live.asserted && !m.live.down))
	gauge(descOnline, one(s.Phase == journal.Ready && m.live.asserted && !m.live.down && !m.live.lost))
	gauge(descEnabled, one(!s.Agent.Disabled))
	gauge(descScript, one(s.Fallback != nil))
	gauge(descPaused, one(s.Paused != nil))
	gauge(descHeld, one(s.Held()))
	gauge(descRetires, one(s.Retires() || s.RemovedBy == journal.ByRetired))
	if s.Retire != nil && !s.Retire.Due.IsZero() {
		gauge(descDue, float64(s.Retire.Due.Unix()))
	}
	gauge(descDrain, one(s.Phase == journal.Draining))
	gauge(descAttempt, float64(s.Attempt))
	if s.Secret != nil && s.Secret.Expires != nil {
		gauge(descSecret, float64(s.Secret.Expires.Unix()))
	}
	if m.live.jobRuns != nil {
		gauge(descJobs, one(working)) // an agent runs one job at a time
	}
	for k, n := range m.live.hooks {
		ch <- prometheus.MustNewConstMetric(descHooks, prometheus.CounterValue, float64(n), k.event, k.result)
	}
	jobs := s.Agent.Jobs
	ch <- prometheus.MustNewConstMetric(descEnded, prometheus.CounterValue, float64(jobs.Ended))
	ch <- prometheus.MustNewConstSummary(descTook, uint64(max(jobs.Timed, 0)), jobs.Seconds, nil) //nolint:gosec // not below 0
	if since, idle := s.Idle(); idle {
		gauge(descIdle, max(time.Since(since), 0).Seconds())
	}
	for folder, r := range rooms {
		gauge(descBytes, float64(r.Free), folder)
		if r.All > 0 {
			gauge(descInodes, float64(r.Inodes), folder)
		}
	}
	if m.live.kills.looked {
		ch <- prometheus.MustNewConstMetric(descKills, prometheus.CounterValue, float64(m.live.kills.total))
	}
	for _, reach := range []agent.Reach{agent.Closed, agent.Open, agent.Unknown} {
		known := s.Metadata != nil && s.Metadata.Access == string(reach)
		gauge(descReach, one(known || s.Metadata == nil && reach == agent.Unknown), string(reach))
	}
	if s.LastError != nil {
		gauge(descFailure, 1, s.LastError.Code)
	}
}
