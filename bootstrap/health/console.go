package health

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
	"unicode"
)

// Console is the VM's serial console, when there is one. Lines are written beside what they tell
// of: a serial line takes milliseconds for each.
type Console struct {
	names  []string // of the devices that may be one
	redact func(string) string
	lines  chan string
	done   chan struct{} // closed when all is written, or given up
}

// waiting is how many lines may wait for their turn; what is over is not written.
const waiting = 100

// OpenConsole opens the first of the serial line and the kernel's console that takes a line. Azure
// shows ttyS0 in the portal and keeps it for boot diagnostics. Without one, Line does nothing.
func OpenConsole(redact func(string) string) *Console {
	c := &Console{names: consoles, redact: redact, lines: make(chan string, waiting), done: make(chan struct{})}
	go c.serve()
	return c
}

func (c *Console) serve() {
	defer close(c.done)
	file := c.first()
	for line := range c.lines {
		if file == nil { // written off
			continue
		}
		text := "azp-bootstrap: " + line + "\r\n"
		err := write(file, text)
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			// A login prompt that comes up on the line (agetty) hangs it up for all who hold it.
			_ = file.Close()
			if file = c.first(); file != nil {
				err = write(file, text)
			}
		}
		if err != nil && file != nil {
			_ = file.Close()
			file = nil
		}
	}
	if file != nil {
		_ = file.Close()
	}
}

func (c *Console) first() *os.File {
	for _, name := range c.names {
		f, err := openConsole(name)
		if err != nil {
			continue
		}
		if write(f, "\r\n") == nil { // ttyS0 may open without hardware behind it
			return f
		}
		_ = f.Close()
	}
	return nil
}

// takesLine is how long a console may take to accept a line: the kernel, systemd and cloud-init
// write there as well, at 115,200 baud. One that takes nothing at all (flow control, a reader that
// stopped) is written off. A boot is worth more than its console, so that at the end it waits no
// longer than takesLast.
const (
	takesLine = 10 * time.Second
	takesLast = 2 * time.Second
)

func write(f *os.File, s string) error {
	_ = f.SetWriteDeadline(time.Now().Add(takesLine)) // without it a write waits for as long as the line is busy
	_, err := f.WriteString(s)
	return err
}

// Line writes one line, soon. A console that does not take it in time is written off.
func (c *Console) Line(format string, args ...any) {
	if c == nil {
		return
	}
	line := strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, c.redact(fmt.Sprintf(format, args...)))
	if r := []rune(line); len(r) > 500 {
		line = string(r[:500]) + "…"
	}
	select {
	case c.lines <- line:
	default:
	}
}

// Close waits until what was said is written, or takes too long. Nothing may be said afterwards.
func (c *Console) Close() {
	if c == nil {
		return
	}
	close(c.lines)
	select {
	case <-c.done:
	case <-time.After(takesLast):
	}
}
