package bootstrap

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"

	"azp-bootstrap/bootstrap/access"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/health"
	"azp-bootstrap/bootstrap/journal"
	"azp-bootstrap/bootstrap/retry"
	"azp-bootstrap/bootstrap/secret"
)

func boot(t *testing.T) *Boot {
	log := logrus.New()
	log.SetOutput(io.Discard)
	live := health.NewLive()
	j, err := journal.Open(t.TempDir(), log, live.Set)
	if err != nil {
		t.Fatal(err)
	}
	return &Boot{Options: Options{Log: log, Redactor: &secret.Redactor{}}, journal: j, report: &health.Reporter{Log: log, Live: live}}
}

// wrote changes what the journal says.
func wrote(t *testing.T, b *Boot, change func(*journal.State)) {
	t.Helper()
	if err := b.journal.Update(change); err != nil {
		t.Fatal(err)
	}
}

func TestRetryWaitsOutPassingFaults(t *testing.T) {
	b := boot(t)
	synctest.Test(t, func(t *testing.T) {
		tries, counted := 0, 0
		begin := time.Now()
		err := b.retry(context.Background(), journal.Credential, func() error {
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
	if b.state().LastError == nil || b.state().LastError.Code != "vault" {
		t.Error("the journal does not show what was waited for")
	}
}

func TestAPollThatGoesOnIsTold(t *testing.T) {
	for phase, told := range map[string]bool{journal.Online: true, journal.Draining: false} { // a job is no failure
		for after, told := range map[time.Duration]bool{20 * time.Second: false, 40 * time.Second: told} {
			b := boot(t)
			synctest.Test(t, func(*testing.T) {
				begin := time.Now()
				_ = b.retry(context.Background(), phase, func() error {
					if time.Since(begin) > after {
						return nil
					}
					return fault.New(fault.Service, "not yet").Passing().Retry(time.Second)
				}, func(int) {})
			})
			if e := b.state().LastError; (e != nil) != told {
				t.Errorf("%s, polled for %s: the journal shows %v", phase, after, e)
			}
		}
	}
}

func TestRetryEndsAtLastingFaults(t *testing.T) {
	b := boot(t)
	tries := 0
	err := b.retry(context.Background(), journal.Preflight, func() error {
		tries++
		return fault.New(fault.PAT, "rejected")
	}, func(int) {})
	if tries != 1 || fault.From(err).Class != fault.PAT {
		t.Errorf("%d tries, %v", tries, err)
	}
}

func TestRetryEndsAtTheDeadlineWithTheLastClass(t *testing.T) {
	b := boot(t)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeoutCause(context.Background(), 10*time.Minute, retry.ErrDeadline)
		defer cancel()
		begin := time.Now()
		tries := 0
		err := b.retry(ctx, journal.Discover, func() error {
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
	b := boot(t)
	ctx, cancel := context.WithCancel(context.Background())
	err := b.retry(ctx, journal.Discover, func() error {
		cancel()
		return fault.New(fault.IMDS, "silent").Passing()
	}, func(int) {})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// An agent that falls over and over is brought up ever more slowly; one that stood for long is new to it.
func TestBrakeSlowsDownAnAgentThatFalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := brake{backoff: retry.Slowly()}
		var waits []time.Duration
		for _, stood := range []time.Duration{time.Second, time.Second, time.Second, time.Second, time.Hour, time.Second} {
			f.watched(func(notBefore time.Time) (bool, *notice) {
				begin := time.Now()
				time.Sleep(max(stood, time.Until(notBefore)))
				waits = append(waits, time.Since(begin))
				return true, nil
			})
		}
		if waits[0] != time.Second || waits[1] < 40*time.Second || waits[3] < waits[1] || waits[5] > 90*time.Second {
			t.Errorf("brought up after %v", waits)
		}
		before := f.notBefore
		f.watched(func(time.Time) (bool, *notice) { return false, nil })
		if f.notBefore != before {
			t.Error("a reload counts as a fall")
		}
	})
}

func TestThePATIsDroppedWhileWaiting(t *testing.T) {
	for name, f := range map[string]*fault.Error{
		"Azure DevOps is down":      fault.New(fault.Network, "down").Passing(),
		"Azure DevOps asks to wait": fault.New(fault.Network, "busy").Passing().Retry(7 * time.Second),
	} {
		t.Run(name, func(t *testing.T) {
			b := boot(t)
			pat, err := secret.NewPAT("opaque-token")
			if err != nil {
				t.Fatal(err)
			}
			b.access = access.New(access.Way{Given: pat, Redactor: b.Redactor})
			synctest.Test(t, func(t *testing.T) {
				tries, long, last := 0, 0, time.Now()
				err := b.retry(context.Background(), journal.Preflight, func() error {
					waited := time.Since(last)
					if waited >= retry.Limit {
						long++
					}
					kept := b.access.Holds()
					if want := tries > 0 && (waited < retry.Limit || f.After > 0); kept != want {
						t.Errorf("kept after %s: %t", waited, kept)
					}
					if err := b.access.Fetch(t.Context()); err != nil {
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
