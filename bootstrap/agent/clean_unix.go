//go:build unix

package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"azp-bootstrap/bootstrap/secret"
	"azp-bootstrap/bootstrap/whole"
)

const (
	cleanLimit  = 10 * time.Minute // for all scripts together
	cleanOutput = 200              // lines of one script that are logged
)

// Clean runs root's scripts that make room: the executable files of a folder, in the order of their
// names. Like the configuration they must be written by nobody else. They run as the daemon does,
// with no word of its environment, and nothing of their process groups is left when one ends, the
// time is over or ctx ends. said hears what they write; the error says what went wrong, and with
// which.
func (r Runner) Clean(
	ctx context.Context, folder, work string, redactor *secret.Redactor, said func(script, line string),
) error {
	ctx, cancel := context.WithTimeout(ctx, cleanLimit)
	defer cancel()
	for _, each := range []string{folder, filepath.Dir(folder)} {
		fi, err := os.Lstat(each)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if !fi.IsDir() || !alone(fi) {
			return fmt.Errorf("%s is not a folder that only root may write: no script of %s runs", each, folder)
		}
	}
	entries, err := os.ReadDir(folder)
	for _, e := range entries {
		name := filepath.Join(folder, e.Name())
		fi, e := os.Lstat(name)
		switch {
		case e != nil:
			err = errors.Join(err, e)
		case fi.Mode().IsRegular() && fi.Mode().Perm()&0o111 == 0: // a README
		case !fi.Mode().IsRegular() || !alone(fi):
			err = errors.Join(err, fmt.Errorf("%s was not run: it is not a file that only root may write", name))
		case ctx.Err() != nil:
			err = errors.Join(err, fmt.Errorf("%s was not run: the time was over", name))
		default:
			err = errors.Join(err, r.cleanBy(ctx, name, work, redactor, said))
		}
	}
	return err
}

// CleanRecord is the file of the state folder that names the script at work.
const CleanRecord = "clean.pid"

// ReadyToClean makes the file of that record, so that there is one when the disk is full: a script that is not
// recorded does not run, because a later daemon could not end it.
func (r Runner) ReadyToClean() error {
	if recorded(r.cleanRecord()) != 0 {
		return nil
	}
	return whole.Over(r.cleanRecord(), "", 0o644)
}

func (r Runner) cleanRecord() string { return filepath.Join(r.State, CleanRecord) }

// EndCleaning ends a script that an earlier daemon left at work, and all that it started.
func (r Runner) EndCleaning(ctx context.Context) error {
	return endRecorded(ctx, r.cleanRecord(), syscall.SIGKILL, 0)
}

func (r Runner) cleanBy(
	ctx context.Context, script, work string, redactor *secret.Redactor, said func(script, line string),
) error {
	p := process{Self: true, Dir: "/", Argv: []string{script}, Record: r.cleanRecord(), Stays: true, Env: []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/", "LANG=C.UTF-8",
		"AGENT_FOLDER=" + r.Dir, "WORK_FOLDER=" + r.folder(work),
	}}
	lines := 0
	code, err := p.run(ctx, func(out io.Reader, _ func()) {
		_ = redactor.Lines(out, func(line string) {
			if lines++; lines <= cleanOutput && line != "" {
				said(script, line)
			}
		})
	})
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%s did not end in time", script)
	case err != nil:
		return fmt.Errorf("%s: %w", script, err)
	case code != 0:
		return fmt.Errorf("%s ended with exit code %d", script, code)
	}
	return nil
}
