//go:build unix

package standin

import (
	"context"
	"crypto/x509"
	"os"
	"os/exec"
)

const (
	system        = "Linux"
	workerProgram = "./bin/Agent.Worker"

	lingering = "trap '' HUP TERM; sleep 300" // a script that outlives whoever starts it
)

// roots are whom the agent trusts: whom the system does, and SSL_CERT_FILE, as .NET on Linux.
func roots() *x509.CertPool { return nil }

func shell(script string) *exec.Cmd {
	return exec.Command("/bin/sh", "-c", script) //nolint:gosec // a job does what it likes
}

// telling is how a worker is told to end, if not by a signal.
func telling(*exec.Cmd, string) func() error { return nil }

func hearEnd(chan<- os.Signal) {}

// underService: a listener of a service is one as any other here.
func underService(ctx context.Context) (context.Context, func()) { return ctx, func() {} }

// makeService writes svc.sh, by which people make the service.
func (t *target) makeService(options) error {
	return os.WriteFile(
		"svc.sh",
		[]byte(
			"#!/bin/bash\n# Root runs nothing from this folder: a trap that shows if it does.\ntouch "+
				"/tmp/azp-sim-svc.sh-was-run\nexit 1\n",
		),
		0o755,
	) //nolint:gosec // as the real one
}

// agentService is for Windows.
func agentService() int { return 1 }
