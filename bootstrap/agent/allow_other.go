//go:build !linux

package agent

import "context"

// Allowed: here the agent's service starts by itself.
func (r Runner) Allowed(string) bool { return true }

// Resume does nothing here.
func (r Runner) Resume(context.Context, string, string) error { return nil }

// Firmware is not asked here.
func (r Runner) Firmware(string) bool { return false }
