package agent

import "context"

// A Sleeper is an agent's service that waits for the daemon's word: here they start by themselves.
type Sleeper struct{ Unit, Instance string }

// Sleepers: there are none here.
func Sleepers() []Sleeper { return nil }

// Firmware is not asked here.
func (s Sleeper) Firmware() bool { return false }

// Wake does nothing here.
func (s Sleeper) Wake(context.Context) error { return nil }
