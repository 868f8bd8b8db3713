package bootstrap

import (
	"context"
	"path/filepath"

	"github.com/gofrs/flock"

	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/gate"
)

// endLeft ends root's scripts that a run left behind which was killed: nobody holds the lock by which they run.
// Those of another run that lives are its own to end.
func (p *program) endLeft(ctx context.Context) {
	locks := map[string]string{agent.StartKind: gate.LockName, agent.CleanKind: cleanLock}
	for _, event := range gate.Events {
		locks[gate.HookKind(event)] = gate.HookLock(event)
	}
	r := agent.Runner{State: p.StateDir}
	for kind, lock := range locks {
		if !r.LeftPrograms(kind) {
			continue
		}
		turn := flock.New(filepath.Join(p.StateDir, lock), flock.SetPermissions(0o600))
		got, err := turn.TryLock()
		if got {
			err = r.EndPrograms(ctx, kind)
		}
		_ = turn.Close()
		if log := p.Log.WithField("of", kind); err != nil {
			log.WithError(err).Warn("a script that a killed run left behind could not be ended")
		} else if got {
			log.Info("a script that a killed run left behind was ended")
		}
	}
}
