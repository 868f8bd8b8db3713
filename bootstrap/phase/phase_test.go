package phase_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"azp-bootstrap/bootstrap/access"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/journal"
	"azp-bootstrap/bootstrap/member/membertest"
	"azp-bootstrap/bootstrap/retry"
	"azp-bootstrap/bootstrap/secret"
)

func TestRetryWaitsOutPassingFaults(t *testing.T) {
	m, r := membertest.New(t)
	synctest.Test(t, func(t *testing.T) {
		tries, counted := 0, 0
		begin := time.Now()
		err := r.Retry(context.Background(), journal.Credential, func() error {
			if tries++; tries < 4 {
				return fault.New(fault.Vault, "busy").Passing().Retry(7 * time.Second)
			}
			return nil
		}, func(n int) { counted = n })
		if err != nil || tries != 4 || counted != 3 {
			t.Errorf("%d tries, %d counted, %v", tries, counted, err)
		}
		if took := time.Since(begin); took < 21*time.Second || took > 25*time.Second {
			t.Errorf("Retry-After of 7 s three times took %s", took)
		}
	})
	if m.State().LastError == nil || m.State().LastError.Code != "vault" {
		t.Error("the journal does not show what was waited for")
	}
}

func TestAPollThatGoesOnIsTold(t *testing.T) {
	for phase, told := range map[string]bool{journal.Online: true, journal.Draining: false} { // a job is no failure
		for after, told := range map[time.Duration]bool{20 * time.Second: false, 40 * time.Second: told} {
			m, r := membertest.New(t)
			synctest.Test(t, func(*testing.T) {
				begin := time.Now()
				_ = r.Retry(context.Background(), phase, func() error {
					if time.Since(begin) > after {
						return nil
					}
					return fault.New(fault.Service, "not yet").Passing().Retry(time.Second)
				}, func(int) {})
			})
			if e := m.State().LastError; (e != nil) != told {
				t.Errorf("%s, polled for %s: the journal shows %v", phase, after, e)
			}
		}
	}
}

func TestRetryEndsAtLastingFaults(t *testing.T) {
	_, r := membertest.New(t)
	tries := 0
	err := r.Retry(context.Background(), journal.Preflight, func() error {
		tries++
		return fault.New(fault.PAT, "rejected")
	}, func(int) {})
	if tries != 1 || fault.From(err).Class != fault.PAT {
		t.Errorf("%d tries, %v", tries, err)
	}
}

func TestRetryEndsAtTheDeadlineWithTheLastClass(t *testing.T) {
	_, r := membertest.New(t)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeoutCause(context.Background(), 10*time.Minute, retry.ErrDeadline)
		defer cancel()
		begin := time.Now()
		tries := 0
		err := r.Retry(ctx, journal.Discover, func() error {
			tries++
			return fault.New(fault.IMDS, "silent").Passing()
		}, func(int) {})
		f := fault.From(err)
		if f.Class != fault.IMDS || f.Message != "gave up at the deadline: silent" {
			t.Errorf("got %v", err)
		}
		if took := time.Since(begin); took > 10*time.Minute+time.Second || took < 8*time.Minute {
			t.Errorf("it took %s", took)
		}
		if tries < 20 || tries > 200 {
			t.Errorf("%d tries in ten minutes", tries)
		}
	})
}

func TestRetryEndsWhenTold(t *testing.T) {
	_, r := membertest.New(t)
	ctx, cancel := context.WithCancel(context.Background())
	err := r.Retry(ctx, journal.Discover, func() error {
		cancel()
		return fault.New(fault.IMDS, "silent").Passing()
	}, func(int) {})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestThePATIsDroppedWhileWaiting(t *testing.T) {
	for name, f := range map[string]*fault.Error{
		"Azure DevOps is down":      fault.New(fault.Network, "down").Passing(),
		"Azure DevOps asks to wait": fault.New(fault.Network, "busy").Passing().Retry(7 * time.Second),
	} {
		t.Run(name, func(t *testing.T) {
			m, r := membertest.New(t)
			pat, err := secret.NewPAT("opaque-token")
			if err != nil {
				t.Fatal(err)
			}
			m.Access = access.New(access.Way{Given: pat, Redactor: m.Redactor})
			r.Drop = m.Access.Drop
			synctest.Test(t, func(t *testing.T) {
				tries, long, last := 0, 0, time.Now()
				err := r.Retry(context.Background(), journal.Preflight, func() error {
					waited := time.Since(last)
					if waited >= retry.Limit {
						long++
					}
					kept := m.Access.Holds()
					if want := tries > 0 && (waited < retry.Limit || f.After > 0); kept != want {
						t.Errorf("kept after %s: %t", waited, kept)
					}
					if err := m.Access.Fetch(t.Context()); err != nil {
						t.Fatal(err)
					}
					last = time.Now()
					if tries++; tries < 30 {
						return f
					}
					return nil
				}, func(int) {})
				if err != nil || long == 0 {
					t.Errorf("%d long waits, %v", long, err)
				}
			})
		})
	}
}
