package health

// reload does nothing: a service of Windows is told nothing; it looks by itself.
func reload(int) error { return nil }
