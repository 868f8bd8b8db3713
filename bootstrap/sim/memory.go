package sim

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Memory serves an Azure to VMs of the same process, over connections in memory: nothing leaves the
// process, and in a testing/synctest bubble time is virtual.
type Memory struct {
	sim   *Sim
	ctx   context.Context
	wrap  func(http.Handler) http.Handler
	mu    sync.Mutex
	imds  map[string]*tunnel
	front *tunnel
	proxy *tunnel
}

// ProxyAddress is where Memory's forward proxy is.
const ProxyAddress = "proxy.corp:3128"

// Memory serves until ctx ends. wrap, if not nil, stands before every service.
func (s *Sim) Memory(ctx context.Context, wrap func(http.Handler) http.Handler) *Memory {
	if wrap == nil {
		wrap = func(h http.Handler) http.Handler { return h }
	}
	m := &Memory{sim: s, ctx: ctx, wrap: wrap, imds: map[string]*tunnel{}}
	m.front = m.serve(http.HandlerFunc(s.front))
	m.proxy = m.serve(s.proxy(m.front))
	return m
}

func (m *Memory) serve(h http.Handler) *tunnel {
	t := &tunnel{conns: make(chan net.Conn), done: m.ctx.Done()}
	srv := &http.Server{
		Handler:           m.wrap(h),
		ReadHeaderTimeout: 30 * time.Second,
		BaseContext:       func(net.Listener) context.Context { return m.ctx },
		ErrorLog:          quiet(),
	}
	go func() { _ = srv.Serve(t) }()
	context.AfterFunc(m.ctx, func() { _ = srv.Close() })
	return t
}

// Dial makes a VM's connections. Names that the simulated Azure does not have do not resolve.
func (m *Memory) Dial(vm string) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		here, other := pair()
		there := from{other, vm}
		switch {
		case host == "169.254.169.254":
			m.mu.Lock()
			t := m.imds[vm]
			if t == nil {
				t = m.serve(m.sim.imds(vm))
				m.imds[vm] = t
			}
			m.mu.Unlock()
			t.hand(there)
		case address == ProxyAddress:
			m.proxy.hand(there)
		case m.sim.known(strings.ToLower(address)):
			m.front.hand(tls.Server(there, m.sim.tlsConfig(host)))
		default:
			return nil, &net.OpError{
				Op:  "dial",
				Net: network,
				Err: &net.DNSError{Err: "no such host", Name: host, IsNotFound: true},
			}
		}
		return here, nil
	}
}

// from is a connection of a VM: a request's RemoteAddr names it.
type from struct {
	net.Conn
	vm string
}

func (f from) RemoteAddr() net.Addr { return name(f.vm) }

type name string

func (name) Network() string  { return "memory" }
func (n name) String() string { return string(n) }

// Connected begins or ends the session of the agent of this ID for a VM, for agents that live in
// memory, and reports whether it has one. As there is one session of an agent, a second VM with a
// copy of its credentials gets none; credentials are those of a registration, on behalf of an
// instance, and end with the next.
func (s *Sim) Connected(id int, vm, instance string, yes bool) (has bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range s.servers {
		for _, p := range v.pools {
			for _, a := range p.agents {
				switch {
				case a.id != id || a.session != "" && a.session != vm || a.caps["AZP_BOOTSTRAP_INSTANCE_ID"] != instance:
				case yes:
					a.session, a.listening, a.seen, has = vm, 1, time.Now(), true
				default:
					a.session, a.listening, a.seen = "", 0, time.Now()
					if a.job != nil {
						a.job.session = ""
					}
				}
			}
		}
	}
	return has
}

// VMs are those of the scenario.
func (s *Sim) VMs() []VM {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.scenario.VMs
}
