//go:build unix

package agent

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestWordsOfTheListener(t *testing.T) {
	for line, want := range map[string]Word{
		"2026-11-24 03:00:00Z: Listening for Jobs": Connected,
		"2026-11-24 03:00:00Z: Agent reconnected.": Connected,
		"2026-11-24 03:00:00Z: Agent connect error: VS800075: The project does not exist. Retrying until reconnected.": Lost,
		"2026-11-24 03:00:00Z: Agent connect error: a message that is broken over lines":                               Lost,
		"The agent no longer exists on the server. Please reconfigure the agent.":                                      Missing,
		"Failed to create session. No agent pool found with identifier 9.":                                             Missing,
		"2026-11-24 03:00:00Z: Running job: deploy":                                                                    Job,
		"2026-11-24 03:00:00Z: Running job: Agent reconnected.":                                                        Job,
		"2026-11-24 03:00:00Z: Job Listening for Jobs completed with result: Succeeded":                                Job,
		"2026-11-24 03:00:00Z: Job a is at work":                                                                       "",
		"Scanning for tool capabilities.":                                                                              "",
		"":                                                                                                             "",
		"Downloading 4.269.0 agent":                                                                                    Updating,
		"2026-11-24 03:00:00Z: Downloading 4.269.0 agent":                                                              Updating,
		"Downloading 4.269.0 agent of a job":                                                                           "",
	} {
		if got := wordOf(line); got != want {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
}

// What was written before is not news; a line without an end is not one yet.
func TestFollowHearsOnlyWhatIsNew(t *testing.T) {
	state := t.TempDir()
	log := filepath.Join(state, "agent.log")
	if err := os.WriteFile(
		log,
		[]byte("The agent no longer exists on the server. Please reconfigure the agent.\n"),
		0o600,
	); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	heard := make(chan Word)
	go func() {
		_ = Runner{Process: true, State: state}.Follow(ctx, "", time.Time{}, func(w Word, _ string) { heard <- w })
	}()
	<-time.After(50 * time.Millisecond) // it is at the end of the file by now
	f, err := os.OpenFile(log, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	long := strings.Repeat("a job's ", 100<<10) // longer than any that is kept
	for _, text := range []string{long, "\n", "2026-11-24 03:00:00Z: Agent recon", "nected.\n"} {
		if _, err := f.WriteString(text); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case w := <-heard:
		if w != Connected {
			t.Errorf("heard %q", w)
		}
	case <-ctx.Done():
		t.Error("nothing was heard")
	}
}

// What the agent has said since it was started is heard, however late one listens; what it said
// before is not, where a line says when.
func TestFollowHearsWhatWasSaidSince(t *testing.T) {
	state := t.TempDir()
	text := "2026-11-24 03:00:00Z: Listening for Jobs\nThe agent no longer exists on the server.\n2026-11-24 03:00:07Z: Agent reconnected.\n"
	if err := os.WriteFile(filepath.Join(state, "agent.log"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for since, want := range map[string]int{"03:00:00.9Z": 2, "03:00:01Z": 1, "03:00:07.5Z": 1, "03:00:08Z": 0} {
		at, err := time.Parse(time.RFC3339Nano, "2026-11-24T"+since)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		n, undated := 0, 0
		err = Runner{Process: true, State: state}.Follow(ctx, "", at, func(w Word, _ string) {
			if w == Connected {
				n++
			} else {
				undated++
			}
		})
		cancel()
		if n != want || undated != 1 || err != nil {
			t.Errorf("since %s: %d words, not %d, and %d that do not say when: %v", since, n, want, undated, err)
		}
	}
}

func TestNewer(t *testing.T) {
	for _, c := range []struct {
		one, than string
		want      bool
	}{
		{"4.269.0", "4.248.0", true}, {"4.248.0", "4.248.0", false}, {"4.248.0", "4.269.0", false}, {"4.10.0", "4.9.9", true},
		{"10.0.0", "9.0.0", true}, {"", "4.0.0", false}, {"4.0.0", "", false}, {"x", "4.0.0", false}, {"4.0.0", "latest", false},
	} {
		if got := Newer(c.one, c.than); got != c.want {
			t.Errorf("%s than %s: %v", c.one, c.than, got)
		}
	}
}
