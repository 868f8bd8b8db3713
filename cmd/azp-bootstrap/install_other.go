//go:build !windows

package main

import "github.com/spf13/cobra"

// installNative and uninstallNative are for Windows, whose services want more than others.
func (a *app) installNative(*cobra.Command, bool) (done bool, err error) { return false, nil }

func (a *app) uninstallNative(*cobra.Command) (done bool, err error) { return false, nil }
