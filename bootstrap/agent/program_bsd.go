//go:build unix && !linux

package agent

import "context"

// Programs are children of the daemon here.
func unitsRun() bool                           { return false }
func writeUnitScript(Program) (string, error)  { return "", nil }
func unitCommand(p Program, _ string) []string { return p.Argv }
func endUnits(context.Context, string)         {}

// UnitOver: there are no units here.
func UnitOver(string) bool { return true }
