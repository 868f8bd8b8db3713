//go:build linux

package main_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// idle is what the daemon takes while nothing happens.
type idle struct {
	rss     int64
	wakeups float64 // in a second
	cpu     float64 // of a core
	length  time.Duration
}

func (b *bench) idle() (i idle) {
	b.image(contenders()[0])
	cmd := exec.Command(
		filepath.Join(b.bin, "azp-bootstrap"),
		"--config",
		b.path("config.yaml"),
		"--state-dir",
		b.path("state"),
		"run",
	)
	b.must(cmd.Start())
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		b.reset()
	}()
	b.exec(
		filepath.Join(b.bin, "azp-bootstrap"),
		"--state-dir",
		b.path("state"),
		"status",
		"--wait",
		"--timeout",
		"30s",
	)
	<-time.After(5 * time.Second)
	i.length = time.Minute
	switches, ticks := b.activity(cmd.Process.Pid)
	<-time.After(i.length)
	switches2, ticks2 := b.activity(cmd.Process.Pid)
	i.wakeups = float64(switches2-switches) / i.length.Seconds()
	i.cpu = float64(ticks2-ticks) / 100 / i.length.Seconds()
	i.rss = statusField(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid), "VmRSS") << 10
	return i
}

// activity is how often the threads of a process gave way because they had nothing to do, and the
// CPU that it took.
func (b *bench) activity(pid int) (switches, ticks int64) {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	for _, f := range threads {
		switches += statusField(f, "voluntary_ctxt_switches")
	}
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	b.must(err)
	f := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	user, _ := strconv.ParseInt(f[11], 10, 64)
	system, _ := strconv.ParseInt(f[12], 10, 64)
	return switches, user + system
}

func statusField(file, name string) (n int64) {
	data, _ := os.ReadFile(file)
	for line := range strings.Lines(string(data)) {
		if k, v, ok := strings.Cut(line, ":"); ok && k == name {
			n, _ = strconv.ParseInt(strings.Fields(v)[0], 10, 64)
		}
	}
	return n
}

// A program's start, without work.
type started struct {
	name       string
	size       int64
	warm, cold []time.Duration
}

func (b *bench) starts() (all []started) {
	for _, argv := range [][]string{{filepath.Join(b.bin, "azp-bootstrap"), "version"}, {"/usr/bin/curl", "--version"}, {"/usr/bin/az", "version"}} {
		s := started{name: filepath.Base(argv[0]) + " " + argv[1]}
		if fi, err := os.Stat(argv[0]); err == nil && strings.HasPrefix(argv[0], b.bin) {
			s.size = fi.Size()
		}
		run := func() time.Duration {
			begin := time.Now()
			b.exec(argv[0], argv[1:]...)
			return time.Since(begin)
		}
		run()
		for range *benchRuns {
			s.warm = append(s.warm, run())
		}
		for range *benchRuns {
			b.exec("sync")
			b.must(os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0))
			s.cold = append(s.cold, run())
		}
		all = append(all, s)
	}
	return all
}

// swept is what a sweep takes of a pool that nobody has swept for long.
type swept struct {
	agents          int
	plan, all       time.Duration
	planRSS, allRSS int64
}

func (b *bench) sweep() (s swept) {
	s.agents = 10000
	b.exec(filepath.Join(b.bin, "azp-sim"), "populate", "--dir", b.path("azure"), "Default", "--agents", strconv.Itoa(s.agents))
	file := b.path("pool.yaml")
	b.must(os.WriteFile(file, []byte("url: https://dev.azure.com/contoso\ntarget: {pool: {name: Default}}\n"+
		"credential: {keyVault: {url: https://contoso.vault.azure.net, secret: azp-pat}}\n"), 0o600))
	run := func(more ...string) (time.Duration, int64) {
		args := append([]string{"--config", file, "sweep"}, more...)
		cmd := exec.Command(filepath.Join(b.bin, "azp-bootstrap"), args...)
		begin := time.Now()
		out, err := cmd.CombinedOutput()
		if err != nil {
			b.t.Fatalf("sweep: %v\n%s", err, out[max(0, len(out)-2000):])
		}
		return time.Since(begin), cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss << 10
	}
	s.plan, s.planRSS = run()
	s.all, s.allRSS = run("--yes")
	fmt.Printf("BenchmarkSweep/agents=%d 1 %d plan-ns/op %d plan-rss-B %d all-ns/op %d all-rss-B\n",
		s.agents, s.plan, s.planRSS, s.all, s.allRSS)
	return s
}
