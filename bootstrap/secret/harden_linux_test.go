package secret

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestHarden(t *testing.T) {
	if err := Harden(); err != nil {
		t.Fatal(err)
	}
	if d, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); err != nil || d != 0 {
		t.Errorf("the process can be dumped: %d, %v", d, err)
	}
	limits, err := os.ReadFile("/proc/thread-self/limits")
	if err != nil && os.Geteuid() == 0 {
		t.Fatal(err)
	}
	if err == nil && !strings.Contains(strings.Join(strings.Fields(string(limits)), " "), "Max core file size 0 0") {
		t.Errorf("core files may be written:\n%s", limits)
	}
}
