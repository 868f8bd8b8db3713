//go:build linux

package bootstrap_test

import (
	"context"
	"flag"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/sim"
)

var (
	stormed   = flag.String("storm", "1,10,100", "how many VMs boot within the same second, in turn")
	stormDocs = flag.String("storm-docs", "", "let the peers storm as well, and write the page to this `folder`")
)

// The limits are those of the public documentation. What a request costs in Azure DevOps is not
// public: a hundred and fiftieth of a TSTU is assumed, which makes 30,000 requests of the 200 TSTU
// that a user has in five minutes. That it delays answers by up to 30 seconds before it refuses is
// public, from when on is not.
const (
	vaultLimit, vaultWindow   = 4000, 10 * time.Second           // learn.microsoft.com, "Azure Key Vault service limits": secrets GET per vault
	devopsLimit, devopsWindow = 30000, 5 * time.Minute           // learn.microsoft.com, "Rate and usage limits": 200 TSTU in 5 minutes
	delaysFrom, delaysMost    = 0.8, 30 * time.Second            // of the limit; an answer
	configures, starts        = 5 * time.Second, 3 * time.Second // config.sh's own time, the agent's own
	peersMost                 = 5000                             // more than that takes hours: they ask too much
	twinsOf                   = 100                              // one in so many VMs bears the name of another
)

var latency = map[string]time.Duration{
	"IMDS":   5 * time.Millisecond,
	"token":  60 * time.Millisecond,
	"vault":  35 * time.Millisecond,
	"devops": 60 * time.Millisecond,
}

// A limit serves so many requests in each window.
type limit struct {
	most   int
	window time.Duration

	mu     sync.Mutex
	begin  time.Time
	served int
}

// asks counts a request; used is which share of what the window allows was served, over 1 that this
// one is not; left is what remains of the window.
func (l *limit) asks() (used float64, left time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if l.begin.IsZero() {
		l.begin = now
	}
	if n := now.Sub(l.begin) / l.window; n > 0 {
		l.begin, l.served = l.begin.Add(n*l.window), 0
	}
	left = l.begin.Add(l.window).Sub(now)
	if l.served == l.most {
		return 2, left
	}
	l.served++
	return float64(l.served) / float64(l.most), left
}

// A cloud is the latencies and limits that many VMs meet, and what they ask.
type cloud struct {
	vault, devops limit
	begin         time.Time

	mu      sync.Mutex
	asked   map[string]int
	refused int
	delayed int
	each    map[int]int    // requests by second
	by      map[string]int // requests by VM
	told    map[string]int // how often a VM was refused
}

func newCloud() *cloud {
	return &cloud{
		vault:  limit{most: vaultLimit, window: vaultWindow},
		devops: limit{most: devopsLimit, window: devopsWindow},
		begin:  time.Now(),
		asked:  map[string]int{},
		each:   map[int]int{},
		by:     map[string]int{},
		told:   map[string]int{},
	}
}

func (c *cloud) front(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		kind, limited := "devops", &c.devops
		switch host := strings.TrimSuffix(r.Host, ":443"); {
		case host == "169.254.169.254" && strings.HasPrefix(r.URL.Path, "/metadata/identity"):
			kind, limited = "token", nil
		case host == "169.254.169.254":
			kind, limited = "IMDS", nil
		case strings.HasSuffix(host, ".vault.azure.net"):
			kind, limited = "vault", &c.vault
		}
		time.Sleep(latency[kind] / 2)
		c.mu.Lock()
		c.asked[kind]++
		c.by[r.RemoteAddr]++
		c.each[int(time.Since(c.begin)/time.Second)]++
		c.mu.Unlock()
		if limited != nil {
			used, left := limited.asks()
			wish := strconv.Itoa(int(math.Ceil(left.Seconds())))
			if used > 1 {
				c.mu.Lock()
				c.refused++
				c.told[r.RemoteAddr]++
				c.mu.Unlock()
				w.Header().Set("Retry-After", wish)
				w.WriteHeader(http.StatusTooManyRequests)
				return
			}
			if kind == "devops" && used > delaysFrom {
				c.mu.Lock()
				c.delayed++
				c.mu.Unlock()
				delay := time.Duration((used - delaysFrom) / (1 - delaysFrom) * float64(delaysMost))
				w.Header().Set("Retry-After", wish)
				w.Header().Set("X-RateLimit-Delay", strconv.FormatFloat(delay.Seconds(), 'f', 3, 64))
				time.Sleep(delay)
			}
		}
		rec := &recorded{header: http.Header{}, status: http.StatusOK}
		next.ServeHTTP(rec, r)
		time.Sleep(latency[kind] / 2)
		for k, v := range rec.header {
			w.Header()[k] = v
		}
		w.WriteHeader(rec.status)
		_, _ = io.WriteString(w, rec.body.String())
	})
}

// A storm is what was measured.
type storm struct {
	Client           string
	VMs              int
	Ready            int     // of them
	Taken            int     // told that their name is taken
	Agents           int     // that stand on the server, each of a VM of its own
	Half, Most, Last float64 // seconds until 50, 99 and 100 % were ready
	Least            float64 // seconds that the limits allow at best
	Requests         int
	Needed           int // that as many lone VMs would have made
	Refused, Delayed int
	Peak             int // in one second
	Each, Busiest    int // requests of the VM in the middle, and of the one that made most
	Told             int // the most refusals of one VM
	First            float64
	Curve            []float64 `json:",omitempty"` // seconds at which each percent was ready
}

// rage lets n VMs boot within a second.
func rage(t *testing.T, name string, n int) (s storm) {
	dir := quickDir(t)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		defer over(cancel)
		f := newFleet(ctx, t, dir, n, func(s *sim.Scenario) {
			for i := range n / twinsOf {
				s.VMs[n-1-i].ComputerName = s.VMs[i].ComputerName
			}
		})
		c := newCloud()
		f.front(c.front)
		ready := make([]time.Duration, n)
		machines := make([]*machine, n)
		boots := func(m *machine) error {
			err := clients[name](ctx, m)
			m.outdone = err != nil && fault.From(err).Class == fault.Target &&
				strings.Contains(err.Error(), "is taken")
			return err
		}
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() {
				time.Sleep(time.Duration(rand.Int64N(int64(time.Second))))
				m := f.machine(i)
				m.quiet, m.takes, m.starts, m.called = true, configures, starts, f.azure.VMs()[i].ComputerName
				machines[i] = m
				begin := time.Now()
				if boots(m) != nil {
					ready[i] = -1
					return
				}
				ready[i] = time.Since(c.begin)
				if n == 1 {
					ready[i] = time.Since(begin)
				}
			})
		}
		wg.Wait()
		asked, refused, delayed := maps.Clone(c.asked), c.refused, c.delayed
		each, by, told := maps.Clone(c.each), maps.Clone(c.by), maps.Clone(c.told)
		for i := range n / twinsOf { // one that was ready may have been outdone afterwards: asked again, it must say so
			for _, i := range []int{i, n - 1 - i} {
				if m := machines[i]; ready[i] >= 0 && name == "azp-bootstrap" && boots(m) != nil {
					ready[i] = -1
				}
			}
		}
		taken := 0
		for _, m := range machines {
			if m.outdone {
				taken++
			}
		}
		failed := func(d time.Duration) bool { return d < 0 }
		own := slices.DeleteFunc(slices.Clone(ready[n/twinsOf:n-n/twinsOf]), failed) // VMs with a name of their own
		ready = slices.DeleteFunc(ready, failed)
		slices.Sort(own)
		s = storm{
			Client:  name,
			VMs:     n,
			Ready:   len(ready),
			Taken:   taken,
			Agents:  len(f.ofInstances()),
			Refused: refused,
			Delayed: delayed,
		}
		if len(own) > 0 {
			at := func(share float64) float64 {
				i := int(math.Ceil(share*float64(n-2*(n/twinsOf)))) - 1
				if i >= len(own) {
					return math.Inf(1)
				}
				return own[max(i, 0)].Seconds()
			}
			s.First, s.Half, s.Most, s.Last = own[0].Seconds(), at(0.5), at(0.99), at(1)
			for p := 1; p <= 100; p++ {
				if v := at(float64(p) / 100); !math.IsInf(v, 1) {
					s.Curve = append(s.Curve, v)
				}
			}
			if math.IsInf(s.Last, 1) {
				s.Last = -1
			}
			if math.IsInf(s.Most, 1) {
				s.Most = -1
			}
			if math.IsInf(s.Half, 1) {
				s.Half = -1
			}
		}
		for _, k := range asked {
			s.Requests += k
		}
		for _, k := range each {
			s.Peak = max(s.Peak, k)
		}
		for _, k := range told {
			s.Told = max(s.Told, k)
		}
		sorted := slices.Sorted(maps.Values(by))
		s.Each, s.Busiest = sorted[len(sorted)/2], sorted[len(sorted)-1]
	})
	return s
}

// TestStorm boots many VMs within the same second, in virtual time, against the limits of Key Vault
// and Azure DevOps: all must be ready, hardly later than the limits allow, with few requests in
// vain.
func TestStorm(t *testing.T) {
	var all []storm
	for _, name := range []string{"azp-bootstrap", "every 10 s", "plain exponential", "jitter, no wishes"} {
		lone := rage(t, name, 1)
		for _, text := range strings.Split(*stormed, ",") {
			n, err := strconv.Atoi(text)
			if err != nil {
				t.Fatal(err)
			}
			if name != "azp-bootstrap" && (n > 1 && *stormDocs == "" || n > peersMost) {
				continue // they are for the page only
			}
			s := rage(t, name, n)
			s.Needed = lone.Requests * n
			// At best each window is full, and the last VM begins the last that is needed.
			last := func(each int, l int, window time.Duration) float64 {
				return (time.Duration((each*n-1)/l) * window).Seconds()
			}
			s.Least = max(
				lone.Last,
				last(1, vaultLimit, vaultWindow),
				last(lone.Requests-3, devopsLimit, devopsWindow),
			)
			all = append(all, s)
			t.Logf(
				"%-18s %6d VMs: ready %d, name taken %d, agents %d; first %.1f s, 50 %% %.1f s, 99 %% %.1f s, last %.1f s, at best %.1f s (× %.2f); %d requests, %d needed (+ %.0f %%), %d refused, %d delayed, at most %d in a second; a VM makes %d, at most %d, and is refused at most %d times",
				s.Client,
				s.VMs,
				s.Ready,
				s.Taken,
				s.Agents,
				s.First,
				s.Half,
				s.Most,
				s.Last,
				s.Least,
				s.Last/s.Least,
				s.Requests,
				s.Needed,
				100*float64(s.Requests-s.Needed)/float64(s.Needed),
				s.Refused,
				s.Delayed,
				s.Peak,
				s.Each,
				s.Busiest,
				s.Told,
			)
			if name != "azp-bootstrap" {
				continue
			}
			if twins := n / twinsOf; s.Ready != n-twins || s.Taken != twins || s.Agents != s.Ready {
				t.Errorf(
					"%d of %d VMs are ready, with %d agents; of %d whose name another bears, %d say so",
					s.Ready,
					n,
					s.Agents,
					twins,
					s.Taken,
				)
			}
			if s.Last > 1.25*s.Least+1 { // the second in which they begin
				t.Errorf("%d VMs: the last is ready after %.1f s; the limits allow %.1f s", n, s.Last, s.Least)
			}
			if s.Requests > s.Needed*5/4 {
				t.Errorf("%d VMs: %d requests, of which %d were needed", n, s.Requests, s.Needed)
			}
		}
	}
	if *stormDocs != "" {
		if err := writeStorm(*stormDocs, all); err != nil {
			t.Fatal(err)
		}
	}
}
