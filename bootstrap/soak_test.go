//go:build linux

package bootstrap_test

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"azp-bootstrap/bootstrap/sim"
	"azp-bootstrap/bootstrap/whole"
)

// descriptors are this process's open files.
func descriptors(t *testing.T) int {
	all, err := os.ReadDir("/proc/thread-self/fd")
	if err != nil {
		t.Skip(err)
	}
	return len(all)
}

// TestSoak boots one VM over and over, with faults and misfortunes at random: each boot joins or is
// classified, and nothing piles up in the process or on the machine.
func TestSoak(t *testing.T) {
	all := realMachines(t, 2)
	m, neighbour := all[0], all[1]
	m.prepare(t, "")
	neighbour.prepare(t, "")
	r := rand.New(rand.NewPCG(*seed, 1))
	outcomes := map[string]int{}
	goroutines, files := 0, 0
	for n := range few(*soaked) {
		mend := m.misfortune(t, neighbour, r.IntN(11))
		faults := randomFaults(r)
		m.strike(t, faults)
		m.said.Reset()
		err := m.once(t.Context(), 8*time.Second)
		mend()
		outcome := "joined"
		if err != nil {
			outcome = err.Class.Code
			if err.Advice == "" || outcome == "internal" {
				t.Errorf("boot %d: not classified: %s", n, err)
			}
		}
		outcomes[outcome]++
		if err := m.sound(); err != nil {
			t.Errorf("boot %d, %+v: %s\n%s", n, faults, err, m.said.String())
		}
		if n == 50 { // by now all that a process needs for good is there
			goroutines, files = settled(t, 1<<20, 1<<20)
		}
	}
	m.strike(t, nil)
	if err := m.once(t.Context(), time.Minute); err != nil {
		t.Errorf("with no faults it does not join: %s", err)
	}
	m.tidy(t)
	if *soaked < 100 { // what piles up shows in many boots, and idle connections take half a minute to go
		t.Logf("%d boots: %v", *soaked, outcomes)
		return
	}
	g, f := settled(t, goroutines+2, files+2)
	t.Logf("%d boots: %v; goroutines %d, then %d; open files %d, then %d", *soaked, outcomes, goroutines, g, files, f)
	if g > goroutines+2 || f > files+2 {
		t.Errorf("it piles up: goroutines %d, then %d; open files %d, then %d", goroutines, g, files, f)
	}
}

// misfortune lets something happen to a VM between two boots. mend, after the next boot, looks
// whether anything of others was harmed by it, and ends it.
func (m *machine) misfortune(t *testing.T, neighbour *machine, which int) (mend func()) {
	t.Helper()
	mend = func() {}
	switch which {
	case 0: // a new disk from the image
		m.powerOff("agent.pid")
		for _, d := range []string{m.state, m.real.agent, m.real.agent + ".package"} {
			if err := os.RemoveAll(d); err != nil {
				t.Fatal(err)
			}
		}
		m.prepare(t, "")
	case 1: // the state is lost
		_ = os.Remove(stateFile(m))
	case 2: // the power goes
		m.powerOff("agent.pid")
	case 3: // somebody removes the agent
		for _, a := range m.azure.Agents() {
			m.azure.Remove(a.Name)
		}
	case 4:
		_ = os.WriteFile(stateFile(m), []byte("damaged"), 0o600)
	case 5: // the environment has another name for a while
		m.azure.Rename("environment", "production", "live")
		mend = func() { m.azure.Rename("environment", "live", "production") }
	case 6: // a person disables the agent: as long as it is that one, it stays so
		before := m.own()
		m.azure.Enable(before.Name, false)
		mend = func() {
			// config.sh, where it is run over an agent, makes a new one of it
			if is := m.own(); before.ID != 0 && is.ID == before.ID && !is.Disabled &&
				!strings.Contains(m.said.String(), "taken over") {
				t.Errorf("a person had disabled the agent %v, and it is enabled", is)
			}
			m.azure.Enable(before.Name, true)
		}
	case 7: // the resource is deleted on the environment's page, and its agent stays in the pool behind
		m.azure.RemoveResource(m.own().Name)
	case 8: // another VM takes name and agent over while this one is off
		name := m.own().Name
		if name == "" {
			break
		}
		m.powerOff("agent.pid")
		m.strike(t, nil)
		out, err := neighbour.command(30*time.Second, "run", "--once", "--set", "agent.name="+name, "--set", "agent.replace=always").
			CombinedOutput()
		if err != nil {
			t.Errorf("the other VM does not join: %v\n%s", err, out)
		}
		theirs := neighbour.own()
		mend = func() {
			if is := neighbour.own(); is.ID == 0 || is.ID != theirs.ID || is.Disabled {
				t.Errorf("the agent of another VM: %v became %v", theirs, is)
			}
			m.strike(t, nil)
			if out, err := neighbour.command(30*time.Second, "deregister", "--now").CombinedOutput(); err != nil {
				t.Errorf("the other VM does not leave: %v\n%s", err, out)
			}
		}
	case 9: // Azure takes this VM and another one: the daemon leaves, and answers for itself alone
		m.strike(t, nil)
		event := m.azure.Schedule([]string{m.name, neighbour.name}, "Terminate", time.Minute)
		daemon := m.command(30*time.Second, "run")
		if err := daemon.Start(); err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(20 * time.Second); m.own().ID != 0 && time.Now().Before(end); {
			<-time.After(50 * time.Millisecond)
		}
		_ = daemon.Process.Signal(syscall.SIGTERM)
		_ = daemon.Wait()
		if !m.azure.Cancel(event.ID) {
			t.Error("an event of two VMs was acknowledged by one")
		}
	}
	return mend
}

// own is the agent of this VM, as Azure DevOps knows it.
func (m *machine) own() sim.AgentSeen {
	for _, a := range m.azure.Agents() {
		if a.InstanceID == m.instance() {
			return a
		}
	}
	return sim.AgentSeen{}
}

// tidy looks for what must not be left.
func (m *machine) tidy(t *testing.T) {
	for _, dir := range []string{m.state, m.real.agent + ".package", filepath.Dir(m.real.agent)} {
		left, _ := filepath.Glob(filepath.Join(dir, ".*"))
		left = slices.DeleteFunc(left, func(name string) bool { return slices.Contains(whole.Spares("state.json"), filepath.Base(name)) })
		if len(left) > 0 {
			t.Errorf("temporary files are left: %v", left)
		}
	}
	if all, _ := filepath.Glob(m.state + "/*"); len(all) > 7 {
		t.Errorf("files pile up in the state folder: %v", all)
	}
}

// settled counts when idle connections have gone, or the counts are low enough.
func settled(t *testing.T, goroutines, files int) (int, int) {
	for end := time.Now().Add(40 * time.Second); ; <-time.After(100 * time.Millisecond) {
		runtime.GC() // what earlier tests left closes its files
		g, f := runtime.NumGoroutine(), descriptors(t)
		if time.Now().After(end) || g <= goroutines && f <= files {
			return g, f
		}
	}
}
