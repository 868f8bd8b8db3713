package sim

import (
	"net"
	"testing"

	"golang.org/x/net/nettest"
)

func TestPairIsAConnection(t *testing.T) {
	nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
		here, there := pair()
		return here, there, func() { _, _ = here.Close(), there.Close() }, nil
	})
}
