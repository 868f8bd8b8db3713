package bootstrap

import (
	"context"
	"time"
)

// watch stays with a VM that is ready until ctx ends or the agent needs to be brought up again. An
// agent that is a service of the OS is restarted by the service manager.
func (b *Boot) watch(ctx context.Context) error {
	if !b.Runner.Process {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if running, _ := b.Runner.Running(""); !running {
				b.Log.Warn("the agent has ended; it is started again")
				if _, err := startService(ctx, b); err != nil {
					return b.failed(err)
				}
			}
		}
	}
}

// leave ends what must not outlive the daemon. A stop is not a failure.
func (b *Boot) leave(ctx context.Context) error {
	if b.Runner.Process && !b.Once {
		if err := b.Runner.Stop(); err != nil {
			return err
		}
	}
	if b.Once {
		return context.Cause(ctx)
	}
	return nil
}
