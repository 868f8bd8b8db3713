//go:build unix && race

package main_test

// Under the race detector the programs that the scenarios run are built with it as well; without
// this only the scenarios themselves would be looked at.
func init() { buildFlags, cgo = []string{"-race"}, "1" }
