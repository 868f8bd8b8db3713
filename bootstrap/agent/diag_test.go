package agent

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestSpoken(t *testing.T) {
	for line, want := range map[string]string{
		"[2026-11-28 01:15:20Z INFO Terminal] WRITE LINE: 2026-11-28 01:15:20Z: Listening for Jobs":                                 "2026-11-28 01:15:20Z: Listening for Jobs",
		"[2026-11-28 01:15:20Z ERR  Terminal] WRITE ERROR: The agent no longer exists on the server. Please reconfigure the agent.": "The agent no longer exists on the server. Please reconfigure the agent.",
		"[2026-11-28 01:15:20Z INFO MessageListener] Listening for Jobs":                                                            "",
		"x Terminal] WRITE LINE: y": "",
	} {
		if got, is := spoken(line); got != want || is != (want != "") {
			t.Errorf("%q says %q", line, got)
		}
	}
}

// TestFollowDiag: what is there already is heard only if it is asked for, then each line as it is whole, and
// of a new file all.
func TestFollowDiag(t *testing.T) {
	for name, recent := range map[string]bool{"from now on": false, "and what was said before": true} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.MkdirAll(filepath.Join(dir, "_diag"), 0o755); err != nil {
				t.Fatal(err)
			}
			add := func(file, text string) {
				t.Helper()
				f, err := os.OpenFile(filepath.Join(dir, "_diag", file), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
				if err == nil {
					_, err = f.WriteString(text)
				}
				if err != nil {
					t.Fatal(err)
				}
				_ = f.Close()
			}
			const head = "[2026-11-28 01:15:20Z INFO Terminal] WRITE LINE: "
			add("Agent_20261128-010000-utc.log", head+"old\r\n")
			add("Worker_20261128-020000-utc.log", head+"a worker's\r\n")
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			heard := make(chan string, 10)
			ended := make(chan error, 1)
			go func() {
				ended <- Home{Dir: dir}.followDiag(ctx, recent, func(l string) { heard <- l })
			}()
			want := []string{"old", "one", "two", "three"}
			if !recent {
				want = want[1:]
				for begun := false; !begun && ctx.Err() == nil; { // it begins at the file's end
					add("Agent_20261128-010000-utc.log", head+"probe\r\n")
					select {
					case <-heard:
						begun = true
					case <-time.After(fileSoon):
					}
				}
			}
			add("Agent_20261128-010000-utc.log", head+"on")
			add("Agent_20261128-010000-utc.log", "e\r\n"+"[x] not spoken\r\n")
			var got []string
			for len(got) < len(want)-2 && ctx.Err() == nil {
				select {
				case l := <-heard:
					if l != "probe" {
						got = append(got, l)
					}
				case <-ctx.Done():
				}
			}
			add("Agent_20261128-030000-utc.log", head+"two\r\n"+head+"three\r\n")
			for len(got) < len(want) && ctx.Err() == nil {
				select {
				case l := <-heard:
					if l != "probe" {
						got = append(got, l)
					}
				case <-ctx.Done():
				}
			}
			if strings.Join(got, " ") != strings.Join(want, " ") {
				t.Errorf("heard %v, want %v", got, want)
			}
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}

// TestDiagEnd: the end of the newest log, and no file that a link of the jobs' leads to.
func TestDiagEnd(t *testing.T) {
	dir := t.TempDir()
	h := Home{Dir: dir}
	if _, err := h.DiagEnd(10); err == nil {
		t.Error("there is no log, and none is missed")
	}
	diag := filepath.Join(dir, "_diag")
	if err := os.Mkdir(diag, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"Agent_20260101-000000-utc.log": "old", "Agent_20260102-000000-utc.log": "first line\nlast line\n", "Worker_20260103-000000-utc.log": "job",
	} {
		if err := os.WriteFile(filepath.Join(diag, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := h.DiagEnd(10); err != nil || got != "_diag/Agent_20260102-000000-utc.log\nlast line\n" {
		t.Errorf("%q, %v", got, err)
	}
	outside := t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "Agent_20260104-000000-utc.log"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(diag); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, diag); err != nil {
		t.Skip(err)
	}
	if got, err := h.DiagEnd(10); err == nil {
		t.Errorf("through a link: %q", got)
	}
}
