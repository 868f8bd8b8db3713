package health

import (
	"io"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
)

// systemd ends a daemon that does not say that it is up (Type=notify), and takes each line for a
// field (sd_notify(3)).
func TestSystemdHears(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "notify")
	ln, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close() //nolint:errcheck // only read
	t.Setenv("NOTIFY_SOCKET", socket)
	log := logrus.New()
	log.SetOutput(io.Discard)
	r := &Reporter{Log: log, Live: NewLive()}
	for want, say := range map[string]func(){
		"READY=1":                      r.Begun,
		"STOPPING=1":                   r.Stopping,
		"STATUS=register\ufffdREADY=0": func() { r.PhaseBegun("register\nREADY=0") },
	} {
		say()
		_ = ln.SetReadDeadline(time.Now().Add(10 * time.Second))
		heard := make([]byte, 1<<10)
		n, err := ln.Read(heard)
		if err != nil || string(heard[:n]) != want {
			t.Errorf("heard %q, want %q, %v", heard[:n], want, err)
		}
	}
}
