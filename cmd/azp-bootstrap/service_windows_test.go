package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/windows/svc"

	"azp-bootstrap/bootstrap"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/secret"
)

// TestServiceHandler: the service ends with the daemon and its exit code, and with the manager's word with 0; a
// shutdown is told from a stop.
func TestServiceHandler(t *testing.T) {
	ends := func(err error) func(context.Context) error {
		return func(context.Context) error { return err }
	}
	until := func(ctx context.Context) error {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	for name, c := range map[string]struct {
		run  func(context.Context) error
		told svc.Cmd // 0 = nothing
		code uint32
		err  error
	}{
		"a fault":          {ends(fault.New(fault.State, "x")), 0, uint32(fault.State.Exit), nil},
		"without a reason": {ends(nil), 0, uint32(fault.Internal.Exit), nil},
		"stopped":          {until, svc.Stop, 0, context.Canceled},
		"stopped, well":    {func(ctx context.Context) error { _ = until(ctx); return nil }, svc.Stop, 0, nil},
		"shutdown":         {func(ctx context.Context) error { _ = until(ctx); return nil }, svc.Shutdown, 0, nil},
		"preshutdown":      {until, svc.PreShutdown, 0, bootstrap.ErrShutdown},
	} {
		t.Run(name, func(t *testing.T) {
			asked, state := make(chan svc.ChangeRequest), make(chan svc.Status)
			d := &daemon{run: c.run, log: logrus.New()}
			type end struct {
				own  bool
				code uint32
			}
			ended := make(chan end, 1)
			go func() {
				own, code := d.Execute(nil, asked, state)
				ended <- end{own, code}
			}()
			if s := <-state; s.State != svc.Running || s.Accepts&svc.AcceptPreShutdown == 0 {
				t.Errorf("at first: %+v", s)
			}
			if c.told != 0 {
				asked <- svc.ChangeRequest{Cmd: svc.Interrogate}
				if s := <-state; s.State != svc.Running {
					t.Errorf("asked: %+v", s)
				}
				asked <- svc.ChangeRequest{Cmd: c.told}
				if s := <-state; s.State != svc.StopPending || s.WaitHint == 0 {
					t.Errorf("told: %+v", s)
				}
			}
			select {
			case e := <-ended:
				if !e.own || e.code != c.code || c.err != nil && !errors.Is(d.err, c.err) {
					t.Errorf("%+v, %v", e, d.err)
				}
			case <-time.After(10 * time.Second):
				t.Fatal("it does not end")
			}
		})
	}
}

// events are what an event log was given, by level.
type givenEvents struct{ all []string }

func (g *givenEvents) add(level string, id uint32, text string) error {
	g.all = append(g.all, fmt.Sprintf("%s %d %s", level, id, text))
	return nil
}
func (g *givenEvents) Error(id uint32, text string) error   { return g.add("error", id, text) }
func (g *givenEvents) Warning(id uint32, text string) error { return g.add("warning", id, text) }
func (g *givenEvents) Info(id uint32, text string) error    { return g.add("info", id, text) }

// TestEventsAreRedacted: each entry is an event of its level, without the PAT, on one line and not too long.
func TestEventsAreRedacted(t *testing.T) {
	pat := strings.Repeat("abcdefg2345", 5)[:52]
	a := &app{logLevel: "debug", logFormat: "auto"}
	log, err := a.logger()
	if err != nil {
		t.Fatal(err)
	}
	log.SetOutput(io.Discard)
	var given givenEvents
	log.AddHook(eventHook{&given})
	token, err := secret.NewPAT(pat)
	if err != nil {
		t.Fatal(err)
	}
	a.redactor.Add(token)
	log.WithError(errors.New("refused: " + pat)).Error("the vault's PAT " + pat + "\nis refused")
	log.WithField("name", "web-000001").Warn("slow")
	log.Info(strings.Repeat("x", 40000))
	log.Debug("not for the event log")
	if len(given.all) != 3 {
		t.Fatalf("%d events: %.300q", len(given.all), given.all)
	}
	for i, want := range []string{"error 1 the vault's PAT [redacted] is refused error=\"refused: [redacted]\"", "warning 1 slow name=web-000001"} {
		if given.all[i] != want {
			t.Errorf("%q, want %q", given.all[i], want)
		}
	}
	if n := len(given.all[2]); n > 31100 || !strings.HasPrefix(given.all[2], "info 1 xxx") {
		t.Errorf("%d characters: %.20q", n, given.all[2])
	}
}
