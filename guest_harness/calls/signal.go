package calls

import (
	"errors"
	"syscall"
	"time"

	"aegis/guest_harness/wire"
	"aegis/guest_harness/yamux"
)

const (
	lastSignal = 64
	longestEnd = 24 * 60 * 60 // seconds
)

func (g *Guest) signal(stream *yamux.Stream, fields *wire.Fields) error {
	found, err := g.deliver(fields)
	if err != nil {
		return err
	}
	return stream.SendLast(wire.Line(wire.Pair{Name: "found", Value: found}))
}

func (g *Guest) deliver(fields *wire.Fields) (bool, error) {
	id := fields.String("id")
	if fields.Has("end") {
		grace := fields.Seconds("end")
		if err := fields.Done(); err != nil {
			return false, err
		}
		return g.commands.End(id, time.Duration(min(grace, longestEnd)*float64(time.Second))), nil
	}
	number := fields.Int("signal")
	if err := fields.Done(); err != nil {
		return false, err
	}
	if number < 0 || number > lastSignal {
		return false, errors.New("no such signal")
	}
	return g.commands.Signal(id, syscall.Signal(number))
}
