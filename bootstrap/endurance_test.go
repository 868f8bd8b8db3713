//go:build linux

package bootstrap_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"azp-bootstrap/bootstrap/sim"
)

// How much of each; by default enough to see that it works. make endurance does the whole.
var (
	seed   = flag.Uint64("seed", 1, "first seed of the runs that are left to chance")
	kills  = flag.Int("kills", 4, "boots that are ended at a random instant")
	soaked = flag.Int("soak", 6, "boots in sequence, with faults at random")
	crowd  = flag.Int("crowd", 6, "VMs that boot at once, with faults at random")
)

// command runs the program on the machine's disk.
func (m *machine) command(limit time.Duration, args ...string) *exec.Cmd {
	dir, err := programs()
	if err != nil {
		m.t.Fatal(err)
	}
	o := m.options(limit)
	cmd := exec.Command(
		filepath.Join(dir, "azp-bootstrap"),
		append(args, "--config", o.ConfigFile, "--state-dir", o.StateDir, "--set", "health.listen=127.0.0.1:0")...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + m.dir}
	return cmd
}

// TestEndedAtAnyInstant: a boot, by command or as a daemon, is ended by SIGKILL or SIGTERM at a
// random instant, up to three times, with the power going at times; then it boots undisturbed and
// must join, with one agent.
func TestEndedAtAnyInstant(t *testing.T) {
	for n := range few(*kills) {
		s := *seed + uint64(n)
		t.Run(fmt.Sprint("seed ", s), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(s, 0))
			m := realMachine(t)
			m.registration = []string{"script", "rest"}[n%2]
			m.prepare(t, "")
			for range 1 + r.IntN(3) {
				args := []string{"run"}
				if r.IntN(3) > 0 {
					args = append(args, "--once")
				}
				sig := []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM}[r.IntN(2)]
				after := time.Duration(r.IntN(1500)) * time.Millisecond
				off := r.IntN(2) == 0
				var said bytes.Buffer
				cmd := m.command(time.Minute, args...)
				cmd.Stderr = &said
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				<-time.After(after)
				_ = cmd.Process.Signal(sig)
				err := cmd.Wait()
				if off {
					m.powerOff("agent.pid", "configure.pid")
				}
				t.Logf("%s: %s after %s, power off: %t: %v", strings.Join(args, " "), sig, after, off, err)
				m.said.Write(said.Bytes())
				if err := m.sound(); err != nil {
					t.Error(err)
				}
			}
			out, err := m.command(time.Minute, "run", "--once").CombinedOutput()
			m.said.Write(out)
			if err != nil {
				t.Errorf("undisturbed it does not join: %v\n%s", err, out)
			}
			if err := m.sound(); err != nil {
				t.Error(err)
			}
			if all := m.azure.Agents(); len(all) != 1 || all[0].Status != "online" {
				t.Errorf("at the end: %v", all)
			}
			m.tidy(t)
		})
	}
}

// randomFaults are up to three faults that pass, and at times one that stays.
func randomFaults(r *rand.Rand) (faults []sim.Fault) {
	for range r.IntN(4) {
		f := sim.Fault{
			Service: []string{"imds", "identity", "vault", "devops", "proxy"}[r.IntN(5)],
			Skip:    r.IntN(4),
			Times:   1 + r.IntN(3),
		}
		switch r.IntN(6) {
		case 0:
			f.Cut = true
		case 1:
			f.Delay = time.Duration(r.IntN(300)) * time.Millisecond
		case 2:
			f.Status, f.RetryAfter = 429, "1"
		default:
			f.Status = []int{400, 401, 403, 404, 408, 409, 500, 502, 503, 504}[r.IntN(10)]
		}
		if r.IntN(10) == 0 {
			f.Times = 0
		}
		faults = append(faults, f)
	}
	return faults
}

func (f *fleet) strike(t *testing.T, faults []sim.Fault) {
	s, err := sim.Load("")
	if err != nil {
		t.Fatal(err)
	}
	s.VMs, s.Faults = f.azure.VMs(), faults
	if err := f.azure.Apply(s); err != nil {
		t.Fatal(err)
	}
}

// TestCrowd boots many VMs at once on one machine, each a process of its own, with faults at
// random; then the faults end and all must be in.
func TestCrowd(t *testing.T) {
	all := realMachines(t, *crowd)
	r := rand.New(rand.NewPCG(*seed, 2))
	for _, m := range all {
		m.prepare(t, "")
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() { // other faults every second
		for ctx.Err() == nil {
			all[0].strike(t, randomFaults(r))
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
			}
		}
	}()
	var mu sync.Mutex
	outcomes := map[string]int{}
	boot := func(check bool) {
		var wg sync.WaitGroup
		for _, m := range all {
			cmd := m.command(30*time.Second, "run", "--once")
			if check {
				cmd = m.command(2*time.Minute, "run", "--once")
			}
			wg.Go(func() {
				out, err := cmd.CombinedOutput()
				mu.Lock()
				defer mu.Unlock()
				m.said.Write(out)
				code := 0
				var ee *exec.ExitError
				if errors.As(err, &ee) {
					code = ee.ExitCode()
				}
				outcomes[fmt.Sprint("exit code ", code)]++
				if code == 1 || code == 2 || code < 0 || check && code != 0 {
					t.Errorf("%s: %v\n%s", m.name, err, out)
				}
			})
		}
		wg.Wait()
	}
	boot(false)
	cancel()
	t.Logf("%d VMs at once: %v", *crowd, outcomes)
	all[0].strike(t, nil)
	boot(true)
	online := 0
	for begin := time.Now(); online != *crowd && time.Since(begin) < time.Minute; <-time.After(time.Second) {
		online = 0 // an agent whose connection a fault has cut comes back by itself
		for _, a := range all[0].azure.Agents() {
			if a.Status == "online" {
				online++
			}
		}
	}
	if online != *crowd {
		t.Errorf("%d agents are online at the end, of %d", online, *crowd)
	}
	for _, m := range all {
		if err := m.sound(); err != nil {
			t.Errorf("%s: %s", m.name, err)
		}
		m.tidy(t)
	}
}
