//go:build linux

package bootstrap

import (
	"os"
	"path/filepath"
	"testing"

	"azp-bootstrap/bootstrap/azure"
	"azp-bootstrap/bootstrap/config"
	"azp-bootstrap/bootstrap/gate"
	"azp-bootstrap/bootstrap/member"
	"azp-bootstrap/bootstrap/vm"
)

// In a boot, the agent that stands on a VM starts when the gate was passed, or if there is none, as
// far as that is known before IMDS answers or without a configuration.
func TestWhatHoldsTheAgentBack(t *testing.T) {
	const elsewhere = "11111111-2222-3333-4444-555555555555 the-instance\n"
	for name, c := range map[string]struct {
		after      []string
		refused    bool // the configuration
		remote     bool // sources.trustRemote
		known      bool // IMDS has answered
		passed     bool
		passedThen bool // in an earlier boot
		want       bool
	}{
		"no gate":                              {},
		"no gate any more":                     {passedThen: true},
		"a gate":                               {after: []string{config.CloudInit}, want: true},
		"a gate, in another boot":              {after: []string{config.CloudInit}, known: true, passedThen: true, want: true},
		"a gate that was passed":               {after: []string{config.CloudInit}, passed: true},
		"user data may name one":               {remote: true},
		"user data named one":                  {remote: true, passedThen: true, want: true},
		"user data named one, which is passed": {remote: true, passed: true},
		"user data names none any more":        {remote: true, known: true, passedThen: true},
		"refused":                              {refused: true},
		"refused, and there was a gate":        {refused: true, passedThen: true, want: true},
		"refused, and it is passed":            {refused: true, passed: true},
	} {
		t.Run(name, func(t *testing.T) {
			p := &program{Options: Options{Means: member.Means{StateDir: t.TempDir()}}}
			v := vm.VM{Config: &config.Config{
				Start: config.Start{After: c.after}, Sources: config.Sources{TrustRemote: c.remote},
			}}
			if c.passed {
				of := v
				of.Instance = azure.Instance{VMID: "the-instance"}
				if err := gate.Of(of, p.StateDir).Pass(); err != nil {
					t.Fatal(err)
				}
			}
			if c.passedThen {
				if err := os.WriteFile(filepath.Join(p.StateDir, gate.RecordName), []byte(elsewhere), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if c.known {
				v.Instance = azure.Instance{VMID: "the-instance"}
			}
			m := &member.Member{VM: v}
			if c.refused {
				m = nil
			}
			if got := p.held(m); got != c.want {
				t.Errorf("held: %v", got)
			}
		})
	}
}
