package agent

import "testing"

// TestBrings: a worker is this agent's by where its program lies, also after the agent's update of itself.
func TestBrings(t *testing.T) {
	h := Home{Dir: `C:\azp-agent`}
	for image, want := range map[string]bool{
		`C:\azp-agent\bin\Agent.Worker.exe`:              true,
		`c:\AZP-AGENT\BIN\agent.worker.exe`:              true,
		`C:\azp-agent\bin.4.248.0\Agent.Worker.exe`:      true,
		`C:\azp-agent\_work\1\s\Agent.Worker.exe`:        false,
		`C:\azp-agent\binary\Agent.Worker.exe`:           false,
		`C:\azp-agent\bin.evil\sub\Agent.Worker.exe`:     false,
		`C:\other\bin\Agent.Worker.exe`:                  false,
		`C:\azp-agent\bin\..\_work\bin\Agent.Worker.exe`: false,
	} {
		if got := h.brings(image); got != want {
			t.Errorf("%s: %v", image, got)
		}
	}
}

// TestExitCodes: what a shell on Linux says by a signal's number is nothing here.
func TestExitCodes(t *testing.T) {
	for exit, want := range map[int][2]bool{ // passing, not run
		1: {}, 127: {}, 134: {}, 255: {}, 9009: {false, true}, 0xC0000005: {true, false}, 0xE0434352: {true, false},
	} {
		if got := [2]bool{ended(exit), notRun(exit)}; got != want {
			t.Errorf("%d: %v", exit, got)
		}
	}
}
