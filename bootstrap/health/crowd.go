package health

import (
	"container/list"
	"net"
	"sync"
	"time"
)

// maxConnections bounds what callers hold open at once. patience is what each gets at least to be
// answered in, when more of them wait.
const maxConnections, patience = 512, 500 * time.Millisecond

// A crowd is a listener with a bound, where a newcomer takes the place of the one that has been
// there longest. netutil.LimitListener lets newcomers wait instead: who opens connections and says
// nothing would keep Azure's probe out, and have the VM replaced.
type crowd struct {
	net.Listener
	mu    sync.Mutex
	open  list.List // of *guest, the oldest first
	freed chan struct{}
}

type guest struct {
	net.Conn
	since time.Time
	leave func()
}

func crowded(ln net.Listener) *crowd { return &crowd{Listener: ln, freed: make(chan struct{}, 1)} }

func (c *crowd) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err != nil {
		return nil, err
	}
	for oldest := c.inTheWay(); oldest != nil; oldest = c.inTheWay() {
		select {
		case <-c.freed:
		case <-time.After(patience - time.Since(oldest.since)):
			_ = oldest.Close()
		}
	}
	g := &guest{Conn: conn, since: time.Now()}
	c.mu.Lock()
	defer c.mu.Unlock()
	place := c.open.PushBack(g)
	g.leave = sync.OnceFunc(func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.open.Remove(place)
		select {
		case c.freed <- struct{}{}:
		default:
		}
	})
	return g, nil
}

// inTheWay is who goes next, while there is no place.
func (c *crowd) inTheWay() *guest {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open.Len() < maxConnections {
		return nil
	}
	return c.open.Front().Value.(*guest)
}

func (g *guest) Close() error {
	g.leave()
	return g.Conn.Close()
}
