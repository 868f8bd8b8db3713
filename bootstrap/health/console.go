package health

import (
	"fmt"
	"os"
	"strings"
	"time"
	"unicode"
)

// Console is the VM's serial console, when there is one.
type Console struct {
	file   *os.File
	redact func(string) string
}

// OpenConsole opens the first of the serial line and the kernel's console that takes a line. Azure
// shows ttyS0 in the portal and keeps it for boot diagnostics. Without one, Line does nothing.
func OpenConsole(redact func(string) string) *Console {
	for _, name := range consoles {
		f, err := openConsole(name)
		if err != nil {
			continue
		}
		c := &Console{f, redact}
		if c.write("\r\n") == nil { // ttyS0 may open without hardware behind it
			return c
		}
		_ = f.Close()
	}
	return &Console{}
}

// takesLine is how long a console may take to accept a line. A boot is worth more than its console:
// a line that is held back (flow control, a reader that stopped) must not hold the VM back.
const takesLine = 200 * time.Millisecond

func (c *Console) write(s string) error {
	_ = c.file.SetWriteDeadline(time.Now().Add(takesLine)) // without it a write waits for as long as the line is busy
	_, err := c.file.WriteString(s)
	return err
}

// Line writes one line. A console that does not take it in time is written off.
func (c *Console) Line(format string, args ...any) {
	if c == nil || c.file == nil {
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
	if c.write("azp-bootstrap: "+line+"\r\n") != nil {
		_ = c.file.Close()
		c.file = nil
	}
}
