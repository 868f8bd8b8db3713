//go:build unix

package standin

import (
	"context"
	"crypto/x509"
	"os"
	"os/exec"
	"strconv"
)

const (
	system        = "Linux"
	workerProgram = "./bin/Agent.Worker"

	lingering = "trap '' HUP TERM; sleep 300" // a script that outlives whoever starts it
)

// updates is the script that goes on when the listener has ended, and puts the programs of the new version in the
// place of the old ones (agent repository, src/Misc/layoutbin/update.sh.template).
const updates = `while kill -0 "$1" 2>/dev/null; do sleep 1; done
sleep 1
for part in bin externals; do
	if [ -L $part ]; then rm $part; else mv $part $part."$2"; fi && ln -s $part."$3" $part || exit 1
done
echo "$2 is $3 now"`

// beginUpdate lays the programs of the new version beside the old ones, and begins the script (SelfUpdater.cs).
func beginUpdate(version string) error {
	for _, part := range []string{"bin", "externals"} {
		if err := os.RemoveAll(part + "." + version); err != nil {
			return err
		}
		if err := exec.Command("cp", "-RH", part, part+"."+version).Run(); err != nil { //nolint:gosec // a stand-in's own folder
			return err
		}
	}
	if err := os.MkdirAll("_diag", 0o755); err != nil { //nolint:gosec // as the real one
		return err
	}
	log, err := os.Create("_diag/SelfUpdate.log")
	if err != nil {
		return err
	}
	defer log.Close()                                                                                          //nolint:errcheck // the script's
	script := exec.Command("/bin/sh", "-c", updates, "update.sh", strconv.Itoa(os.Getpid()), Version, version) //nolint:gosec // as above
	script.Stdout, script.Stderr = log, log
	return script.Start()
}

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
