//go:build unix

package main

const standinPackage = "vsts-agent-linux-x64-4.248.0.tar.gz"

// The stand-in is told here whom it may trust.
func rememberRoots(string) error { return nil }
func forgetRoots()               {}
