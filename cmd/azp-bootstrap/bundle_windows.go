package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/config"
	"azp-bootstrap/bootstrap/journal"
	"azp-bootstrap/bootstrap/scm"
)

// systemPieces are the daemon's log and events, the end of the agent's diagnostic log, what the manager knows of both
// services, and the clock.
func (a *app) systemPieces(ctx context.Context, s journal.State, add func(name, text string)) {
	for _, name := range []string{logName, logName + ".1"} {
		if text, err := end(filepath.Join(a.stateDir, name)); err == nil {
			add(name, text)
		} else if !os.IsNotExist(err) {
			add(name, err.Error())
		}
	}
	add("events.txt", output(ctx, "wevtutil", "qe", "Application", "/c:1000", "/rd:true", "/f:text",
		"/q:*[System[Provider[@Name='"+serviceName+"']]]"))
	services := []string{serviceName}
	if s.Agent.Service != "" {
		services = append(services, s.Agent.Service)
	}
	for _, name := range services {
		program, err := scm.Program(name)
		text := fmt.Sprintf("%s\n%v\n", program, err)
		for _, ask := range []string{"query", "qc", "qfailure"} {
			text += output(ctx, "sc.exe", ask, name) + "\n"
		}
		add("service-"+name+".txt", text)
	}
	if t, err := config.ForImage(a.config, a.set); err == nil {
		text, err := agent.Home{Dir: t.Dir}.DiagEnd(maxPiece)
		if err != nil {
			text = err.Error()
		}
		add("diag.txt", text)
	}
	add("clock.txt", output(ctx, "w32tm", "/query", "/status"))
}

// end is the end of a file, as much as a piece may have.
func end(name string) (string, error) {
	f, err := os.Open(name) //nolint:gosec // the state folder's
	if err != nil {
		return "", err
	}
	defer f.Close() //nolint:errcheck // only read
	if fi, err := f.Stat(); err == nil && fi.Size() > maxPiece {
		_, _ = f.Seek(-maxPiece, io.SeekEnd)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxPiece))
	return string(text), err
}
