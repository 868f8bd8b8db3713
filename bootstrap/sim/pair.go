package sim

import (
	"bytes"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// room is how much an end takes before it waits for the other to read.
const room = 64 << 10

// pair is a connection in memory that takes what is written at once, as a socket does. (net.Pipe lets each write wait for its
// read: two ends that say TLS's last word to each other at the same time wait for ever, for the clock of a synctest bubble
// stands still while net/http waits for its mutex.)
func pair() (here, there net.Conn) {
	up, down := newStream(), newStream()
	return &end{in: down, out: up}, &end{in: up, out: down}
}

// A stream is one direction.
type stream struct {
	mu              sync.Mutex
	change          sync.Cond
	held            bytes.Buffer
	ended, gone     bool // by its writer; its reader
	readBy, writeBy deadline
}

type deadline struct {
	at   time.Time
	wake *time.Timer
}

func newStream() *stream {
	s := &stream{}
	s.change.L = &s.mu
	return s
}

func (d deadline) over() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

func (s *stream) set(d *deadline, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d.wake != nil {
		d.wake.Stop()
	}
	*d = deadline{at: at}
	if !at.IsZero() {
		d.wake = time.AfterFunc(time.Until(at), s.stir)
	}
	s.change.Broadcast()
}

func (s *stream) stir() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.change.Broadcast()
}

func (s *stream) read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.gone:
			return 0, io.ErrClosedPipe
		case s.readBy.over():
			return 0, os.ErrDeadlineExceeded
		case s.held.Len() > 0 || len(p) == 0:
			s.change.Broadcast()
			n, _ := s.held.Read(p)
			return n, nil
		case s.ended:
			return 0, io.EOF
		}
		s.change.Wait()
	}
}

func (s *stream) write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.ended, s.gone:
			return 0, io.ErrClosedPipe
		case s.writeBy.over():
			return 0, os.ErrDeadlineExceeded
		case s.held.Len() < room:
			s.change.Broadcast()
			return s.held.Write(p)
		}
		s.change.Wait()
	}
}

func (s *stream) shut(flag *bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	*flag = true
	for _, d := range []*deadline{&s.readBy, &s.writeBy} {
		if d.wake != nil {
			d.wake.Stop()
		}
	}
	s.change.Broadcast()
}

// An end is one side of a pair.
type end struct{ in, out *stream }

func (e *end) Read(p []byte) (int, error)         { return e.in.read(p) }
func (e *end) Write(p []byte) (int, error)        { return e.out.write(p) }
func (e *end) LocalAddr() net.Addr                { return name("pair") }
func (e *end) RemoteAddr() net.Addr               { return name("pair") }
func (e *end) SetReadDeadline(t time.Time) error  { e.in.set(&e.in.readBy, t); return nil }
func (e *end) SetWriteDeadline(t time.Time) error { e.out.set(&e.out.writeBy, t); return nil }

func (e *end) SetDeadline(t time.Time) error {
	_ = e.SetReadDeadline(t)
	return e.SetWriteDeadline(t)
}

func (e *end) Close() error {
	e.out.shut(&e.out.ended)
	e.in.shut(&e.in.gone)
	return nil
}
