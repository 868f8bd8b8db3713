package bootstrap

// shuttingDown: the service control manager does not tell a stop from a shutdown in this daemon yet,
// so neither deregisters.
func shuttingDown() bool { return false }
