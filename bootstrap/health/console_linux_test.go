package health

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A console that nobody reads fills up; a boot must not wait for it.
func TestConsoleThatTakesNothing(t *testing.T) {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	old := consoles
	consoles = []string{fmt.Sprintf("/dev/pts/%d", n)}
	defer func() { consoles = old }()

	c := OpenConsole(func(s string) string { return s })
	if c.file == nil {
		t.Fatal("the console was not opened")
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 10_000 {
			c.Line("%s", strings.Repeat("x", 400))
		}
	}()
	select {
	case <-done:
		if c.file != nil {
			t.Error("4 MB went into a console that nobody reads: this tests nothing")
		}
	case <-time.After(time.Minute):
		t.Fatal("a line waits for a console that takes nothing")
	}
}
