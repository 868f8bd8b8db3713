//go:build linux

package main_test

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// A benchPage is what docs/evidence/performance.md is made from.
type benchPage struct {
	runs     int
	parts    []benchPart
	idle     idle
	once     stays
	sweep    swept
	programs []started
}

type benchPart struct {
	distance string
	cold     bool
	measured map[string][]boot
}

func (p *benchPage) add(distance string, cold bool, measured map[string][]boot) {
	p.parts = append(p.parts, benchPart{distance, cold, measured})
}

// of is the median of a figure, and its spread.
func of[T int64 | time.Duration](boots []boot, figure func(boot) T) (T, T) {
	var all []T
	for _, r := range boots {
		all = append(all, figure(r))
	}
	return middle(all)
}

func ms(d time.Duration) string { return fmt.Sprintf("%.0f ms", float64(d)/1e6) }
func mib(n int64) string        { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

// ownTime says what of the way by rest is the agent's own.
func (p benchPart) ownTime() string {
	all := p.measured[restRegistered]
	registers, _ := of(all, func(r boot) time.Duration { return r.listens - r.config })
	own, _ := of(all, func(r boot) time.Duration { return r.online - r.listens })
	share, _ := of(all, func(r boot) int64 { return int64(100 * (r.online - r.config) / (r.online - r.listens)) })
	return fmt.Sprintf("By rest: %s from the request that registers until the agent's service begins, then %s of the agent's own until its "+
		"session. From that request until online: %.2f × the agent's own time.\n\n", ms(registers), ms(own), float64(share)/100)
}

func (p *benchPage) render() string {
	var b strings.Builder
	const checked = "floor, with our checks"
	for _, part := range p.parts {
		title := map[string]string{"azure": "An Azure that is near (IMDS 5 ms, a token 60 ms, the vault 35 ms, Azure DevOps 60 ms)", "none": "An Azure that is no distance away"}[part.distance]
		fmt.Fprintf(&b, "### %s, %s page cache\n\n", title, map[bool]string{false: "warm", true: "cold"}[part.cold])
		b.WriteString(
			"| | start → config.sh | ÷ floor with our checks | its start → its first request | start → online | ÷ curl + jq | CPU but for config.sh's | ÷ curl + jq | peak RSS | requests | bytes |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
		)
		config := func(r boot) time.Duration { return r.config }
		least, _ := of(part.measured[checked], config)
		cpu := func(r boot) time.Duration { return r.cpu }
		theirs, _ := of(part.measured["curl + jq"], cpu)
		online := func(r boot) time.Duration { return r.online }
		theirOnline, _ := of(part.measured["curl + jq"], online)
		for _, c := range contenders() {
			all := part.measured[c.name]
			to, spread := of(all, config)
			starts, _ := of(all, func(r boot) time.Duration { return r.begun - r.config })
			joined, onlineSpread := of(all, online)
			took, _ := of(all, cpu)
			rss, _ := of(all, func(r boot) int64 { return r.rss })
			bytes, _ := of(all, func(r boot) int64 { return r.bytes })
			requests := all[len(all)-1].requests
			name, used, share, memory := c.name, ms(took), fmt.Sprintf("%.2f", float64(took)/float64(theirs)), mib(rss)
			if c.self != nil {
				used, share, memory = "", "", ""
			}
			if c.ours() {
				name = "**" + name + "**"
			}
			asks := ms(starts)
			if c.rest {
				asks = ""
			}
			fmt.Fprintf(
				&b,
				"| %s | %s ± %s | %.2f | %s | %s ± %s | %.2f | %s | %s | %s | %d + %d + %d + %d | %d |\n",
				name,
				ms(to),
				ms(spread),
				float64(to)/float64(least),
				asks,
				ms(joined),
				ms(onlineSpread),
				float64(joined)/float64(theirOnline),
				used,
				share,
				memory,
				requests["imds"],
				requests["identity"],
				requests["vault"],
				requests["devops"],
				bytes,
			)
		}
		b.WriteByte('\n')
		b.WriteString(part.ownTime())
	}
	b.WriteString("### The program\n\n| | size | start, warm | start, cold |\n| --- | --- | --- | --- |\n")
	for _, s := range p.programs {
		size := ""
		if s.size > 0 {
			size = mib(s.size)
		}
		warm, _ := middle(s.warm)
		cold, _ := middle(s.cold)
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", s.name, size, ms(warm), ms(cold))
	}
	fmt.Fprintf(
		&b,
		"\nThe daemon, while nothing happens (%s): %s resident, %.1f wake-ups a second, %.2f %% of a core.\n",
		p.idle.length,
		mib(p.idle.rss),
		p.idle.wakeups,
		100*p.idle.cpu,
	)
	fmt.Fprintf(
		&b, "\n`azp-bootstrap sweep --yes`, %d agents of deleted VMs, 8 KiB each, in a pool: %s and %s at most until it knows "+
			"what to remove, %s and %s with their removal, one after the other.\n",
		p.sweep.agents, ms(p.sweep.plan), mib(p.sweep.planRSS), ms(p.sweep.all), mib(p.sweep.allRSS),
	)
	daemon, spread := middle(p.once.ours)
	peers, peersSpread := middle(p.once.peers)
	fmt.Fprintf(
		&b, "\nOne job, one VM (`retire: {jobs: 1}`), an Azure that is near: the agent is removed %s ± %s after its job's end, %s at most; "+
			"by a script with `run.sh --once`, curl and jq (`scripts/bench/once.sh`) %s ± %s, so %.2f of that. The script asks once, "+
			"believes the answer, and leaves the agent behind if it is ended itself.\n",
		ms(daemon), ms(spread), ms(slices.Max(p.once.ours)), ms(peers), ms(peersSpread), float64(daemon)/float64(peers),
	)
	return fmt.Sprintf(benchHead, p.runs) + b.String() + benchTail
}

const benchHead = `<!-- Made by make bench from what it measured. Do not edit. -->
# Performance

` + "`make bench`" + ` boots one VM after the other, on a Debian with its own systemd (systemd-nspawn; needs root), each time from a folder as image time
leaves it, against one simulated Azure with TLS, at its production names in a network of its own, with the same stand-in for
Microsoft's agent as a service. To repeat it: ` + "`make bench`" + `, or quickly ` + "`make bench RUNS=2`" + `; the lines it prints are for benchstat.
Medians of %d runs, ± half the distance of the quartiles. Absolute times are those of a small virtual machine and mean
little elsewhere; compare the lines of one table.

- **azp-bootstrap**: ` + "`azp-bootstrap run --once`" + `, with all its checks, its state on disk, the agent's unit enabled and started, and the agent confirmed online.
- **azp-bootstrap, by rest**: the same with ` + "`agent.registration: rest`" + `: the daemon registers the agent itself. *Start → config.sh* is then the
  time until it begins to: its first request that changes something. The requests that register, and its CPU, are in its figures.
- **curl + jq** (` + "`scripts/bench/curl-jq.sh`" + `): token, secret, config.sh, svc.sh install, svc.sh start, as people write it: no check, the PAT in an argument
  list. (` + "`scripts/bench/svc.sh`" + ` stands for the agent's: the same programs in the same order.)
- **curl + jq, with our checks**: the instance, the environment, an agent of this name, and a wait until it is online.
- **azure-cli**: Debian's 2.45, ` + "`az login --identity`" + ` and ` + "`az rest`" + ` for the secret, then as the first.
- **floor**: a process that runs already and has its connections: token, then secret, then config.sh, then run.sh, without a service. *With our checks*:
  and between them the target, then an agent of its name, each of which needs the answer before it.

*Start → config.sh* ends when config.sh's first line runs; *online* when the server has the agent's session. The stand-in's config.sh and its
service read 200 files of 200 KiB, as .NET does of its assemblies when it starts: that start is what reading ahead shortens, in a
cold cache. CPU: of the program and all that it starts, without config.sh; systemd's own is not in it, which reads all its units
twice for svc.sh. Requests: IMDS + tokens + vault + Azure DevOps, without config.sh's and the agent's own.

`

const benchTail = `
## What it says

Goals, for an Azure that is near and a warm cache: within 1.35 of the floor with our checks; ahead of curl + jq in wall time to *online*, though it
does more; five times ahead of azure-cli to config.sh; 0.35 of the CPU of curl + jq; 32 MiB at most; 18 MiB of binary; 6 wake-ups a
second at rest; a sweep of 10,000 agents within a minute and 100 MiB; an agent of one job gone within 3 s of
its job's end. How they are held, and what else it takes: [profiles](profiles.md). See also [what is done before it is needed](../decisions/ahead.md) and [thousands of VMs](storm.md).
`
