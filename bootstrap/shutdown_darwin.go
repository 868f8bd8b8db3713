package bootstrap

import "context"

// shuttingDown cannot tell here: the end of the service is not the end of the machine.
func shuttingDown(context.Context) bool { return false }
