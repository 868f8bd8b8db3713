package agent

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A job may write whatever it likes into its unit's journal: what the agent says behind it is
// heard.
func TestFollowHearsBehindALongLine(t *testing.T) {
	bin := t.TempDir()
	journalctl := "#!/bin/sh\nhead -c 1000000 /dev/zero | tr '\\0' x\necho\necho 'The agent no longer exists on the server.'\nexec sleep 600\n"
	if err := os.WriteFile(filepath.Join(bin, "journalctl"), []byte(journalctl), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var heard Word
	_ = Runner{}.Follow(ctx, "vsts.agent.contoso.Default.web.service", time.Time{}, func(w Word, _ string) {
		heard = w
		cancel()
	})
	if heard != Missing {
		t.Errorf("heard %q", heard)
	}
}
