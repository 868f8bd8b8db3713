//go:build !linux

package agent

// Runnable knows nothing against an agent here.
func (r Runner) Runnable() error { return nil }

func (h Home) executable() error { return nil }
