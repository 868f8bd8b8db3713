package health

import (
	"fmt"
	"os"
	"strings"
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
		if _, err := f.WriteString("\r\n"); err == nil { // ttyS0 may open without hardware behind it
			return &Console{f, redact}
		}
		_ = f.Close()
	}
	return &Console{}
}

// Line writes one line. A console that does not take it is not waited for.
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
	_, _ = c.file.WriteString("azp-bootstrap: " + line + "\r\n")
}
