package calls

import (
	"errors"
	"math"
	"sync"
	"syscall"

	"aegis/guest_harness/ports"
	"aegis/guest_harness/wire"
	"aegis/guest_harness/yamux"
)

// connect makes the stream a connection to a port of the guest.
func (g *Guest) connect(stream *yamux.Stream, fields *wire.Fields) error {
	port := parsePort(fields)
	if err := fields.Done(); err != nil {
		return err
	}
	stream.KeepSmall() // there may be hundreds, whose servers do not read
	conn, err := ports.Dial(port, stream.Gone())
	if err != nil {
		return stream.SendLast(wire.Line(
			wire.Pair{Name: "error", Value: err.Error()}, wire.Pair{Name: "refused", Value: err == syscall.ECONNREFUSED},
		))
	}
	gone := g.Connected()
	defer gone()
	if stream.Send(wire.Line(wire.Pair{Name: "connected", Value: true})) != nil {
		conn.Close()
		return nil
	}
	conn.Carry(stream, gone)
	return nil
}

// Connected counts a connection with the outside, until *gone* is called.
func (g *Guest) Connected() (gone func()) {
	g.dialled.Add(1)
	return sync.OnceFunc(func() { g.dialled.Add(-1) })
}

func parsePort(fields *wire.Fields) int {
	port := fields.Int("port")
	if port < 1 || port > math.MaxUint16 {
		fields.Join(errors.New("port must be from 1 to 65535"))
	}
	return int(port)
}
