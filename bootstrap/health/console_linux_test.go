package health

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
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
	said := make([]byte, 64<<10)
	n := 0
	for n < len(said) && !strings.Contains(string(said[:n]), "line 49 ***") {
		_ = master.SetReadDeadline(time.Now().Add(5 * time.Second))
		more, err := master.Read(said[n:])
		if n += more; err != nil {
			t.Fatalf("%v after %q", err, said[:n])
		}
	}
	if got := strings.Count(string(said[:n]), "azp-bootstrap: line "); got != 50 || strings.Contains(string(said[:n]), "secret") {
		t.Errorf("%d lines: %q", got, said[:n])
	}
}
