package bootstrap

import (
	"context"
	"errors"
)

// shuttingDown reports whether the service control manager has said that the system goes. Whether it comes back
// it does not say: a reboot counts as well. (The VM joins again then, as after any end that was not an
// operator's.)
func shuttingDown(ctx context.Context) bool { return errors.Is(context.Cause(ctx), ErrShutdown) }
