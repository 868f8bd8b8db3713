//go:build unix

package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"azp-bootstrap/bootstrap/scripts"
	"azp-bootstrap/bootstrap/secret"
	"azp-bootstrap/bootstrap/whole"
)

const (
	cleanLimit  = 10 * time.Minute // for all scripts together
	cleanOutput = 200              // lines of one script that are logged
)

// Clean runs root's scripts that make room, one after the other: those of a folder that the rules of all scripts let
// run, and as programs are run. They find no word of the daemon's environment. said hears what they write; the error says
// what went wrong, and with which.
func (r Runner) Clean(
	ctx context.Context, folder, work string, redactor *secret.Redactor, said func(script, line string),
) error {
	ctx, cancel := context.WithTimeout(ctx, cleanLimit)
	defer cancel()
	at := r.folder(work)
	if fi, err := os.Lstat(at); err == nil && !fi.IsDir() && owner(fi) != 0 { // root's scripts would go where it leads
		return fmt.Errorf("no script of %s was run: %s is not a folder; a job may have put that there", folder, at)
	}
	names, ignored, err := scripts.Of(folder, scripts.Clean)
	for _, i := range ignored {
		said(filepath.Join(folder, i.Name), "not run: "+i.Why)
	}
	for _, name := range names {
		file := filepath.Join(folder, name)
		if ctx.Err() != nil {
			err = errors.Join(err, fmt.Errorf("%s was not run: the time was over", file))
			continue
		}
		err = errors.Join(err, r.cleanBy(ctx, file, work, redactor, said))
	}
	return err
}

// ReadyToClean makes the file by which a script at work is known, so that there is one when the disk is full: a
// script that is not recorded does not run, because a later daemon could not end it.
func (r Runner) ReadyToClean() error {
	if recorded(r.programRecord(CleanKind)) != 0 {
		return nil
	}
	return whole.Over(r.programRecord(CleanKind), "", 0o644)
}

func (r Runner) cleanBy(
	ctx context.Context, file, work string, redactor *secret.Redactor, said func(script, line string),
) error {
	lines := 0
	code, err := r.RunProgram(ctx, Program{
		Kind: CleanKind, Name: filepath.Base(file), Argv: []string{file}, Most: cleanLimit,
		Env: []string{
			"PATH=" + scripts.Path, "HOME=/", "LANG=C.UTF-8",
			"AGENT_FOLDER=" + r.Dir, "WORK_FOLDER=" + r.folder(work),
		},
	}, redactor, func(line string) {
		if lines++; lines <= cleanOutput && line != "" {
			said(file, line)
		}
	})
	why := ""
	if why = scripts.Unrun(file, code); why != "" {
		why = "; " + why
	}
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%s did not end in time", file)
	case err != nil:
		return fmt.Errorf("%s: %w", file, err)
	case code < 0:
		return fmt.Errorf("%s was ended by a signal", file)
	case code != 0:
		return fmt.Errorf("%s ended with exit code %d%s", file, code, why)
	}
	return nil
}
