package health

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/journal"
)

// terminal makes a new one the console.
func terminal(t *testing.T) (master *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	old := consoles
	consoles = []string{"/dev/azp-no-such-console", fmt.Sprintf("/dev/pts/%d", n)}
	t.Cleanup(func() { consoles = old })
	return master
}

// A console that nobody reads fills up; a boot must not wait for it.
func TestConsoleThatTakesNothing(t *testing.T) {
	terminal(t)
	c := OpenConsole(func(s string) string { return s })
	begin := time.Now()
	for range 10_000 {
		c.Line("%s", strings.Repeat("x", 400))
	}
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("lines wait for a console that takes nothing: %s", took)
	}
	c.Close()
	if took := time.Since(begin); took > 20*time.Second {
		t.Errorf("the end waits for a console that takes nothing: %s", took)
	}
	select {
	case <-c.done:
		t.Error("40 KB went into a console that nobody reads: this tests nothing")
	default:
	}
}

// What was said before the end is written.
func TestConsoleTakesTheLastLine(t *testing.T) {
	master := terminal(t)
	c := OpenConsole(func(s string) string { return strings.ReplaceAll(s, "secret", "***") })
	for i := range 50 {
		c.Line("line %d\nsecret", i)
	}
	c.Close()
	said := readUntil(t, master, "line 49 ***")
	if got := strings.Count(said, "azp-bootstrap: line "); got != 50 || strings.Contains(said, "secret") {
		t.Errorf("%d lines: %q", got, said)
	}
}

func readUntil(t *testing.T, master *os.File, end string) string {
	t.Helper()
	said := make([]byte, 64<<10)
	n := 0
	for last := time.Now().Add(5 * time.Second); n < len(said) && !strings.Contains(string(said[:n]), end); {
		_ = master.SetReadDeadline(last)
		more, err := master.Read(said[n:])
		n += more
		if errors.Is(err, unix.EIO) && time.Now().Before(last) { // nobody holds the other end
			<-time.After(5 * time.Millisecond)
		} else if err != nil {
			t.Fatalf("%v after %q", err, said[:n])
		}
	}
	return string(said[:n])
}

// A login prompt hangs the line up when it comes up; what is said afterwards is written all the
// same.
func TestConsoleThatIsHungUp(t *testing.T) {
	master := terminal(t)
	c := OpenConsole(func(s string) string { return s })
	c.Line("before")
	readUntil(t, master, "before")
	slave, err := openConsole(consoles[1])
	if err != nil {
		t.Fatal(err)
	}
	err = unix.IoctlSetInt(int(slave.Fd()), unix.TIOCVHANGUP, 0)
	_ = slave.Close()
	if errors.Is(err, unix.EPERM) {
		t.Skip("only root can hang a line up")
	} else if err != nil {
		t.Fatal(err)
	}
	c.Line("after")
	readUntil(t, master, "after")
	c.Close()
}

// The serial console is what is left to look at when a VM is gone: it says why.
func TestTheConsoleSaysThatTheVMGoes(t *testing.T) {
	master := terminal(t)
	log := logrus.New()
	log.SetOutput(io.Discard)
	r := Reporter{Log: log, Live: NewLive(), Console: OpenConsole(func(s string) string { return s })}
	r.Goes("delete")
	r.LeftBehind(journal.State{Agent: journal.Agent{Name: "web-1", ID: 7}, Target: journal.Target{Name: "Default"}},
		fault.New(fault.Network, "no answer"))
	r.Console.Close()
	said := readUntil(t, master, "no answer")
	for _, want := range []string{"this VM goes: delete", "LEFT BEHIND (network): agent web-1 (ID 7) in Default: no answer"} {
		if !strings.Contains(said, want) {
			t.Errorf("no %q in %q", want, said)
		}
	}
}
