package agent

import (
	"bufio"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"
)

// spoken is what a line of the listener's diagnostic log says that it has written on its console
// (Terminal.cs; the line's head is HostTraceListener.cs's: [TIME INFO Terminal] WRITE LINE: …).
func spoken(line string) (words string, is bool) {
	for _, mark := range []string{" Terminal] WRITE LINE: ", " Terminal] WRITE ERROR: "} {
		if head, words, is := strings.Cut(line, mark); is && strings.HasPrefix(head, "[") {
			return words, true
		}
	}
	return "", false
}

// newestDiag is the log that the listener writes now: their names are in the order of their time.
func newestDiag(root *os.Root) string {
	entries, err := fs.ReadDir(root.FS(), "_diag")
	if err != nil {
		return ""
	}
	for _, e := range slices.Backward(entries) {
		if n := e.Name(); e.Type().IsRegular() && strings.HasPrefix(n, "Agent_") && strings.HasSuffix(n, ".log") {
			return "_diag/" + n
		}
	}
	return ""
}

// DiagEnd is the end of the newest log of the listener's, no more than so many bytes. It is the jobs' to write.
func (h Home) DiagEnd(longest int64) (string, error) {
	root, err := os.OpenRoot(h.Dir)
	if err != nil {
		return "", err
	}
	defer root.Close() //nolint:errcheck // only read
	name := newestDiag(root)
	if name == "" {
		return "", errors.New("there is no log in _diag")
	}
	f, err := root.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close() //nolint:errcheck // only read
	if fi, err := f.Stat(); err == nil && fi.Size() > longest {
		_, _ = f.Seek(-longest, io.SeekEnd)
	}
	text, err := io.ReadAll(io.LimitReader(f, longest))
	return name + "\n" + string(text), err
}

// followDiag hears what the listener says in its diagnostic logs, of which it begins a new one with each start:
// with recent, also the end of what is there. The folder is the jobs' to write, so no link leads out of it.
func (h Home) followDiag(ctx context.Context, recent bool, hear func(line string)) error {
	root, err := os.OpenRoot(h.Dir)
	if err != nil {
		return err
	}
	defer root.Close() //nolint:errcheck // only read
	at, skip := newestDiag(root), int64(-1)
	if recent {
		skip = recentBytes
	}
	d := diag{hear: hear}
	if at != "" {
		d.open(root, at, skip)
	}
	defer d.close()
	look := time.NewTimer(0)
	defer look.Stop()
	for every := fileSoon; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-look.C:
			look.Reset(every)
			every = min(every+every/4, fileEvery)
		}
		d.read()
		if now := newestDiag(root); now != "" && now != at { // the listener was started anew
			at, every = now, fileSoon
			d.open(root, at, 1<<62)
			d.read()
		}
	}
}

// A diag is a diagnostic log that is read on and on.
type diag struct {
	hear func(line string)
	file *os.File
	text *bufio.Reader
	part string
}

// open goes on with this file, of which so many bytes at its end are old news that counts: -1 = none.
func (d *diag) open(root *os.Root, name string, recent int64) {
	d.close()
	f, err := root.Open(name)
	if err != nil {
		return
	}
	from := int64(0)
	if end, err := f.Seek(0, io.SeekEnd); err == nil {
		from = max(0, end-max(0, recent))
	}
	_, _ = f.Seek(from, io.SeekStart)
	d.file, d.text, d.part = f, bufio.NewReader(f), ""
}

func (d *diag) close() {
	if d.file != nil {
		_ = d.file.Close()
		d.file = nil
	}
}

// read hears each whole line that there is by now; a line without an end waits for it.
func (d *diag) read() {
	for d.file != nil {
		text, err := d.text.ReadSlice('\n')
		d.part += string(text[:min(len(text), longestWords-len(d.part))])
		if err == nil {
			if words, is := spoken(strings.TrimRight(d.part, "\r\n")); is {
				d.hear(words)
			}
			d.part = ""
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return
		}
	}
}
