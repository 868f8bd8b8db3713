package main

import (
	"os"
	"path/filepath"
)

const standinPackage = "vsts-agent-win-x64-4.248.0.zip"

// rootsFile stands for the machine's store, which the stand-in trusts: the true one is not touched.
func rootsFile() string { return filepath.Join(os.Getenv("ProgramData"), "azp-sim", "roots.pem") }

func rememberRoots(ca string) error {
	data, err := os.ReadFile(ca) //nolint:gosec // the simulator's
	if err == nil {
		err = os.MkdirAll(filepath.Dir(rootsFile()), 0o755) //nolint:gosec // nothing secret
	}
	if err == nil {
		err = os.WriteFile(rootsFile(), data, 0o644) //nolint:gosec // a certificate
	}
	return err
}

func forgetRoots() { _ = os.Remove(rootsFile()) }
