package calls

import (
	"aegis/guest_harness/lease"
	"aegis/guest_harness/wire"
	"aegis/guest_harness/yamux"
)

// activity says what goes on in the guest, so that it is not put to sleep over it.
func (g *Guest) activity(stream *yamux.Stream, fields *wire.Fields) error {
	if err := fields.Done(); err != nil {
		return err
	}
	return stream.SendLast(wire.Line(
		wire.Pair{Name: "cpu_ms", Value: int(g.commands.Used().Milliseconds())},
		wire.Pair{Name: "connections", Value: int(g.dialled.Load())},
		wire.Pair{Name: "commands", Value: g.commands.Count()},
		wire.Pair{Name: "keepalive", Value: lease.Left().Seconds()},
	))
}
