package leave

import (
	"context"
	"errors"
	"os"
)

// ErrNotice is the cause of a context that a notice has ended.
var ErrNotice = errors.New("this VM is about to go")

var errReload = errors.New("the configuration has changed")

// An Ear listens for notices for as long as the daemon lives, whatever else the daemon does.
type Ear struct {
	Heard    chan Notice
	endpoint string // of the IMDS that is listened to; "" = none
	stop     context.CancelFunc
}

// Anew lets the next To listen anew, also at the same endpoint.
func (e *Ear) Anew() {
	e.stop()
	e.endpoint = ""
}

// NewEar listens to nobody yet.
func NewEar() *Ear { return &Ear{Heard: make(chan Notice), stop: func() {}} }

// To listens to listeners from now on, and no more to those of before. Those at the same endpoint
// are listened to already.
func (e *Ear) To(ctx context.Context, endpoint string, listeners ...Listener) {
	if e.endpoint == endpoint {
		return
	}
	e.stop()
	e.endpoint = endpoint
	ctx, e.stop = context.WithCancel(ctx)
	for _, l := range listeners {
		go l.Listen(ctx, e.Heard)
	}
}

// During does something that a notice cuts off; n is that notice, nil if none came. A reload cuts
// it off as well, if the configuration has changed; otherwise it is put back, for whoever asks for
// it next.
func (e *Ear) During(
	ctx context.Context,
	reload chan os.Signal,
	changed func() bool,
	do func(context.Context) error,
) (n *Notice, anew bool, err error) {
	cut, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	over, ended := make(chan struct{}), make(chan struct{})
	var again os.Signal
	go func() {
		defer close(ended)
		for {
			select {
			case heard := <-e.Heard:
				n = &heard
				cancel(ErrNotice)
				return
			case s := <-reload:
				if anew = changed(); anew {
					cancel(errReload)
					return
				}
				again = s
			case <-over:
				return
			}
		}
	}()
	err = do(cut)
	close(over)
	if <-ended; again != nil && !anew {
		select {
		case reload <- again:
		default: // another one came meanwhile
		}
	}
	return n, anew, err
}

// Stop listens no more.
func (e *Ear) Stop() { e.stop() }
