package main

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/windows/svc"

	"azp-bootstrap/bootstrap"
	"azp-bootstrap/bootstrap/fault"
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
