//go:build !windows

package main

import "github.com/spf13/cobra"

// protectOwn: who makes a folder here is the only one who may write it.
func protectOwn() error { return nil }

// installNative and uninstallNative are for Windows, whose services want more than others.
func (a *app) installNative(*cobra.Command, bool) (done bool, err error) { return false, nil }

func (a *app) uninstallNative(*cobra.Command) (done bool, err error) { return false, nil }
