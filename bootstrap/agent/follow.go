package agent

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// A Word is what the agent says of its connection to Azure DevOps, of what that wants of it, or of its jobs.
type Word string

// The words.
const (
	Connected Word = "connected"
	Lost      Word = "lost"     // and it tries again by itself
	Updating  Word = "updating" // itself, as the server wants it (SelfUpdater.cs)
	Missing   Word = "missing"  // it has given up: the server knows this agent no more, or lets it open no session
	Job       Word = "job"      // one begins or has ended
)

// words are what the listener writes (microsoft/azure-pipelines-agent, MessageListener.cs,
// Agent.cs and JobDispatcher.cs; the texts in src/Misc/layoutbin/en-US/strings.json). In another language it says
// nothing.
var words = []struct {
	pattern *regexp.Regexp
	word    Word
}{
	{regexp.MustCompile(`^[-0-9 :]+Z: (Listening for Jobs|Agent reconnected\.)$`), Connected},
	{regexp.MustCompile(`^[-0-9 :]+Z: Agent connect error: `), Lost},
	{regexp.MustCompile(`^([-0-9 :]+Z: )?Downloading [0-9.]+ agent$`), Updating},
	{regexp.MustCompile(`^[-0-9 :]+Z: (Running job: |Job .* completed with result: )`), Job},
	{regexp.MustCompile(`^The agent no longer exists on the server\.`), Missing},
	{regexp.MustCompile(`^Failed to create session\.`), Missing}, // it may not, or the pool is gone
}

func wordOf(line string) Word {
	for _, w := range words {
		if w.pattern.MatchString(line) {
			return w.word
		}
	}
	return ""
}

// Follow reads what the agent writes from now on and hands its words on, until ctx ends; with
// since, also what it has written since then: a line that does not say when is handed on, too.
// What jobs start can write there as well: a word is a reason to look, never more.
func (r Runner) Follow(ctx context.Context, service string, since time.Time, heard func(w Word, line string)) error {
	hear := func(line string) {
		line = strings.TrimSpace(line)
		w := wordOf(line)
		if w == "" {
			return
		}
		if !since.IsZero() {
			at, err := time.Parse("2006-01-02 15:04:05Z", line[:min(len(line), 20)])
			if err == nil && at.Before(since.Truncate(time.Second)) {
				return
			}
		}
		heard(w, line[:min(len(line), 300)])
	}
	if r.Process {
		return followFile(ctx, filepath.Join(r.State, "agent.log"), !since.IsZero(), hear)
	}
	return r.followService(ctx, service, !since.IsZero(), hear)
}

// How often a file is looked at: soon at first, when the agent was just started.
const fileSoon, fileEvery = 50 * time.Millisecond, 5 * time.Second

// recentBytes, recentLines are how much of what was written before is read again.
const recentBytes, recentLines = 64 << 10, 50

// longestWords is what is heard of a line: a longer one is a job's.
const longestWords = 64 << 10

// followFile looks for new lines now and then; a line without an end waits for it.
func followFile(ctx context.Context, name string, recent bool, hear func(line string)) error {
	f, err := os.Open(name) //nolint:gosec // in the state folder
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // only read
	end, err := f.Seek(0, io.SeekEnd)
	if err == nil && recent {
		_, err = f.Seek(max(0, end-recentBytes), io.SeekStart)
	}
	if err != nil {
		return err
	}
	look := time.NewTimer(0)
	defer look.Stop()
	every := fileSoon
	lines := bufio.NewReader(f)
	for part := ""; ; {
		text, err := lines.ReadSlice('\n')
		if part += string(text[:min(len(text), longestWords-len(part))]); err == nil {
			hear(part)
			part = ""
		}
		if err == nil || errors.Is(err, bufio.ErrBufferFull) {
			continue // with the next line, or with what is left of a long one
		}
		select {
		case <-look.C:
			look.Reset(every)
			every = min(every+every/4, fileEvery)
		case <-ctx.Done():
			return nil
		}
	}
}
