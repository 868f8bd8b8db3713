package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// reachTime is how long a connection to the metadata service may take: it is on the same host.
const reachTime = time.Second

// Reaches looks whether the service user reaches the metadata service, by a connection of its own, outside the agent's
// control group: systemd's second wall is not in its way. Nothing is asked there. why is what a person wants to know.
func (h Home) Reaches(ctx context.Context, endpoint string) (reach Reach, why string) {
	at, ok := addressOf(endpoint)
	if !ok {
		return Unknown, "imds.endpoint is no address"
	}
	u, err := account(h.User)
	if err != nil {
		return Unknown, err.Error()
	}
	uid, _, err := numbers(u.Uid, u.Gid)
	if err != nil {
		return Unknown, err.Error()
	}
	if int(uid) == os.Geteuid() {
		return Open, "the daemon, which needs the metadata service, runs as the jobs' account"
	}
	if _, err := connect(ctx, at.String(), os.Geteuid()); err != nil {
		return Unknown, "the metadata service does not answer the daemon either: " + err.Error()
	}
	peer, err := connect(ctx, at.String(), int(uid))
	switch {
	case errors.Is(err, errNotAs):
		return Unknown, err.Error()
	case err == nil && peer != at.String():
		return Unknown, "Azure's Guest Proxy Agent (" + peer + ") stands before the metadata service: " +
			"its allow list decides, and no wall of ours"
	case err == nil:
		return Open, "a connection of the account " + u.Username + " was taken"
	}
	if _, err := connect(ctx, at.String(), os.Geteuid()); err != nil { // it may have gone away meanwhile
		return Unknown, "the metadata service does not answer the daemon either: " + err.Error()
	}
	return Closed, "a connection of the account " + u.Username + " was refused"
}

var errNotAs = errors.New("no connection can be made as the jobs' account: only root can")

// connect makes a connection that is an account's, and returns whom it reached. The packet filter goes by the
// account that a socket was made as: the thread's fsuid. In nothing else does the thread become that account,
// whose processes could signal it otherwise.
func connect(ctx context.Context, address string, uid int) (peer string, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		before, _ := unix.SetfsuidRetUid(uid)
		defer func() {
			_, _ = unix.SetfsuidRetUid(before)
			if is, _ := unix.SetfsuidRetUid(-1); is == before { // else the thread ends with this function
				runtime.UnlockOSThread()
			}
		}()
		d := net.Dialer{Timeout: reachTime, Control: func(_, _ string, c syscall.RawConn) error { return madeAs(c, uid) }}
		var conn net.Conn
		if conn, err = d.DialContext(ctx, "tcp", address); err != nil {
			return
		}
		peer = conn.RemoteAddr().String()
		_ = conn.Close()
	}()
	<-done
	return peer, err
}

// madeAs makes sure that a socket is an account's.
func madeAs(c syscall.RawConn, uid int) error {
	var st unix.Stat_t
	var err error
	if e := c.Control(func(fd uintptr) { err = unix.Fstat(int(fd), &st) }); e != nil || err != nil {
		return errors.Join(e, err)
	}
	if int(st.Uid) != uid {
		return fmt.Errorf("%w (%d)", errNotAs, st.Uid)
	}
	return nil
}
