//go:build linux

package bootstrap_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"azp-bootstrap/bootstrap"
	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/journal"
	"azp-bootstrap/bootstrap/secret"
	"azp-bootstrap/bootstrap/sim"
)

// withUserData lets IMDS give other user data, as it stands there.
func withUserData(m *machine, text string) {
	m.front(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !strings.HasPrefix(r.URL.Path, "/metadata/instance") {
				next.ServeHTTP(w, r)
				return
			}
			rec := httptest.NewRecorder()
			next.ServeHTTP(rec, r)
			var doc map[string]any
			if err := json.Unmarshal(rec.Body.Bytes(), &doc); err != nil {
				w.WriteHeader(rec.Code)
				return
			}
			doc["compute"].(map[string]any)["userData"] = text
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(doc)
		})
	})
}

// watches lets the daemon run for a while.
func watches(ctx context.Context, o bootstrap.Options, d time.Duration, set ...string) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	o.Once, o.Set = false, append(set, "health.listen=")
	_ = bootstrap.Run(ctx, o)
}

// User data that is refused says nothing of which VM this is: one that is ready leaves when it must, and its agent is brought up.
func TestRefusedUserDataOnAVMThatIsReady(t *testing.T) {
	const remote = "sources.userData=true"
	fewVMs(t, 1, nil, func(ctx context.Context, t *testing.T, all []*machine) {
		m := all[0]
		joins(ctx, t, m)
		withUserData(m, "!!! no base64")
		go func() {
			time.Sleep(30 * time.Second)
			m.azure.Schedule([]string{m.name}, "Terminate", 10*time.Minute)
		}()
		watches(ctx, m.options(time.Minute), 9*time.Minute, remote)
		if s, _, _ := journal.Read(m.state); len(m.azure.Agents()) != 0 || s.Phase != journal.Removed {
			t.Errorf("%v stays; %s, %+v", m.azure.Agents(), s.Phase, s.LastError)
		}
	})
	fewVMs(t, 1, nil, func(ctx context.Context, t *testing.T, all []*machine) {
		m := all[0]
		joins(ctx, t, m)
		m.stop()
		withUserData(m, "!!! no base64")
		seen := make(chan string, 1)
		go func() { time.Sleep(2 * time.Minute); seen <- m.azure.Agents()[0].Status }()
		watches(ctx, m.options(time.Minute), 3*time.Minute, remote)
		if s, _, _ := journal.Read(m.state); <-seen != "online" || s.Phase != journal.Ready {
			t.Errorf("its agent is not online; %s, %+v", s.Phase, s.LastError)
		}
	})
}

// User data may name certificates that are not there, on a VM whose agent a drain had disabled: nothing panics, and it stays ready.
func TestCertificatesThatAreNotThere(t *testing.T) {
	fewVMs(t, 1, nil, func(ctx context.Context, t *testing.T, all []*machine) {
		m := all[0]
		joins(ctx, t, m)
		j, err := journal.Open(m.state, m.options(time.Minute).Log, func(journal.State) {})
		if err == nil {
			err = j.Update(func(s *journal.State) { s.Agent.Drained = true })
		}
		if err != nil {
			t.Fatal(err)
		}
		withUserData(m, base64.StdEncoding.EncodeToString([]byte("azp-bootstrap: {network: {caFile: /nowhere/ca.pem}}")))
		watches(ctx, m.options(time.Minute), 3*time.Minute, "sources.userData=true", "sources.trustRemote=true")
		if s, _, _ := journal.Read(m.state); s.Phase != journal.Ready || s.LastError == nil || s.LastError.Code != "config" {
			t.Errorf("%s, %+v", s.Phase, s.LastError)
		}
	})
}

// A keyless is an agent whose key the server refuses: it ends soon after each start, or runs without a session.
type keyless struct {
	*machine
	ends   bool
	starts int
	up     atomic.Bool
}

func (k *keyless) Running(string) (bool, string) { return k.up.Load(), "in memory" }

func (k *keyless) Remove(context.Context, string) error {
	k.up.Store(false)
	return nil
}

func (k *keyless) Start(context.Context, agent.Service, string) (string, error) {
	k.starts++
	k.up.Store(true)
	if k.ends {
		go func() { time.Sleep(3 * time.Second); k.up.Store(false) }()
	}
	return "", nil
}

// A VM that has found out that another one has its agent does not start it again, neither at the attempt's end nor to leave.
func TestAnAgentThatIsLostIsStartedOnce(t *testing.T) {
	for _, preempted := range []bool{false, true} {
		more := func(s *sim.Scenario) { s.VMs[1].ComputerName = s.VMs[0].ComputerName }
		fewVMs(t, 2, more, func(ctx context.Context, t *testing.T, all []*machine) {
			joins(ctx, t, all[0])
			all[0].stop()
			joins(ctx, t, all[1])
			k := &keyless{machine: all[0], ends: !preempted}
			k.up.Store(true)
			o := all[0].options(5 * time.Minute)
			o.Agent = k
			if preempted {
				go func() {
					time.Sleep(40 * time.Second)
					all[0].azure.Schedule([]string{all[0].name}, "Preempt", 30*time.Second)
				}()
				watches(ctx, o, 50*time.Second) // it would come back: nobody deletes it
			} else {
				_ = bootstrap.Run(ctx, o)
			}
			s, _, _ := journal.Read(all[0].state)
			if k.starts != 1 || preempted && s.Phase != journal.Removed || len(all[0].azure.Agents()) != 1 {
				t.Errorf("preempted %v: started %d times, %s, %v", preempted, k.starts, s.Phase, all[0].azure.Agents())
			}
		})
	}
}

// A keeper keeps what config.sh was given; a PAT that was dropped is so in all its copies.
type keeper struct {
	*machine
	pat secret.PAT
}

func (k *keeper) Configure(
	ctx context.Context, r agent.Registration, pat secret.PAT, redactor *secret.Redactor, line func(string),
) (int, error) {
	k.pat = pat
	return k.machine.Configure(ctx, r, pat, redactor, line)
}

func TestNoPATIsHeldAfterAnAttempt(t *testing.T) {
	fewVMs(t, 1, nil, func(ctx context.Context, t *testing.T, all []*machine) {
		k := &keeper{machine: all[0]}
		o := all[0].options(5 * time.Minute)
		o.Agent = k
		if err := bootstrap.Run(ctx, o); err != nil {
			t.Fatal(err)
		}
		if k.pat.Reveal() != "" {
			t.Error("the PAT is in memory still")
		}
	})
}
