//go:build unix

package main

import "syscall"

// plainUmask makes what is written as readable as the code that writes it says. With the 077 of a
// hardened root the agent's account could not enter its own folder; what is secret is written with
// a mode of its own.
func plainUmask() { syscall.Umask(0o022) }
